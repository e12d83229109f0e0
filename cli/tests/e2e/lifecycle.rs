//! Restart policies and health checks through both command lines, with engines coming and going.

use rustix::process::Signal;

use crate::Test;
use crate::daemon::{Daemon, run};
use crate::world::{World, eventually, signal, tool};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::without_any_engine", without_any_engine),
    ("lifecycle::docker", docker),
    ("lifecycle::after_a_reboot", after_a_reboot),
    ("lifecycle::refused", refused),
];

fn inspect(world: &World, id: &str, format: &str) -> String {
    world.ok(&["inspect", "--format", format, id])
}

/// No engine runs between the commands, and the container restarts and gets healthy all the same.
fn without_any_engine(world: &World) {
    let script = "test -e /again || { touch /again; exit 1; }; touch /ok; exec sleep 1000";
    let id = world.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--restart",
        "on-failure:3",
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "50ms",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    eventually("a healthy second run", || {
        inspect(world, &id, "{{.State.Health.Status}}") == "healthy"
    });
    assert_eq!(
        inspect(world, &id, "{{.RestartCount}} {{.State.Status}}"),
        "1 running"
    );
    let listed = world.ok(&[
        "ps",
        "--filter",
        "health=healthy",
        "--format",
        "{{.ID}} {{.Status}}",
    ]);
    assert!(
        listed.starts_with(&id[..12]) && listed.ends_with("(healthy)"),
        "{listed}"
    );
    world.ok(&["stop", "-t", "0", &id]);
    assert_eq!(
        inspect(world, &id, "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
}

fn docker(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let mut daemon = Daemon::start(world);
    let host = daemon.host();
    let ok = |arguments: &[&str]| {
        let ended = run(&docker, &host, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout.trim_end().to_owned()
    };
    let id = ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "--restart",
        "always",
        "--health-cmd",
        "test -e /ok",
        "--health-interval",
        "50ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ]);
    eventually("an unhealthy container", || {
        ok(&["inspect", "--format", "{{.State.Health.Status}}", &id]) == "unhealthy"
    });
    // The engine dies at once; its container is probed and would be restarted all the same.
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    world.ok(&["exec", &id, "touch", "/ok"]);
    eventually("health without an engine", || {
        inspect(world, &id, "{{.State.Health.Status}}") == "healthy"
    });
    world.ok(&["exec", &id, "kill", "1"]);
    world.ok(&["kill", "--signal", "USR1", &id]);
    world.ok(&["rm", "-f", &id]);
    drop(daemon);
}

/// What a reboot leaves: state that says "running", and nobody there. A daemon starts what its policy wants.
fn after_a_reboot(world: &World) {
    let start = |policy: &str| {
        world.ok(&[
            "run",
            "-d",
            "--network",
            "none",
            "--restart",
            policy,
            "busybox",
            "sleep",
            "1000",
        ])
    };
    let (always, stopped, never) = (start("always"), start("unless-stopped"), start("no"));
    world.ok(&["stop", "-t", "0", &stopped]);
    for id in [&always, &never] {
        let pid = inspect(world, id, "{{.State.Pid}}");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap()
            .trim()
            .to_owned();
        let parent = rustix::process::Pid::from_raw(parent.parse().unwrap()).unwrap();
        rustix::process::kill_process(parent, Signal::KILL).unwrap();
        eventually("the end", || {
            !std::path::Path::new(&format!("/proc/{pid}")).exists()
        });
    }
    let daemon = Daemon::start(world);
    eventually("a running container", || {
        inspect(world, &always, "{{.State.Status}}") == "running"
    });
    assert_eq!(inspect(world, &stopped, "{{.State.Status}}"), "exited");
    assert_eq!(
        inspect(world, &never, "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 137"
    );
    signal(&daemon.child, Signal::TERM);
    drop(daemon);
    assert_eq!(inspect(world, &always, "{{.State.Status}}"), "running");
    world.ok(&["rm", "-f", &always, &stopped, &never]);
}

fn refused(world: &World) {
    let check = |flags: &[&str], text: &str| {
        let ended = world.cooper(&[&["create", "--network", "none"], flags, &["busybox"]].concat());
        assert!(
            ended.code == 125 && ended.stderr.contains(text),
            "{flags:?}: {ended:?}"
        );
    };
    check(&["--restart", "sometimes"], "unknown policy 'sometimes'");
    check(&["--restart", "always:3"], "can only be used with 'on-failure'");
    check(&["--restart", "on-failure:-1"], "cannot be negative");
    check(&["--restart", "always", "--rm"], "restart policy");
    check(
        &["--health-cmd", "x", "--health-interval", "1us"],
        "less than 1ms",
    );
    check(
        &["--health-cmd", "x", "--health-timeout", "soon"],
        "expected a time",
    );
}
