//! Attach, logs, terminals: no byte lost, none invented.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use cooper_runner::container::{AttachOptions, Containers, WaitCondition};
use cooper_runner::spec::ContainerSpec;

use crate::world::{ALL, Test, World, demultiplex, read_all};

pub(crate) const TESTS: &[Test] = &[
    ("streams::stdin_half_close", stdin_half_close),
    (
        "streams::stdin_stays_open_without_stdin_once",
        stdin_stays_open_without_stdin_once,
    ),
    ("streams::terminal", terminal),
    ("streams::resize", resize),
    (
        "streams::every_byte_reaches_every_reader",
        every_byte_reaches_every_reader,
    ),
    (
        "streams::slow_reader_holds_the_process_up",
        slow_reader_holds_the_process_up,
    ),
    (
        "streams::a_reader_that_leaves_is_forgotten",
        a_reader_that_leaves_is_forgotten,
    ),
    ("streams::json_log", json_log),
    ("streams::log_rotation", log_rotation),
    ("streams::replay", replay),
    (
        "streams::background_child_keeps_nothing_open",
        background_child_keeps_nothing_open,
    ),
    ("streams::reopen_stdout_as_user", reopen_stdout_as_user),
];

fn with_stdin(spec: &mut ContainerSpec) {
    spec.process.open_stdin = true;
    spec.process.stdin_once = true;
}

fn stdin_half_close() {
    let world = World::new();
    let spec = world.spec_with(&["sh", "-c", "cat; echo end"], with_stdin);
    let input = vec![b'x'; 300_000];
    let run = world.try_run(&spec, &input).unwrap();
    assert_eq!(run.stdout.len(), 300_004);
    assert!(run.stdout.ends_with("xend\n"));
}

fn stdin_stays_open_without_stdin_once() {
    let world = World::new();
    let id = world.create(&world.spec_with(&["head", "-n", "2"], |spec| spec.process.open_stdin = true));
    let mut first = world.containers.attach(&id, ALL).unwrap();
    world.containers.start(&id).unwrap();
    first.write_all(b"one\n").unwrap();
    first.shutdown(Shutdown::Write).unwrap();
    let mut second = world.containers.attach(&id, ALL).unwrap();
    second.write_all(b"two\n").unwrap();
    assert!(demultiplex(&mut first).0.ends_with("two\n"));
}

fn terminal() {
    let world = World::new();
    let script = "tty; stty size; ls /dev/pts; echo to console > /dev/console; read x; echo got $x";
    let spec = world.spec_with(&["sh", "-c", script], |spec| {
        spec.process.tty = true;
        spec.process.open_stdin = true;
        spec.process.console_size = Some((33, 77));
    });
    let run = world.try_run(&spec, b"hello\n").unwrap();
    assert_eq!(run.code, 0);
    // The echo of the input may come anywhere before its line is read.
    let output = run.stdout.replacen("hello\r\n", "", 1);
    assert_eq!(
        output,
        "/dev/pts/0\r\n33 77\r\n0     ptmx\r\nto console\r\ngot hello\r\n"
    );
}

fn resize() {
    let world = World::new();
    let script = "trap 'stty size; exit' WINCH; echo waiting; while :; do sleep 0.02; done";
    let id = world.create(&world.spec_with(&["sh", "-c", script], |spec| spec.process.tty = true));
    let mut stream = world.containers.attach(&id, ALL).unwrap();
    world.containers.start(&id).unwrap();
    let mut seen = String::new();
    while !seen.contains("waiting") {
        let mut chunk = [0; 64];
        let read = stream.read(&mut chunk).unwrap();
        seen.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
    }
    world.containers.resize(&id, 12, 34).unwrap();
    assert!(read_all(&mut stream).contains("12 34"));
}

fn every_byte_reaches_every_reader() {
    let world = World::new();
    let script = "i=0; while [ $i -lt 64 ]; do head -c 65536 /dev/zero | tr '\\0' a; i=$((i+1)); done";
    let id = world.create(&world.spec_with(&["sh", "-c", script], |spec| spec.log.enabled = false));
    let streams: Vec<_> = (0..3)
        .map(|_| world.containers.attach(&id, ALL).unwrap())
        .collect();
    world.containers.start(&id).unwrap();
    let readers: Vec<_> = streams
        .into_iter()
        .map(|mut stream| std::thread::spawn(move || demultiplex(&mut stream).0.len()))
        .collect();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 64 * 65536);
    }
}

