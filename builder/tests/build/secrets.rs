//! Secrets and SSH agents.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use cooper_builder::build::Event;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("secrets::files_and_variables", files_and_variables),
    ("secrets::missing", missing),
    ("secrets::nowhere", nowhere),
    ("secrets::agents", agents),
];

fn world() -> World {
    let mut world = World::new();
    world.secrets.insert("s".to_owned(), b"hunter2-SECRET".to_vec());
    world.secrets.insert("dir/name".to_owned(), b"other".to_vec());
    world.secrets.insert("bytes".to_owned(), b"\xff\0".to_vec());
    world
        .secrets
        .insert("large".to_owned(), vec![b'x'; (500 << 10) + 1]);
    world
}

fn files_and_variables() {
    let world = world();
    for (mount, command, expected) in [
        (
            "id=s",
            "stat -c '%a %u:%g' /run/secrets/s; cat /run/secrets/s",
            "400 0:0\nhunter2-SECRET",
        ),
        ("id=dir/name", "cat /run/secrets/name", "other"),
        ("source=s", "cat /run/secrets/s", "hunter2-SECRET"),
        ("target=/x/s", "cat /x/s", "hunter2-SECRET"),
        ("id=s,target=rel", "cat /w/rel", "hunter2-SECRET"),
        (
            "id=s,mode=0444,uid=7,gid=8",
            "stat -c '%a %u:%g' /run/secrets/s",
            "444 7:8\n",
        ),
        ("id=s,uid=7", "stat -c '%a %u:%g' /run/secrets/s", "400 7:0\n"),
        (
            "id=s,env=TOKEN",
            "sh -c 'echo $TOKEN; ls /run 2>/dev/null; true'",
            "hunter2-SECRET\n",
        ),
        (
            "id=s,env=TOKEN,target=/t",
            "sh -c 'echo $TOKEN; cat /t'",
            "hunter2-SECRET\nhunter2-SECRET",
        ),
        (
            "id=s,required",
            "sh -c 'echo > /run/secrets/s || echo ro' 2>/dev/null",
            "ro\n",
        ),
        (
            "id=bytes",
            "busybox wc -c /run/secrets/bytes",
            "2 /run/secrets/bytes\n",
        ),
        (
            "id=s",
            "grep -c 'run/secrets/s ro,.*tmpfs' /proc/self/mountinfo",
            "1\n",
        ),
    ] {
        let (_, outcome) = world.build(&format!(
            "FROM busybox\nWORKDIR /w\nRUN --mount=type=secret,{mount} {command}\n"
        ));
        assert_eq!(outcome.output(), expected, "{mount} {command}");
    }
    world.assert_clean();
}

fn missing() {
    let world = world();
    let (image, outcome) = world.build("FROM busybox\nRUN --mount=type=secret,id=no,env=NO --mount=type=secret,id=no echo ${NO-unset} $(ls /run 2>/dev/null)\n");
    assert_eq!(outcome.output(), "unset\n");
    assert_eq!(world.layer(&image, 0), Vec::<String>::new());
    for (mount, message) in [
        ("type=secret,id=no,required", "secret no: not found"),
        ("type=secret,id=no,required=true", "secret no: not found"),
        ("type=secret,id=large", "secret large: larger than 512000 bytes"),
        (
            "type=secret,id=bytes,env=B",
            "secret bytes: is not text and cannot be a variable",
        ),
        ("type=secret,id=s,env=A=B", "is no name of a variable"),
        ("type=ssh,required", "unset ssh forward key default"),
    ] {
        let error = world
            .run(&world.request(&format!("FROM busybox\nRUN --mount={mount} true\n")))
            .error();
        assert!(
            error.contains(message) && error.contains("Dockerfile:2:"),
            "{mount}: {error}"
        );
    }
    world.assert_clean();
}

