//! How a build goes and ends: signals, clients that hang up, watching, files that are written, secrets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Test;
use crate::daemon::{Daemon, serve_registry};
use crate::world::{World, eventually, signal};

pub(crate) const TESTS: &[Test] = &[
    ("build_course::ctrl_c", ctrl_c),
    ("build_course::clients_that_hang_up", clients_that_hang_up),
    ("build_course::cancelled_by_id", cancelled_by_id),
    ("build_course::watch", watch),
    ("build_course::watch_and_run", watch_and_run),
    ("build_course::files", files),
    ("build_course::wrong_secrets", wrong_secrets),
    ("build_course::questions", questions),
    ("build_course::pushed", pushed),
];

/// A context with a RUN that only ends when it is killed, and the command line by which its process is known.
fn endless(world: &World) -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let seconds = format!(
        "1{:06}.{}",
        std::process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let dockerfile = format!("FROM busybox\nRUN echo begun && sleep {seconds}\n");
    world.write("context/Dockerfile", &dockerfile);
    (
        world.path("context").to_str().unwrap().to_owned(),
        format!("sleep\0{seconds}\0"),
    )
}

fn is_running(command: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line == command.as_bytes())
}

/// The time until no such process is left; it must be short.
fn ends_soon(command: &str) {
    let begun = Instant::now();
    eventually("the step's process ends", || !is_running(command));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "it took {took:?}");
}

/// Lines of a child's stderr, as they come.
fn lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            // Nobody receives once the test has seen enough.
            let _ = send.send(line);
        }
    });
    receive
}

fn wait_for(lines: &mpsc::Receiver<String>, part: &str) {
    let mut seen = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(30)) {
            Ok(line) if line.contains(part) => return,
            Ok(line) => seen.push(line),
            Err(error) => panic!("`{part}`: {error} after {seen:#?}"),
        }
    }
}

fn start(world: &World, arguments: &[&str]) -> (Child, mpsc::Receiver<String>) {
    let mut command = world.command(arguments);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines(&mut child);
    (child, lines)
}

fn ctrl_c(world: &World) {
    let (context, sleep) = endless(world);
    let daemon = Daemon::start(world);
    for door in [&[][..], &["--host", &daemon.host()]] {
        let (mut child, lines) = start(
            world,
            &[door, &["build", "--progress", "plain", &context]].concat(),
        );
        wait_for(&lines, "begun");
        eventually("the step runs", || is_running(&sleep));
        signal(&child, Signal::INT);
        ends_soon(&sleep);
        assert_eq!(child.wait().unwrap().code(), Some(130), "{door:?}");
    }
    daemon.stop();
}

