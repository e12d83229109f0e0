//! A shell in the state of a failed step.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cooper_builder::build::{Error, Event, Request};

use crate::world::{Outcome, Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("debug::same_state", same_state),
    ("debug::hang_up_and_cancel", hang_up_and_cancel),
    ("debug::no_shell", no_shell),
];

fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

/// Types `input` into a terminal of 33 rows and gives all output and the exit code.
fn type_in(socket: &Path, input: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(&frame(0x7e, &[0, 33, 0, 99])).unwrap();
    stream.write_all(&frame(0, input.as_bytes())).unwrap();
    let mut output = Vec::new();
    loop {
        let mut header = [0; 8];
        stream.read_exact(&mut header).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize];
        stream.read_exact(&mut bytes).unwrap();
        match header[0] {
            1 => output.extend_from_slice(&bytes),
            0x7f => {
                let code = String::from_utf8(bytes).unwrap();
                return (String::from_utf8_lossy(&output).into_owned(), code);
            }
            kind => panic!("frame {kind}"),
        }
    }
}

/// Builds with `--debug`; `user` gets the socket when it is offered.
fn build<T: Send + 'static>(
    world: &World,
    dockerfile: &str,
    cancelled: &AtomicBool,
    user: fn(PathBuf) -> T,
) -> (Outcome, Option<T>) {
    let request = Request {
        debug: true,
        ..world.request(dockerfile)
    };
    let offered: Mutex<Option<JoinHandle<T>>> = Mutex::new(None);
    let watch = |event: &Event| {
        if let Event::Debug { socket, .. } = event {
            let socket = socket.clone();
            *offered.lock().unwrap() = Some(std::thread::spawn(move || user(socket)));
        }
    };
    let outcome = world.run_watched(&request, cancelled, &watch);
    let said = offered.into_inner().unwrap().map(|user| user.join().unwrap());
    (outcome, said)
}

fn same_state() {
    let mut world = World::new();
    world.secrets.insert("s".to_owned(), b"token".to_vec());
    world.write("f", "from the context\n");
    let dockerfile = "FROM busybox\nARG A=arg\nENV E=env\nWORKDIR /w\nRUN chown 1000:1001 /w\nUSER user\n\
        RUN --mount=type=secret,id=s,uid=1000,env=T,target=/s --mount=target=/ctx --mount=from=busybox,target=/b,rw --mount=type=cache,target=/c,uid=1000 \
        sh -c 'echo made > half; echo cached > /c/f; exit 9'\n";
    let (outcome, said) = build(&world, dockerfile, &AtomicBool::new(false), |socket| {
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert!(
            socket
                .file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("debug-")
        );
        let script = "stty -echo\necho +$(cat half) $(cat /s) $T $A $E $(pwd) $(id -u) $(cat /ctx/f) $(cat /c/f) $(stty size)+\ntty\necho shell > half2\nexit 5\n";
        let started = Instant::now();
        let said = type_in(&socket, script);
        (said, started.elapsed())
    });
    let ((output, code), took) = said.unwrap();
    assert!(
        output.contains("+made token token arg env /w 1000 from the context cached 33 99+"),
        "{output}"
    );
    assert!(
        output.contains("/dev/pts/0") || output.contains("/dev/console"),
        "{output}"
    );
    assert_eq!(code, "5");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        matches!(outcome.result, Err(Error::Run { code: 9, .. })),
        "{:?}",
        outcome.result
    );
    let at = |wanted: &dyn Fn(&Event) -> bool| outcome.events.iter().position(wanted).unwrap();
    assert!(
        at(&|event| matches!(event, Event::Debug { shell, .. } if shell == "/bin/sh"))
            < at(&|event| matches!(event, Event::Failed { .. }))
    );
    assert_gone(&world);
}

fn assert_gone(world: &World) {
    let left = std::fs::read_dir(world.exec_root().join("build"))
        .unwrap()
        .flatten();
    let sockets: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains("debug-"))
        .collect();
    assert!(sockets.is_empty(), "{sockets:?}");
    world.assert_clean();
}

fn hang_up_and_cancel() {
    let world = World::new();
    let dockerfile = "FROM busybox\nRUN exit 9\n";
    let (outcome, said) = build(&world, dockerfile, &AtomicBool::new(false), |socket| {
        drop(UnixStream::connect(socket).unwrap());
    });
    assert!(
        said.is_some() && matches!(outcome.result, Err(Error::Run { code: 9, .. })),
        "{:?}",
        outcome.result
    );
    // Nobody connects, and the build is cancelled.
    static FLAG: AtomicBool = AtomicBool::new(false);
    let started = Instant::now();
    let (outcome, said) = build(&world, dockerfile, &FLAG, |_| FLAG.store(true, Ordering::Relaxed));
    assert!(said.is_some() && outcome.result.is_err());
    assert!(started.elapsed() < Duration::from_secs(10));
    // Without the option nothing is offered.
    let outcome = world.run(&world.request(dockerfile));
    assert!(
        !outcome
            .events
            .iter()
            .any(|event| matches!(event, Event::Debug { .. }))
    );
    assert_gone(&world);
}

fn no_shell() {
    let world = World::new();
    let dockerfile = "FROM scratch\nCOPY --from=busybox /bin/busybox /tool\nRUN [\"/tool\", \"false\"]\n";
    let (outcome, said) = build(&world, dockerfile, &AtomicBool::new(false), |_| ());
    assert!(said.is_none());
    let warned = outcome.events.iter().any(|event| matches!(event, Event::Warning { text } if text.contains("neither /bin/sh nor /bin/bash nor /bin/busybox")));
    assert!(warned, "{:?}", outcome.events);
    let dockerfile =
        "FROM scratch\nCOPY --from=busybox /bin/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"false\"]\n";
    let (_, said) = build(&world, dockerfile, &AtomicBool::new(false), |socket| {
        type_in(&socket, "exit 0\n").1
    });
    assert_eq!(said.as_deref(), Some("0"));
    assert_gone(&world);
}
