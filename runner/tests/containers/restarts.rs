//! Restart policies and health checks: what the supervisor does on its own. Followed through the event log.

use std::time::Duration;

use cooper_runner::container::{Error, HealthStatus, Status, WaitCondition};
use cooper_runner::events::Follower;
use cooper_runner::spec::{HealthCheck, Restart, RestartPolicy};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("restarts::on_failure", on_failure),
    ("restarts::always_until_stopped", always_until_stopped),
    ("restarts::stopped_in_a_pause", stopped_in_a_pause),
    ("restarts::removed_in_a_pause", removed_in_a_pause),
    ("restarts::a_second_start_that_fails", a_second_start_that_fails),
    ("restarts::healthy_and_back", healthy_and_back),
    ("restarts::slow_probes_are_killed", slow_probes_are_killed),
    ("restarts::probes_that_cannot_start", probes_that_cannot_start),
    ("restarts::on_unhealthy", on_unhealthy),
];

/// Reads events of one container until `last` was seen `times` times; gives all actions.
fn until(follower: &mut Follower, id: &str, last: &str, times: usize) -> Vec<String> {
    let (stop, _open) = std::io::pipe().unwrap();
    let mut seen: Vec<String> = Vec::new();
    while seen.iter().filter(|action| *action == last).count() < times {
        assert!(follower.wait(&stop).unwrap());
        let events = follower
            .read_new()
            .unwrap()
            .into_iter()
            .filter(|event| event.id == id);
        seen.extend(events.map(|event| event.action));
    }
    seen
}

fn restart(when: Restart, max_retries: u32) -> RestartPolicy {
    RestartPolicy { when, max_retries }
}

fn on_failure() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let spec = world.spec_with(&["sh", "-c", "echo x; exit 3"], |spec| {
        spec.restart = restart(Restart::OnFailure, 2);
    });
    let id = world.create(&spec);
    world.containers.start(&id).unwrap();
    let seen = until(&mut follower, &id, "die", 3);
    assert_eq!(seen, ["create", "start", "die", "start", "die", "start", "die"]);
    world.containers.wait(&id, WaitCondition::NotRunning).unwrap();
    let state = world.containers.state(&id).unwrap();
    assert_eq!(
        (state.status, state.exit_code, state.restart_count),
        (Status::Exited, 3, 2)
    );
    let log = std::fs::read_to_string(world.containers.log_path(&id)).unwrap();
    assert_eq!(log.lines().count(), 3, "{log}");
    // Another start by hand begins to count anew.
    world.containers.start(&id).unwrap();
    until(&mut follower, &id, "die", 3);
    world.containers.wait(&id, WaitCondition::NotRunning).unwrap();
    assert_eq!(world.containers.state(&id).unwrap().restart_count, 2);
}

fn always_until_stopped() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    // Ends at once the first time, and stays the second time.
    let script = "test -e /again || { touch /again; exit 0; }; trap 'exit 7' TERM; sleep 1000 & wait";
    let spec = world.spec_with(&["sh", "-c", script], |spec| {
        spec.restart = restart(Restart::Always, 0);
    });
    let id = world.create(&spec);
    let first = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
    world.containers.start(&id).unwrap();
    assert_eq!(first.finish().unwrap().code, 0);
    until(&mut follower, &id, "start", 2);
    world.containers.stop(&id, None, Some(60)).unwrap();
    let state = world.containers.state(&id).unwrap();
    assert_eq!((state.status, state.restart_count), (Status::Exited, 1));
    assert!(state.stopped_by_hand);
}

/// Fails until its pauses are long, and leaves it in one.
fn in_a_pause(world: &World) -> String {
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let spec = world.spec_with(&["false"], |spec| spec.restart = restart(Restart::Always, 0));
    let id = world.create(&spec);
    world.containers.start(&id).unwrap();
    until(&mut follower, &id, "die", 5);
    // The state is written after the event; the pause is more than a second long.
    while world.containers.state(&id).unwrap().restart_count < 5 {
        std::thread::yield_now();
    }
    assert_eq!(world.containers.state(&id).unwrap().status, Status::Restarting);
    id
}

fn stopped_in_a_pause() {
    let world = World::new();
    let id = in_a_pause(&world);
    assert!(matches!(world.containers.start(&id), Err(Error::State { state, .. }) if state == "restarting"));
    assert!(matches!(world.containers.pause(&id), Err(Error::State { .. })));
    world.containers.stop(&id, None, Some(60)).unwrap();
    let state = world.containers.state(&id).unwrap();
    assert_eq!(
        (state.status, state.exit_code, state.stopped_by_hand),
        (Status::Exited, 1, true)
    );
    world.containers.remove(&id, false).unwrap();
}

