//! Engines that die, and several at once.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::Test;
use crate::world::{Ended, World, eventually, signal};

pub(crate) const TESTS: &[Test] = &[
    ("crash::engine_killed_in_run", engine_killed_in_run),
    ("crash::engine_killed_in_build", engine_killed_in_build),
    (
        "crash::container_survives_its_engine",
        container_survives_its_engine,
    ),
    ("crash::supervisor_killed", supervisor_killed),
    ("crash::engines_side_by_side", engines_side_by_side),
];

/// Whatever instant an engine is killed at, the next one works, and what was acknowledged is there.
fn engine_killed_in_run(world: &World) {
    for millis in (0..60).step_by(4) {
        let mut child = world
            .command(&["run", "-d", "busybox", "sleep", "1000"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        // It may have ended by itself; a zombie takes the signal, too.
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        let ended = Ended::from(child.wait_with_output().unwrap());
        let known = world.ok(&["ps", "-aq", "--no-trunc"]);
        if let Some(id) = ended.stdout.lines().next() {
            assert!(known.contains(id), "{id} was acknowledged and is lost");
        }
        assert_eq!(
            world.ok(&["run", "--rm", "busybox", "echo", "next"]),
            "next",
            "after {millis} ms"
        );
    }
    let known = world.ok(&["ps", "-aq"]);
    let known: Vec<&str> = known.lines().collect();
    if !known.is_empty() {
        world.ok(&[&["rm", "-f"], &known[..]].concat());
    }
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}

fn engine_killed_in_build(world: &World) {
    world.write(
        "context/Dockerfile",
        "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=20\nRUN sleep 0.2\nCOPY . /c\n",
    );
    let context = world.path("context");
    let context = context.to_str().unwrap();
    for millis in [10, 40, 80, 160, 320] {
        let mut child = world
            .command(&["build", "--no-cache", "-t", "killed", context])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        world.ok(&["system", "df"]);
    }
    world.ok(&["build", "-t", "whole", context]);
    assert_eq!(
        world.ok(&["run", "--rm", "whole", "stat", "-c", "%s", "/big"]),
        (20 << 20).to_string()
    );
}

fn container_survives_its_engine(world: &World) {
    let mut child = world
        .command(&[
            "run",
            "--name",
            "alone",
            "busybox",
            "sh",
            "-c",
            "sleep 1; echo done; exit 3",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the start", || {
        world
            .cooper(&["ps", "--format", "{{.Names}}"])
            .stdout
            .contains("alone")
    });
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    assert_eq!(world.ok(&["wait", "alone"]), "3");
    assert_eq!(world.ok(&["logs", "alone"]), "done");
}

/// A supervisor that is killed takes its container along; whoever waits for it hears so at once.
fn supervisor_killed(world: &World) {
    for _ in 0..10 {
        let mut child = world
            .command(&["run", "--rm", "--name", "orphan", "busybox", "sleep", "1000"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = || {
            world
                .cooper(&["inspect", "-f", "{{.State.Pid}}", "orphan"])
                .stdout
        };
        eventually("the start", || {
            pid().trim().parse::<i32>().is_ok_and(|pid| pid > 0)
        });
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid().trim())).unwrap();
        let parent = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap();
        let parent = rustix::process::Pid::from_raw(parent.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(parent, Signal::KILL).unwrap();
        let mut code = None;
        eventually("the end of run", || {
            code = child.try_wait().unwrap();
            code.is_some()
        });
        assert_eq!(code.unwrap().code(), Some(137));
        assert_eq!(world.ok(&["ps", "-aq"]), "");
    }
}

fn engines_side_by_side(world: &World) {
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for round in 0..5 {
                    let text = format!("{worker}.{round}");
                    assert_eq!(world.ok(&["run", "--rm", "busybox", "echo", &text]), text);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                world.ok(&["ps", "-a"]);
                world.ok(&["images"]);
            }
        });
    });
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}
