//! Containers: exit codes, streams, life cycle, settings.

use std::process::Stdio;

use rustix::process::Signal;

use crate::Test;
use crate::world::{World, eventually, signal};

pub(crate) const TESTS: &[Test] = &[
    ("run::exit_codes", exit_codes),
    ("run::streams", streams),
    ("run::large_output_is_complete", large_output_is_complete),
    ("run::life_cycle", life_cycle),
    ("run::exec", exec),
    ("run::settings", settings),
    ("run::binds", binds),
    ("run::signals_are_passed_on", signals_are_passed_on),
    ("run::killed_container_gives_137", killed_container_gives_137),
    ("run::names_are_unique", names_are_unique),
    ("run::logs_follow", logs_follow),
];

fn exit_codes(world: &World) {
    // The child's own code is passed on in silence, everything else is told.
    for (arguments, code, told) in [
        (&["run", "--rm", "busybox", "true"][..], 0, false),
        (&["run", "--rm", "busybox", "false"], 1, false),
        (&["run", "--rm", "busybox", "sh", "-c", "exit 42"], 42, false),
        (&["run", "--rm", "busybox", "no-such-program"], 127, true),
        (&["run", "--rm", "busybox", "/no/such/program"], 127, true),
        (&["run", "--rm", "busybox", "/etc"], 126, true),
        (&["run", "--rm", "busybox", "/etc/passwd"], 126, true),
        (&["run", "--no-such-flag", "busybox"], 125, true),
        (&["run", "--pull", "never", "no-such-image"], 125, true),
        (
            &["run", "--network", "no-such-network", "busybox", "true"],
            125,
            true,
        ),
        (&["run", "-m", "lots", "busybox", "true"], 125, true),
        (&["run"], 1, true),
        (&["inspect", "nothing"], 1, true),
        (&["rm", "nothing"], 1, true),
        (&["frobnicate"], 1, true),
    ] {
        let ended = world.cooper(arguments);
        assert_eq!(
            (ended.code, !ended.stderr.is_empty()),
            (code, told),
            "{arguments:?}: {ended:?}"
        );
    }
    assert_eq!(world.ok(&["ps", "-q"]), "", "something still runs");
}

fn streams(world: &World) {
    let ended = world.cooper(&["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "out\n", "err\n")
    );
    let output = world.with_input(&["run", "--rm", "-i", "busybox", "cat"], b"from stdin\n");
    assert_eq!(output.stdout, b"from stdin\n");
    // Without -i the process sees the end of input at once.
    let output = world.with_input(&["run", "--rm", "busybox", "cat"], b"ignored\n");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b""[..]));
}

fn large_output_is_complete(world: &World) {
    let script = "dd if=/dev/zero bs=64k count=256 2>/dev/null; echo tail";
    let output = world.with_input(&["run", "--rm", "busybox", "sh", "-c", script], b"");
    assert_eq!(output.stdout.len(), (16 << 20) + 5);
    assert!(output.stdout.ends_with(b"tail\n"));
    let input = vec![b'x'; 8 << 20];
    let output = world.with_input(&["run", "--rm", "-i", "busybox", "wc", "-c"], &input);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        (8 << 20).to_string()
    );
}

fn life_cycle(world: &World) {
    let id = world.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "echo started; exec sleep 1000",
    ]);
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    eventually("the log", || world.ok(&["logs", "web"]) == "started");
    let table = world.ok(&["ps"]);
    let mut lines = table.lines();
    let heading: Vec<&str> = lines
        .next()
        .unwrap()
        .split("  ")
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(
        heading,
        [
            "CONTAINER ID",
            "IMAGE",
            "COMMAND",
            "CREATED",
            "STATUS",
            "PORTS",
            "NAMES"
        ]
    );
    let row = lines.next().unwrap();
    assert!(
        row.starts_with(&id[..12]) && row.contains("busybox") && row.contains("Up ") && row.ends_with("web"),
        "{row}"
    );
    assert_eq!(
        world.ok(&["inspect", "-f", "{{.State.Status}} {{.Name}}", "web"]),
        "running /web"
    );
    assert!(world.ok(&["top", "web"]).contains("sleep 1000"));
    assert_eq!(
        world.cooper(&["rm", "web"]).code,
        1,
        "a running container must not be removable"
    );
    world.ok(&["pause", "web"]);
    assert_eq!(world.ok(&["inspect", "-f", "{{.State.Status}}", "web"]), "paused");
    world.ok(&["unpause", "web"]);
    assert_eq!(world.ok(&["stop", "-t", "0", "web"]), "web");
    assert_eq!(world.ok(&["wait", "web"]), "137");
    assert_eq!(world.ok(&["ps", "-q"]), "");
    assert_eq!(world.ok(&["ps", "-aq", "--no-trunc"]), id);
    world.ok(&["rename", "web", "old"]);
    world.ok(&["start", "old"]);
    assert_eq!(world.ok(&["kill", "old"]), "old");
    assert_eq!(world.ok(&["wait", "old"]), "137");
    assert_eq!(world.ok(&["rm", "old"]), "old");
    assert_eq!(world.ok(&["ps", "-aq"]), "");
}