fn removed_in_a_pause() {
    let world = World::new();
    let id = in_a_pause(&world);
    assert!(matches!(
        world.containers.remove(&id, false),
        Err(Error::State { .. })
    ));
    world.containers.remove(&id, true).unwrap();
    assert!(!world.containers.dir(&id).exists());
}

fn a_second_start_that_fails() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let script = "rm /program; exit 1";
    let spec = world.spec_with(&["/program"], |spec| spec.restart = restart(Restart::Always, 0));
    let id = world.create(&spec);
    let program = spec.rootfs.upper.join("program");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.containers.start(&id).unwrap();
    until(&mut follower, &id, "die", 1);
    while world.containers.state(&id).unwrap().is_running() {
        std::thread::yield_now();
    }
    let state = world.containers.state(&id).unwrap();
    assert_eq!((state.status, state.exit_code), (Status::Exited, 127));
    assert!(state.error.contains("/program"), "{}", state.error);
}

fn check(script: &str) -> HealthCheck {
    HealthCheck {
        args: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(60),
        start_period: Duration::ZERO,
        start_interval: Duration::from_millis(50),
        retries: 2,
    }
}

fn healthy_and_back() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let id = world.background_with("touch /ok", |spec| {
        spec.health = Some(check("echo probed; echo $VARIABLE >&2; test -e /ok"));
        spec.process.env.push("VARIABLE=value".to_owned());
    });
    until(&mut follower, &id, "health_status: healthy", 1);
    let health = world.containers.health(&id).unwrap().unwrap();
    assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
    assert_eq!(health.log[0].output, "probed\nvalue\n");
    let upper = world.containers.spec(&id).unwrap().rootfs.upper;
    let exec = |command: &[&str]| {
        world
            .exec(&id, &crate::world::process(command), b"")
            .unwrap()
            .code
    };
    assert_eq!(exec(&["rm", "/ok"]), 0);
    until(&mut follower, &id, "health_status: unhealthy", 1);
    assert!(!upper.join("ok").exists());
    let health = world.containers.health(&id).unwrap().unwrap();
    assert!(health.failing_streak >= 2 && health.log.len() <= 5);
    assert_eq!(exec(&["touch", "/ok"]), 0);
    until(&mut follower, &id, "health_status: healthy", 1);
    // A frozen container is not probed and keeps its verdict.
    world.containers.pause(&id).unwrap();
    let before = world.containers.health(&id).unwrap().unwrap();
    world.containers.unpause(&id).unwrap();
    assert_eq!(before.status, HealthStatus::Healthy);
}

fn slow_probes_are_killed() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let id = world.background_with("", |spec| {
        spec.health = Some(HealthCheck {
            timeout: Duration::from_millis(100),
            ..check("echo begun; sleep 1000")
        });
    });
    until(&mut follower, &id, "health_status: unhealthy", 1);
    let health = world.containers.health(&id).unwrap().unwrap();
    let last = health.log.last().unwrap();
    assert_eq!(last.exit_code, -1);
    assert!(
        last.output.contains("exceeded timeout") && last.output.contains("begun"),
        "{last:?}"
    );
}

fn probes_that_cannot_start() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let id = world.background_with("", |spec| {
        spec.health = Some(HealthCheck {
            args: vec!["/nope".to_owned()],
            ..check("")
        });
    });
    until(&mut follower, &id, "health_status: unhealthy", 1);
    let health = world.containers.health(&id).unwrap().unwrap();
    assert!(
        health.log[0].exit_code == -1 && health.log[0].output.contains("/nope"),
        "{health:?}"
    );
}

fn on_unhealthy() {
    let world = World::new();
    let (_, mut follower) = world.containers.events().follow().unwrap();
    let script = "test -e /again && touch /ok; touch /again; trap 'exit 9' TERM; sleep 1000 & wait";
    let spec = world.spec_with(&["sh", "-c", script], |spec| {
        spec.restart = restart(Restart::OnUnhealthy, 3);
        spec.health = Some(check("test -e /ok"));
    });
    let id = world.create(&spec);
    world.containers.start(&id).unwrap();
    let seen = until(&mut follower, &id, "health_status: healthy", 1);
    let expected = [
        "create",
        "start",
        "health_status: unhealthy",
        "die",
        "start",
        "health_status: healthy",
    ];
    assert_eq!(seen, expected);
    assert_eq!(world.containers.state(&id).unwrap().restart_count, 1);
}
