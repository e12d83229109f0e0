//! Where the files of a build come from: stdin, outside of the context, other directories, other processes.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::Test;
use crate::daemon::Daemon;
use crate::world::{Ended, World, binary, tool};

pub(crate) const TESTS: &[Test] = &[
    ("build_contexts::tar_on_stdin", tar_on_stdin),
    ("build_contexts::dockerfile_on_stdin", dockerfile_on_stdin),
    ("build_contexts::dockerfile_outside", dockerfile_outside),
    ("build_contexts::dockerfile_behind_a_url", dockerfile_behind_a_url),
    ("build_contexts::through_a_daemon", through_a_daemon),
    (
        "build_contexts::strangers_send_their_files",
        strangers_send_their_files,
    ),
    ("build_contexts::hostile_requests", hostile_requests),
];

/// A context with `.dockerignore`, and a Dockerfile that lists what it sees.
const LIST: &str = "FROM busybox\nCOPY . /all\nCMD cd /all && find . -type f | sort\n";

fn context(world: &World) -> String {
    world.write("context/Dockerfile", LIST);
    world.write("context/dir/file", "content\n");
    world.write("context/secret.txt", "hidden\n");
    world.write("context/.dockerignore", "secret.txt\nDockerfile\n.dockerignore\n");
    world.path("context").to_str().unwrap().to_owned()
}

fn run(world: &World, id: &str) -> String {
    world.ok(&["run", "--rm", id.trim()])
}

fn tar_on_stdin(world: &World) {
    context(world);
    let pack = |options: &[&str]| {
        let packed = Command::new("tar")
            .args(options)
            .arg("-C")
            .arg(world.path("context"))
            .args(["-cf", "-", "."])
            .output();
        packed.unwrap().stdout
    };
    for options in [&[][..], &["--gzip"]] {
        let output = world.with_input(&["build", "-q", "-"], &pack(options));
        let ended = Ended::from(output);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert_eq!(run(world, &ended.stdout), "./dir/file");
    }
    let ended = Ended::from(world.with_input(&["build", "-q", "-f", "dir/file", "-"], &pack(&[])));
    assert!(ended.stderr.contains("dir/file:1"), "{ended:?}");
    let cut = pack(&[]);
    let ended = Ended::from(world.with_input(&["build", "-q", "-"], &cut[..cut.len() / 3]));
    assert_eq!(ended.code, 1);
    assert!(
        ended.stderr.contains("failed to read the build context"),
        "{ended:?}"
    );
}

fn dockerfile_on_stdin(world: &World) {
    let context = context(world);
    // With the Dockerfile from elsewhere, the context's own may be ignored.
    let output = world.with_input(&["build", "-q", "-f", "-", &context], LIST.as_bytes());
    assert_eq!(run(world, &String::from_utf8_lossy(&output.stdout)), "./dir/file");
    let ended = Ended::from(world.with_input(&["build", "-f", "-", "-"], b"FROM busybox\n"));
    assert_eq!(ended.code, 125);
    assert!(
        ended.stderr.contains("both the context and the Dockerfile"),
        "{ended:?}"
    );
}

fn dockerfile_outside(world: &World) {
    let context = context(world);
    let outside = world.write("files/Outside", LIST);
    let outside = outside.to_str().unwrap();
    let build = || world.ok(&["build", "-q", "-f", outside, &context]);
    assert_eq!(run(world, &build()), "./dir/file");
    world.write("files/Outside.dockerignore", "dir\n");
    assert_eq!(
        run(world, &build()),
        "./.dockerignore\n./Dockerfile\n./secret.txt"
    );
    world.write("files/Outside", "FROM busybox\nNONSENSE\n");
    let ended = world.cooper(&["build", "-f", outside, &context]);
    assert!(ended.stderr.contains(&format!("{outside}:2")), "{ended:?}");
}

