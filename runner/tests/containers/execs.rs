//! Additional processes in a running container.

use cooper_runner::container::{Error, StartErrorKind, WaitCondition};

use crate::world::{Test, World, process};

pub(crate) const TESTS: &[Test] = &[
    ("execs::output_code_and_namespaces", output_code_and_namespaces),
    ("execs::errors", errors),
    ("execs::terminal", terminal),
    (
        "execs::privileged_raises_capabilities_only",
        privileged_raises_capabilities_only,
    ),
    ("execs::end_with_their_container", end_with_their_container),
    ("execs::fifty_at_once", fifty_at_once),
];

fn output_code_and_namespaces() {
    let world = World::new();
    let id = world.background("echo here > /file");
    let run = world
        .exec(
            &id,
            &process(&[
                "sh",
                "-c",
                "cat /file; hostname; tr '\\0' ' ' < /proc/1/cmdline; cat; exit 4",
            ]),
            b"",
        )
        .unwrap();
    assert_eq!(run.code, 4);
    assert_eq!(run.stdout, format!("here\n{}\nsleep 1000 ", &id[..12]));
    let mut cat = process(&["cat"]);
    cat.open_stdin = true;
    assert_eq!(world.exec(&id, &cat, b"in and out").unwrap().stdout, "in and out");
    let mut user = process(&[
        "sh",
        "-c",
        "id -u; id -G; pwd; grep -E 'CapEff|CapInh|CapBnd|Seccomp:' /proc/self/status",
    ]);
    user.user = "user".into();
    user.cwd = "/tmp".into();
    let status = "1000\n1000 2000\n/tmp\nCapInh:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\n";
    assert_eq!(world.exec(&id, &user, b"").unwrap().stdout, status);
    for group in std::fs::read_to_string("/proc/self/cgroup")
        .unwrap()
        .lines()
        .take(1)
    {
        let controller = group.split(':').nth(1).unwrap().to_owned();
        let own = world
            .exec(&id, &process(&["cat", "/proc/self/cgroup"]), b"")
            .unwrap()
            .stdout;
        assert!(
            own.lines()
                .any(|line| line.ends_with(&format!(":{controller}:/"))),
            "{own}"
        );
    }
}

fn errors() {
    let world = World::new();
    let id = world.background("");
    let exec = world
        .containers
        .exec_create(&id, &process(&["nope"]), false)
        .unwrap();
    match world.containers.exec_start(&exec, false) {
        Err(Error::Start {
            kind: StartErrorKind::NotFound,
            message,
        }) => {
            assert!(
                message.contains("executable file not found in $PATH"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.containers.exec_state(&exec).unwrap().2.exit_code, Some(127));
    assert!(matches!(
        world.containers.exec_start(&exec, true),
        Err(Error::State { .. })
    ));
    assert!(matches!(
        world.containers.exec_state(&"a".repeat(64)),
        Err(Error::NotFound(_))
    ));
    assert!(matches!(
        world.containers.exec_state("../../x"),
        Err(Error::NotFound(_))
    ));
    let stopped = world.create(&world.spec(&["true"]));
    assert!(matches!(
        world.containers.exec_create(&stopped, &process(&["true"]), false),
        Err(Error::State { .. })
    ));
}

fn terminal() {
    let world = World::new();
    let id = world.background("");
    let mut shell = process(&["sh", "-c", "tty; stty size; read x; echo got $x"]);
    shell.tty = true;
    shell.open_stdin = true;
    shell.console_size = Some((10, 20));
    let run = world.exec(&id, &shell, b"line\n").unwrap();
    assert!(
        run.stdout.contains("/dev/pts/") && run.stdout.contains("10 20"),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("got line\r\n"), "{run:?}");
}

fn privileged_raises_capabilities_only() {
    let world = World::new();
    let id = world.background("");
    let show = process(&[
        "sh",
        "-c",
        "grep -E 'CapEff|Seccomp:' /proc/self/status > /status",
    ]);
    let exec = world.containers.exec_create(&id, &show, true).unwrap();
    assert!(world.containers.exec_start(&exec, true).unwrap().is_none());
    while world.containers.exec_state(&exec).unwrap().2.exit_code.is_none() {
        std::thread::yield_now();
    }
    let status = world
        .exec(&id, &process(&["cat", "/status"]), b"")
        .unwrap()
        .stdout;
    assert!(
        !status.contains("00000000a80425fb") && status.contains("Seccomp:\t2"),
        "{status}"
    );
}

fn end_with_their_container() {
    let world = World::new();
    let id = world.background("");
    let exec = world
        .containers
        .exec_create(&id, &process(&["sleep", "1000"]), false)
        .unwrap();
    let mut stream = world.containers.exec_start(&exec, false).unwrap().unwrap();
    assert_eq!(world.containers.pids(&id).unwrap().len(), 2);
    world.containers.kill(&id, 9).unwrap();
    assert_eq!(
        world
            .containers
            .wait(&id, WaitCondition::NotRunning)
            .unwrap()
            .code,
        137
    );
    crate::world::read_all(&mut stream);
    assert_eq!(world.containers.exec_state(&exec).unwrap().2.exit_code, Some(137));
}

fn fifty_at_once() {
    let world = World::new();
    let id = world.background("");
    std::thread::scope(|scope| {
        for n in 0..50 {
            let (world, id) = (&world, &id);
            scope.spawn(move || {
                let run = world
                    .exec(id, &process(&["sh", "-c", &format!("echo {n}; exit {n}")]), b"")
                    .unwrap();
                assert_eq!((run.code, run.stdout), (n, format!("{n}\n")));
            });
        }
    });
}