fn slow_reader_holds_the_process_up() {
    let world = World::new();
    let script = "head -c 4000000 /dev/zero; echo done > /done";
    let spec = world.spec_with(&["sh", "-c", script], |spec| spec.log.enabled = false);
    let id = world.create(&spec);
    let mut stream = world.containers.attach(&id, ALL).unwrap();
    world.containers.start(&id).unwrap();
    let wait = world
        .containers
        .wait_begin(&id, WaitCondition::NotRunning)
        .unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(wait.finish().unwrap().code));
    // The process cannot end while nobody reads.
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err());
    assert!(!spec.rootfs.upper.join("done").exists());
    assert_eq!(demultiplex(&mut stream).0.len(), 4_000_000);
    assert_eq!(told.recv().unwrap(), 0);
}

fn a_reader_that_leaves_is_forgotten() {
    let world = World::new();
    let id = world.create(&world.spec(&["sh", "-c", "head -c 4000000 /dev/zero; exit 3"]));
    let stream = world.containers.attach(&id, ALL).unwrap();
    let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
    world.containers.start(&id).unwrap();
    drop(stream);
    assert_eq!(wait.finish().unwrap().code, 3);
}

fn log_lines(containers: &Containers, id: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(containers.log_path(id)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn json_log() {
    let world = World::new();
    let spec = world.spec(&["sh", "-c", "echo a; echo b >&2; printf c; printf '\\377' "]);
    world.run(&spec);
    let mut lines: Vec<(String, String)> = log_lines(&world.containers, &spec.id)
        .iter()
        .map(|line| {
            (
                line["stream"].as_str().unwrap().into(),
                line["log"].as_str().unwrap().into(),
            )
        })
        .collect();
    lines.sort();
    let expected = [("stderr", "b\n"), ("stdout", "a\n"), ("stdout", "c\u{fffd}")];
    assert_eq!(lines, expected.map(|(stream, log)| (stream.into(), log.into())));
}

fn log_rotation() {
    let world = World::new();
    let spec = world.spec_with(&["seq", "1", "1000"], |spec| {
        spec.log.max_size = 4096;
        spec.log.max_files = 3;
    });
    world.run(&spec);
    let dir = world.containers.dir(&spec.id);
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("json.log"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    assert_eq!(
        log_lines(&world.containers, &spec.id).last().unwrap()["log"],
        "1000\n"
    );
}

fn replay() {
    let world = World::new();
    let spec = world.spec_with(
        &["sh", "-c", "seq 1 500; echo mark; read x; seq 501 1000"],
        |spec| {
            with_stdin(spec);
            spec.log.max_size = 16384;
            spec.log.max_files = 10;
        },
    );
    let id = world.create(&spec);
    let mut first = world.containers.attach(&id, ALL).unwrap();
    world.containers.start(&id).unwrap();
    let mut seen = Vec::new();
    while !seen.windows(4).any(|window| window == b"mark") {
        let mut chunk = [0; 4096];
        let read = first.read(&mut chunk).unwrap();
        seen.extend_from_slice(&chunk[..read]);
    }
    let options = AttachOptions {
        stdin: false,
        stdout: true,
        stderr: true,
        logs: true,
    };
    let mut late = world.containers.attach(&id, options).unwrap();
    first.write_all(b"go\n").unwrap();
    let expected: Vec<String> = (1..=500).chain(501..=1000).map(|n| n.to_string()).collect();
    let got = demultiplex(&mut late).0;
    let got: Vec<&str> = got.lines().filter(|line| *line != "mark").collect();
    assert_eq!(got, expected);
}

fn background_child_keeps_nothing_open() {
    let world = World::new();
    let begun = std::time::Instant::now();
    assert_eq!(world.sh("sleep 100 & exit 2").code, 2);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

fn reopen_stdout_as_user() {
    let world = World::new();
    let spec = world.spec_with(
        &["sh", "-c", "echo x > /dev/stdout; echo y > /dev/stderr"],
        |spec| {
            spec.process.user = "user".into();
        },
    );
    let run = world.run(&spec);
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("x\n", "y\n"));
}