fn dockerfile_behind_a_url(world: &World) {
    let context = context(world);
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/Dockerfile", server.local_addr().unwrap());
    let answers = std::thread::spawn(move || {
        for answer in [
            format!("200 OK\r\nContent-Length: {}\r\n\r\n{LIST}", LIST.len()),
            "404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        ] {
            let (mut stream, _) = server.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(format!("HTTP/1.1 {answer}").as_bytes()).unwrap();
        }
    });
    assert_eq!(
        run(world, &world.ok(&["build", "-q", "-f", &url, &context])),
        "./dir/file"
    );
    let ended = world.cooper(&["build", "-q", "-f", &url, &context]);
    assert!(ended.stderr.contains("404"), "{ended:?}");
    answers.join().unwrap();
}

/// Our command line through a daemon on this machine: the context is named, not sent.
fn through_a_daemon(world: &World) {
    let context = context(world);
    let daemon = Daemon::start(world);
    let door = ask(
        &daemon,
        "GET /cooper/build HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"",
    );
    assert!(door.contains(r#""shares_files":true"#), "{door}");
    let built = world.ok(&["--host", &daemon.host(), "build", "-q", &context]);
    assert_eq!(run(world, &built), "./dir/file");
    daemon.stop();
}

/// A process with another root directory: its paths are not the engine's.
fn strangers_send_their_files(world: &World) {
    let Some(unshare) = tool("unshare") else { return };
    let context = context(world);
    let daemon = Daemon::start(world);
    let outside = world.write("files/Outside", LIST);
    world.write("files/Outside.dockerignore", "secret*\n");
    let build = |arguments: &[&str]| {
        let mut command = Command::new(&unshare);
        command
            .args(["--mount", "--"])
            .arg(binary())
            .args(["--host", &daemon.host(), "build", "-q"]);
        Ended::from(
            command
                .args(arguments)
                .arg(&context)
                .stdin(Stdio::null())
                .output()
                .unwrap(),
        )
    };
    let extra = world
        .write("more/one", "1")
        .parent()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let ended = build(&["--build-context", &format!("extra={extra}")]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(run(world, &ended.stdout), "./dir/file");
    let ended = build(&["-f", outside.to_str().unwrap()]);
    assert_eq!(
        run(world, &ended.stdout),
        "./.dockerignore\n./Dockerfile\n./dir/file",
        "{ended:?}"
    );
    let ended = build(&["--cache-to", "type=local,dest=/tmp/x"]);
    assert!(
        ended
            .stderr
            .contains("cache directory /tmp/x is not on the engine's host"),
        "{ended:?}"
    );
    daemon.stop();
}

/// Sends bytes and reads the whole answer.
fn ask(daemon: &Daemon, head: &str, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    // The engine may answer before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn hostile_requests(world: &World) {
    let daemon = Daemon::start(world);
    let call = |json: &str, rest: &[u8]| {
        let length = u32::try_from(json.len()).unwrap().to_be_bytes();
        let body = [&length[..], json.as_bytes(), rest].concat();
        let head = format!(
            "POST /cooper/build HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        ask(&daemon, &head, &body)
    };
    let dockerfile = "RlJPTSBidXN5Ym94Cg==";
    let part = r#"{"parts": ["context"], "request": {"context": {"directory": "context"}}}"#;
    for (json, rest, part) in [
        ("{", &b""[..], "invalid build request"),
        (r#"{"parts": ["../x"]}"#, b"", "invalid part"),
        (
            r#"{"request": {"context": {"directory": "../../etc"}}}"#,
            b"",
            "neither absolute nor a part",
        ),
        (part, b"", "failed to read the build context"),
        (part, b"\xff\xff\xff\xff", "a chunk of 4294967295 bytes"),
        (part, b"\0\0\0\x04abcd\0\0\0\0", "failed to read entire block"),
        (
            r#"{"request": {"targets": []}}"#,
            b"",
            "failed to read dockerfile",
        ),
    ] {
        let answer = call(json, rest);
        assert!(answer.contains(part), "{json}: {answer}");
    }
    let length = "POST /cooper/build HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    let answer = ask(&daemon, length, &u32::MAX.to_be_bytes());
    assert!(answer.contains("at most"), "{answer}");
    let whole = format!(r#"{{"dockerfile": "{dockerfile}", "request": {{"dockerfile_name": "D"}}}}"#);
    let answer = call(&whole, b"");
    assert!(answer.contains(r#"{"result":"#), "{answer}");
    daemon.stop();
}