fn exec(world: &World) {
    world.ok(&[
        "run", "-d", "--name", "box", "-e", "A=1", "busybox", "sleep", "1000",
    ]);
    assert_eq!(
        world.ok(&[
            "exec",
            "-e",
            "B=2",
            "-w",
            "/tmp",
            "box",
            "sh",
            "-c",
            "echo $A$B; pwd"
        ]),
        "12\n/tmp"
    );
    assert_eq!(world.cooper(&["exec", "box", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(world.cooper(&["exec", "box", "no-such-program"]).code, 127);
    assert_eq!(
        world.with_input(&["exec", "-i", "box", "cat"], b"in").stdout,
        b"in"
    );
    assert_eq!(world.ok(&["exec", "-u", "nobody", "box", "id", "-u"]), "65534");
    assert_eq!(world.cooper(&["exec", "gone", "true"]).code, 1);
}

fn settings(world: &World) {
    for (flags, script, expected) in [
        (&["-e", "A=b c"][..], "echo $A", "b c"),
        (&["-w", "/tmp"], "pwd", "/tmp"),
        (&["-u", "nobody"], "id -u", "65534"),
        (&["--hostname", "barrel"], "hostname", "barrel"),
        (
            &["--read-only"],
            "touch /x 2>/dev/null || echo refused",
            "refused",
        ),
        (
            &["--tmpfs", "/scratch"],
            "touch /scratch/x && echo works",
            "works",
        ),
        (
            &["--cap-drop", "ALL"],
            "grep CapEff /proc/self/status",
            "CapEff:\t0000000000000000",
        ),
        (&["--network", "none"], "ls /sys/class/net", "lo"),
        (&[], "echo $$", "1"),
    ] {
        let arguments = [&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat();
        assert_eq!(world.ok(&arguments), expected, "{arguments:?}");
    }
    assert_eq!(
        world.ok(&["run", "--rm", "--entrypoint", "echo", "busybox", "-n", "x"]),
        "x"
    );
}

fn binds(world: &World) {
    let file = world.write("shared/file", "from the host\n");
    let directory = file.parent().unwrap().to_str().unwrap();
    let read_only = format!("{directory}:/mnt:ro");
    assert_eq!(
        world.ok(&["run", "--rm", "-v", &read_only, "busybox", "cat", "/mnt/file"]),
        "from the host"
    );
    assert_ne!(
        world
            .cooper(&["run", "--rm", "-v", &read_only, "busybox", "touch", "/mnt/new"])
            .code,
        0
    );
    let mount = format!("type=bind,source={directory},target=/mnt");
    world.ok(&["run", "--rm", "--mount", &mount, "busybox", "touch", "/mnt/new"]);
    assert!(world.path("shared/new").exists());
}

fn signals_are_passed_on(world: &World) {
    let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let child = world
        .command(&["run", "--rm", "--name", "sig", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the trap", || {
        world.cooper(&["logs", "sig"]).stdout.contains("ready")
    });
    signal(&child, Signal::TERM);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(9));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\ngot it\n");
}

fn killed_container_gives_137(world: &World) {
    let child = world
        .command(&["run", "--name", "victim", "busybox", "sleep", "1000"])
        .spawn()
        .unwrap();
    eventually("the start", || {
        world
            .cooper(&["ps", "--format", "{{.Names}}"])
            .stdout
            .contains("victim")
    });
    world.ok(&["kill", "victim"]);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(137));
}

fn names_are_unique(world: &World) {
    world.ok(&["create", "--name", "one", "busybox"]);
    let ended = world.cooper(&["run", "--name", "one", "busybox", "true"]);
    assert_eq!(ended.code, 125);
    assert!(ended.stderr.contains("already in use"), "{ended:?}");
}

fn logs_follow(world: &World) {
    world.ok(&[
        "run",
        "-d",
        "--name",
        "talker",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.2; done",
    ]);
    assert_eq!(world.ok(&["logs", "-f", "talker"]), "1\n2\n3");
    assert_eq!(world.ok(&["logs", "--tail", "1", "talker"]), "3");
    let stamped = world.ok(&["logs", "-t", "-n", "1", "talker"]);
    assert!(
        stamped.ends_with("Z 3") && stamped.as_bytes()[10] == b'T',
        "{stamped}"
    );
}