/// The bytes are in no file of the store or of the run-time directory, and in no event, while the step runs and after.
fn nowhere() {
    let world = world();
    let command = "sh -c 'test ${#T} = 14 && cp /run/secrets/s /dev/null && echo ready && test ! -e /nosuch; exit $CODE'";
    let mounts = "--mount=type=secret,id=s --mount=type=secret,id=s,env=T --mount=type=cache,target=/c";
    for code in [0, 3] {
        let request = world.request(&format!(
            "FROM busybox\nARG CODE={code}\nRUN {mounts} {command}\n"
        ));
        let seen = |event: &Event| {
            if matches!(event, Event::Output { .. }) {
                search(world.dir.path(), b"hunter2-SECRET");
            }
        };
        let outcome = world.run_watched(&request, &std::sync::atomic::AtomicBool::new(false), &seen);
        assert_eq!(outcome.result.is_ok(), code == 0, "{:?}", outcome.result);
        assert!(outcome.output().contains("ready"));
        let told = format!("{:?}", outcome.events);
        assert!(!told.contains("hunter2"), "{told}");
        if code != 0 {
            assert!(!outcome.error().contains("SECRET"));
        }
        search(world.dir.path(), b"hunter2-SECRET");
    }
    world.assert_clean();
}

/// Fails if a file at or below `dir` has the bytes.
fn search(dir: &Path, needle: &[u8]) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else {
            continue;
        };
        if kind.is_dir() {
            search(&path, needle);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!found, "{}", path.display());
        }
    }
}

fn agents() {
    let mut world = world();
    let socket = world.dir.path().join("agent.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    world.agents.insert("default".to_owned(), socket.clone());
    world.agents.insert("other".to_owned(), socket);
    for (flags, expected) in [
        ("--mount=type=ssh", "/run/buildkit/ssh_agent.0 600 0:0\n"),
        (
            "--mount=type=ssh,id=other,uid=1000,gid=5,mode=0660",
            "/run/buildkit/ssh_agent.0 660 1000:5\n",
        ),
        (
            "--mount=type=ssh,target=/agent --mount=type=ssh",
            "/agent 600 0:0\n",
        ),
        (
            "--mount=type=ssh,target=/agent --mount=type=ssh,required",
            "/agent 600 0:0\n",
        ),
    ] {
        let command =
            "sh -c 'test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK $(stat -c \"%a %u:%g\" $SSH_AUTH_SOCK)'";
        let (image, outcome) = world.build(&format!("FROM busybox\nRUN {flags} {command}\n"));
        assert_eq!(outcome.output(), expected, "{flags}");
        assert_eq!(world.layer(&image, 0), Vec::<String>::new(), "{flags}");
    }
    // Bytes go both ways; the step's side is the socket below the run-time directory.
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 4];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"key!").unwrap();
        question
    });
    let talked = std::sync::Mutex::new(None);
    let talk = |event: &Event| {
        if matches!(event, Event::Output { .. }) {
            let build = world.exec_root().join("build");
            let dir = fs::read_dir(&build)
                .unwrap()
                .flatten()
                .find(|entry| entry.file_name().to_string_lossy().starts_with("agent-"));
            let path = dir.unwrap().path().join("socket");
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            stream.write_all(b"ask?").unwrap();
            let mut reply = [0; 4];
            stream.read_exact(&mut reply).unwrap();
            *talked.lock().unwrap() = Some(reply);
        }
    };
    let request = world.request("FROM busybox\nRUN --mount=type=ssh echo once\n");
    let outcome = world.run_watched(&request, &std::sync::atomic::AtomicBool::new(false), &talk);
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
    assert_eq!(*talked.lock().unwrap(), Some(*b"key!"));
    assert_eq!(answer.join().unwrap(), *b"ask?");
    // An agent that is gone is the program's to notice, not ours.
    world.build("FROM busybox\nRUN --mount=type=ssh true\n");
    let left = fs::read_dir(world.exec_root().join("build")).unwrap().flatten();
    assert_eq!(
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with("agent-"))
            .count(),
        0
    );
    world.assert_clean();
}