fn clients_that_hang_up(world: &World) {
    let (context, sleep) = endless(world);
    let daemon = Daemon::start(world);
    let json = format!(r#"{{"request": {{"network": "host", "context": {{"directory": "{context}"}}}}}}"#);
    let mut body = u32::try_from(json.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(json.as_bytes());
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(world.path("context/Dockerfile"), "Dockerfile")
        .unwrap();
    for (path, body) in [
        ("/cooper/build", body),
        ("/build?networkmode=host", tar.into_inner().unwrap()),
    ] {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(&body).unwrap();
        eventually("the step runs", || is_running(&sleep));
        drop(stream);
        ends_soon(&sleep);
    }
    daemon.stop();
}

fn cancelled_by_id(world: &World) {
    let (_, sleep) = endless(world);
    let daemon = Daemon::start(world);
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_path_with_name(world.path("context/Dockerfile"), "Dockerfile")
        .unwrap();
    let body = tar.into_inner().unwrap();
    let mut stream = UnixStream::connect(&daemon.socket).unwrap();
    write!(
        stream,
        "POST /build?buildid=mine HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    stream.write_all(&body).unwrap();
    eventually("the step runs", || is_running(&sleep));
    let cancel = |query: &str| {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        write!(
            stream,
            "POST /build/cancel{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(cancel("").contains("build ID not provided"));
    assert!(cancel("?id=other").starts_with("HTTP/1.1 200"));
    assert!(is_running(&sleep));
    cancel("?id=mine");
    ends_soon(&sleep);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("build cancelled"), "{answer}");
    daemon.stop();
}

fn watch(world: &World) {
    world.write("context/Dockerfile", "FROM busybox\nCOPY file /file\n");
    world.write("context/.dockerignore", "*.log\n");
    world.write("context/file", "one");
    let context = world.path("context");
    let (mut child, lines) = start(
        world,
        &["build", "--watch", "-t", "watched", context.to_str().unwrap()],
    );
    wait_for(&lines, "watching for changes");
    let content = || world.ok(&["run", "--rm", "watched", "cat", "/file"]);
    assert_eq!(content(), "one");
    // An ignored file is not worth a build; the next line is about the one that is.
    world.write("context/ignored.log", "x");
    world.write("context/file", "two");
    assert_eq!(
        lines.recv_timeout(Duration::from_secs(20)).unwrap(),
        "file changed, building again"
    );
    wait_for(&lines, "watching for changes");
    assert_eq!(content(), "two");
    // A mistake does not end it.
    world.write("context/Dockerfile", "FROM busybox\nNONSENSE\n");
    wait_for(&lines, "unknown instruction");
    wait_for(&lines, "watching for changes");
    // A change during a build starts it anew.
    let (_, sleep) = endless(world);
    wait_for(&lines, "begun");
    eventually("the step runs", || is_running(&sleep));
    world.write("context/Dockerfile", "FROM busybox\nRUN echo three > /file\n");
    wait_for(&lines, "Dockerfile changed");
    wait_for(&lines, "watching for changes");
    assert!(!is_running(&sleep));
    assert_eq!(content(), "three");
    signal(&child, Signal::INT);
    assert_eq!(
        child.wait().unwrap().code(),
        Some(0),
        "Ctrl-C is how a watch ends"
    );
    assert_eq!(world.cooper(&["build", "--watch", "-"]).code, 125);
}

fn watch_and_run(world: &World) {
    let dockerfile =
        |word: &str| format!("FROM busybox\nCMD [\"sh\", \"-c\", \"echo {word} >&2; exec sleep 1000\"]\n");
    world.write("context/Dockerfile", &dockerfile("first"));
    let context = world.path("context");
    let arguments = [
        "run",
        "--rm",
        "--name",
        "looped",
        "--stop-timeout",
        "1",
        "--build",
        context.to_str().unwrap(),
        "--watch",
    ];
    let (mut child, lines) = start(world, &arguments);
    wait_for(&lines, "first");
    world.write("context/Dockerfile", "FROM busybox\nRUN false\n");
    wait_for(&lines, "did not complete successfully");
    assert_eq!(
        world.ok(&["ps", "--format", "{{.Names}}"]),
        "looped",
        "the old one goes on"
    );
    world.write("context/Dockerfile", &dockerfile("second"));
    wait_for(&lines, "second");
    world.write("context/Dockerfile", "FROM busybox\nCMD exit 7\n");
    wait_for(&lines, "exited with code 7");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}

fn files(world: &World) {
    world.write(
        "context/Dockerfile",
        "FROM busybox AS a\nRUN true\nFROM busybox AS b\nRUN false\n",
    );
    let (ids, metadata) = (world.path("ids"), world.path("metadata"));
    let context = world.path("context");
    let build = |target: &str| {
        world.cooper(&[
            "build",
            "-q",
            "--target",
            target,
            "-t",
            "named",
            "--iidfile",
            ids.to_str().unwrap(),
            "--metadata-file",
            metadata.to_str().unwrap(),
            context.to_str().unwrap(),
        ])
    };
    assert_eq!(build("b").code, 1);
    assert!(
        !ids.exists() && !metadata.exists(),
        "a build that failed writes nothing"
    );
    let id = build("a").stdout;
    assert_eq!(std::fs::read_to_string(&ids).unwrap(), id.trim());
    let metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(&metadata).unwrap()).unwrap();
    assert_eq!(metadata["containerimage.digest"], id.trim());
    assert_eq!(metadata["image.name"], "docker.io/library/named:latest");
    assert_eq!(metadata["containerimage.descriptor"]["digest"], id.trim());
    assert!(
        metadata["containerimage.config.digest"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert_eq!(
        metadata["buildx.build.ref"].as_str().unwrap().split('/').count(),
        3,
        "{metadata}"
    );
}

fn wrong_secrets(world: &World) {
    world.write("context/Dockerfile", "FROM busybox\n");
    let large = world.path("large");
    std::fs::write(&large, vec![b'x'; 600_000]).unwrap();
    let large = format!("id=a,src={}", large.display());
    let context = world.path("context");
    for (flags, part) in [
        (["--secret", "id=a,src=/no/such/file"], "/no/such/file"),
        (
            ["--secret", "id=a,env=NO_SUCH_VARIABLE"],
            "NO_SUCH_VARIABLE is not set",
        ),
        (["--secret", &large], "longer than"),
        (["--secret", "src=x"], "id is missing"),
        (["--ssh", "default"], "SSH_AUTH_SOCK is not set"),
        (["--ssh", "default=/bin/sh"], "ssh-add"),
    ] {
        let ended = world.cooper(&["build", flags[0], flags[1], context.to_str().unwrap()]);
        assert_eq!(ended.code, 125, "{flags:?}: {ended:?}");
        assert!(ended.stderr.contains(part), "{flags:?}: {ended:?}");
    }
}

/// `--check` and `--call` ask instead of building, with and without a daemon.
fn questions(world: &World) {
    world.write(
        "context/Dockerfile",
        "# app the program\nFROM busybox AS App\n# VERSION which one\nARG VERSION=1\nRUN --mount=type=secret,id=token,required true\n",
    );
    let context = world.path("context");
    let context = context.to_str().unwrap();
    let daemon = Daemon::start(world);
    let host = daemon.host();
    for door in [vec![], vec!["--host", host.as_str()]] {
        let ask = |flags: &[&str]| world.cooper(&[&door, &["build"][..], flags, &[context]].concat());
        for flags in [&["--check"][..], &["--call", "check"]] {
            let found = ask(flags);
            assert_eq!(found.code, 1, "{found:?}");
            assert!(found.stdout.contains("StageNameCasing"), "{found:?}");
        }
        let json = |call: &str| {
            let found = ask(&["--call", call]);
            let value: serde_json::Value = serde_json::from_str(&found.stdout).expect(&found.stderr);
            (found.code, value)
        };
        let (code, check) = json("check,format=json");
        assert_eq!((code, check.get("text")), (1, None), "{check}");
        let warnings = check["warnings"].as_array().unwrap().iter();
        assert!(
            warnings
                .clone()
                .any(|found| found["ruleName"] == "StageNameCasing"),
            "{check}"
        );
        let (code, outline) = json("outline,format=json");
        assert_eq!(code, 0);
        assert_eq!(outline["args"][0]["name"], "VERSION", "{outline}");
        assert_eq!(outline["args"][0]["description"], "which one", "{outline}");
        assert_eq!(outline["secrets"][0]["required"], true, "{outline}");
        let (_, targets) = json("targets,format=json");
        assert_eq!(targets["targets"][0]["base"], "busybox", "{targets}");
        let text = ask(&["--call=targets"]);
        assert!(text.code == 0 && text.stdout.contains("the program"), "{text:?}");
        let text = ask(&["--call=subrequests.describe"]);
        assert!(text.code == 0 && text.stdout.contains("outline"), "{text:?}");
        let wrong = ask(&["--call=outlin"]);
        assert!(
            wrong.code == 125 && wrong.stderr.contains("did you mean `outline`?"),
            "{wrong:?}"
        );
        world.write("context/Other", "FROM busybox\nNONSENSE\n");
        let broken = ask(&["--check", "-f", &format!("{context}/Other")]);
        assert_eq!(broken.code, 1, "{broken:?}");
    }
    // Of a Dockerfile alone, too.
    let mut command = world.command(&["build", "--check", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let text = b"FROM busybox@sha256:0123456789012345678901234567890123456789012345678901234567890123\n";
    child.stdin.take().unwrap().write_all(text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).trim()
        ),
        (Some(0), "Check complete, no warnings found.")
    );
    daemon.stop();
    assert_eq!(
        world.ok(&["images", "-q", "--filter", "dangling=true"]),
        "",
        "nothing was built"
    );
}

/// `--push`, and the options of the image that outputs have.
fn pushed(world: &World) {
    world.write("context/Dockerfile", "FROM busybox\nRUN echo made > /file\n");
    let context = world.path("context");
    let context = context.to_str().unwrap();
    let far = World::new();
    let (_registry, address) = serve_registry(&far);
    let name = format!("{address}/team/app:v1");
    let ended = world.cooper(&["build", "--push", "-t", &name, context]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for line in ["exporting layers", &format!("pushing {name}")] {
        assert!(ended.stderr.contains(line), "{line}: {ended:?}");
    }
    let id = world.ok(&["images", "-q", "--no-trunc", &name]);
    let other = format!("{address}/team/app:v2");
    let output = format!(
        "type=image,name={other},push=true,oci-mediatypes=false,force-compression=true,compression=gzip"
    );
    let ended = world.cooper(&["build", "-q", "-o", &output, context]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_ne!(ended.stdout.trim(), id);
    world.ok(&["rmi", "-f", &name, &other]);
    for name in [&name, &other] {
        assert_eq!(
            world.ok(&["run", "--rm", "--pull", "always", name, "cat", "/file"]),
            "made"
        );
    }
    let refused = world.cooper(&["build", "--push", "-t", "127.0.0.1:1/none/app", context]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("failed to push 127.0.0.1:1/none/app"),
        "{refused:?}"
    );
}
