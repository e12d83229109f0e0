//! Creation, exit codes, states, removal, names, limits.

use std::time::{Duration, Instant};

use cooper_runner::container::{Error, StartErrorKind, Status, WaitCondition};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::output_and_exit_code", output_and_exit_code),
    ("lifecycle::exit_codes", exit_codes),
    ("lifecycle::start_errors", start_errors),
    ("lifecycle::states", states),
    ("lifecycle::auto_remove", auto_remove),
    (
        "lifecycle::auto_remove_after_failed_start",
        auto_remove_after_failed_start,
    ),
    ("lifecycle::restart_keeps_files", restart_keeps_files),
    ("lifecycle::stop", stop),
    ("lifecycle::pause", pause),
    ("lifecycle::names", names),
    ("lifecycle::remove", remove),
    ("lifecycle::wait_for_removal", wait_for_removal),
    ("lifecycle::out_of_memory", out_of_memory),
    ("lifecycle::environment", environment),
    ("lifecycle::twenty_at_once", twenty_at_once),
    ("lifecycle::no_lower_layers", no_lower_layers),
    ("lifecycle::many_lower_layers", many_lower_layers),
    ("lifecycle::leftovers_are_swept", leftovers_are_swept),
];

fn output_and_exit_code() {
    let world = World::new();
    let run = world.sh("echo out; echo err >&2; exit 3");
    assert_eq!(
        (run.code, run.stdout.as_str(), run.stderr.as_str()),
        (3, "out\n", "err\n")
    );
}

fn exit_codes() {
    let world = World::new();
    let check = |script: &str, code: i32| assert_eq!(world.sh(script).code, code, "{script}");
    check("true", 0);
    check("exit 255", 255);
    // The first process ignores signals it does not handle, so another one kills itself.
    check("sh -c 'kill -9 $$'; exit $?", 137);
}

fn start_errors() {
    let world = World::new();
    let check = |args: &[&str], kind: StartErrorKind, code: i32, text: &str| {
        let spec = world.spec(args);
        let id = world.create(&spec);
        let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
        match world.containers.start(&id) {
            Err(Error::Start { kind: got, message }) => {
                assert_eq!(got, kind, "{args:?}: {message}");
                assert!(message.contains(text), "{args:?}: {message}");
            }
            other => panic!("{args:?}: {other:?}"),
        }
        assert_eq!(wait.finish().unwrap().code, code);
        let state = world.containers.state(&id).unwrap();
        assert_eq!((state.status, state.exit_code), (Status::Created, code));
        assert!(state.error.contains(text));
    };
    use StartErrorKind::{NotExecutable, NotFound, Other};
    check(
        &["nope"],
        NotFound,
        127,
        "exec: \"nope\": executable file not found in $PATH",
    );
    check(
        &["/nope"],
        NotFound,
        127,
        "exec: \"/nope\": stat /nope: no such file or directory",
    );
    check(
        &["/etc/passwd"],
        NotExecutable,
        126,
        "exec: \"/etc/passwd\": permission denied",
    );
    check(&["/etc"], NotExecutable, 126, "exec: \"/etc\": is a directory");
    check(&[], Other, 128, "no command specified");
}

fn states() {
    let world = World::new();
    let spec = world.spec(&["sh", "-c", "sleep 0.05; exit 4"]);
    let id = world.create(&spec);
    let state = world.containers.state(&id).unwrap();
    assert_eq!((state.status, state.started_at), (Status::Created, None));
    world.containers.start(&id).unwrap();
    let state = world.containers.state(&id).unwrap();
    assert_eq!(state.status, Status::Running);
    assert!(state.pid > 0 && state.started_at.is_some());
    assert!(matches!(world.containers.start(&id), Err(Error::State { state, .. }) if state == "running"));
    assert_eq!(
        world
            .containers
            .wait(&id, WaitCondition::NotRunning)
            .unwrap()
            .code,
        4
    );
    let state = world.containers.state(&id).unwrap();
    assert_eq!((state.status, state.exit_code, state.pid), (Status::Exited, 4, 0));
    assert!(state.finished_at.is_some());
    assert!(matches!(world.containers.kill(&id, 9), Err(Error::State { .. })));
    assert!(matches!(
        world.containers.state(&"0".repeat(64)),
        Err(Error::NotFound(_))
    ));
}

fn auto_remove() {
    let world = World::new();
    let spec = world.spec_with(&["sh", "-c", "echo x > /file; exit 5"], |spec| {
        spec.auto_remove = true;
    });
    let id = world.create(&spec);
    let wait = world.containers.wait_begin(&id, WaitCondition::Removed).unwrap();
    world.containers.start(&id).unwrap();
    assert_eq!(wait.finish().unwrap().code, 5);
    assert!(!world.containers.dir(&id).exists());
    assert!(matches!(
        world.containers.resolve(&format!("n-{}", &id[..12])),
        Err(Error::NotFound(_))
    ));
}

fn auto_remove_after_failed_start() {
    let world = World::new();
    let spec = world.spec_with(&["nope"], |spec| spec.auto_remove = true);
    let id = world.create(&spec);
    let wait = world.containers.wait_begin(&id, WaitCondition::Removed).unwrap();
    assert!(matches!(world.containers.start(&id), Err(Error::Start { .. })));
    let status = wait.finish().unwrap();
    assert_eq!(status.code, 127);
    assert!(status.error.contains("not found in $PATH"));
    assert!(!world.containers.dir(&id).exists());
}

fn restart_keeps_files() {
    let world = World::new();
    let spec = world.spec(&["sh", "-c", "echo x >> /count; exit $(wc -l < /count)"]);
    let id = world.create(&spec);
    for expected in 1..=3 {
        let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
        world.containers.start(&id).unwrap();
        assert_eq!(wait.finish().unwrap().code, expected);
    }
}

fn stop() {
    let world = World::new();
    let id = world.background("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done");
    let begun = Instant::now();
    world.containers.stop(&id, None, Some(30)).unwrap();
    assert_eq!(world.containers.state(&id).unwrap().exit_code, 7);
    assert!(begun.elapsed() < Duration::from_secs(10));
    // sleep as first process has no handler, so only SIGKILL ends it.
    let id = world.background("");
    world.containers.stop(&id, None, Some(0)).unwrap();
    assert_eq!(world.containers.state(&id).unwrap().exit_code, 137);
    assert!(matches!(
        world.containers.stop(&id, None, None),
        Err(Error::State { .. })
    ));
}

fn pause() {
    let world = World::new();
    let id = world.background("");
    world.containers.pause(&id).unwrap();
    assert_eq!(world.containers.state(&id).unwrap().status, Status::Paused);
    assert!(matches!(world.containers.pause(&id), Err(Error::State { state, .. }) if state == "paused"));
    assert!(
        world
            .containers
            .exec_create(&id, &crate::world::process(&["true"]), false)
            .is_err()
    );
    world.containers.unpause(&id).unwrap();
    assert_eq!(world.containers.state(&id).unwrap().status, Status::Running);
    world.containers.pause(&id).unwrap();
    world.containers.kill(&id, 9).unwrap();
    assert_eq!(
        world
            .containers
            .wait(&id, WaitCondition::NotRunning)
            .unwrap()
            .code,
        137
    );
}

fn names() {
    let world = World::new();
    let (a, b) = (world.spec(&["true"]), world.spec(&["true"]));
    world
        .containers
        .create("web", &a, &[("config.json", b"{}".to_vec())])
        .unwrap();
    assert!(world.containers.dir(&a.id).join("config.json").exists());
    assert!(
        matches!(world.containers.create("web", &b, &[]), Err(Error::NameInUse { holder, .. }) if holder == a.id)
    );
    assert!(!world.containers.dir(&b.id).exists());
    world.containers.create("db", &b, &[]).unwrap();
    assert!(matches!(
        world.containers.rename(&b.id, "web"),
        Err(Error::NameInUse { .. })
    ));
    world.containers.rename(&b.id, "db2").unwrap();
    assert_eq!(world.containers.name(&b.id).unwrap(), "db2");
    assert_eq!(world.containers.resolve("db2").unwrap(), b.id);
    assert_eq!(world.containers.resolve("/web").unwrap(), a.id);
    assert_eq!(world.containers.resolve(&a.id[..10]).unwrap(), a.id);
    assert!(matches!(
        world.containers.resolve("db"),
        Err(Error::NotFound(_)) | Ok(_)
    ));
    world.containers.remove(&b.id, false).unwrap();
    assert!(matches!(world.containers.resolve("db2"), Err(Error::NotFound(_))));
}

fn remove() {
    let world = World::new();
    let id = world.background("");
    assert!(
        matches!(world.containers.remove(&id, false), Err(Error::State { state, .. }) if state == "running")
    );
    world.containers.remove(&id, true).unwrap();
    assert!(!world.containers.dir(&id).exists());
    // A waiting supervisor goes with its container, and its waiters are told.
    let id = world.create(&world.spec(&["true"]));
    let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
    world.containers.remove(&id, false).unwrap();
    assert_eq!(wait.finish().unwrap().code, 0);
}

fn wait_for_removal() {
    let world = World::new();
    let id = world.create(&world.spec(&["sh", "-c", "exit 6"]));
    world.containers.start(&id).unwrap();
    world.containers.wait(&id, WaitCondition::NotRunning).unwrap();
    let wait = world.containers.wait_begin(&id, WaitCondition::Removed).unwrap();
    let waiter = std::thread::spawn(move || wait.finish().unwrap().code);
    world.containers.remove(&id, false).unwrap();
    assert_eq!(waiter.join().unwrap(), 6);
}

fn out_of_memory() {
    let world = World::new();
    let spec = world.spec_with(&["sh", "-c", "head -c 200000000 /dev/zero | tail"], |spec| {
        spec.resources.memory = Some(16 << 20);
        spec.resources.memory_swap = Some(16 << 20);
    });
    let run = world.run(&spec);
    let state = world.containers.state(&spec.id).unwrap();
    assert!(state.oom_killed, "{run:?} {state:?}");
    assert_eq!(run.code, 137);
}

fn environment() {
    let world = World::new();
    let check = |script: &str, change: fn(&mut cooper_runner::spec::ContainerSpec), expected: &str| {
        let run = world.run(&world.spec_with(&["sh", "-c", script], change));
        assert_eq!(run.stdout.trim_end(), expected, "{script}: {run:?}");
    };
    check("echo $HOME", |_| {}, "/root");
    check(
        "echo $HOME",
        |spec| spec.process.user = "user".into(),
        "/home/user",
    );
    check("echo $HOME", |spec| spec.process.env.push("HOME=/x".into()), "/x");
    check(
        "id -u; id -g; id -G",
        |spec| spec.process.user = "user".into(),
        "1000\n1000\n1000 2000",
    );
    check("id -G", |spec| spec.process.user = "77:88".into(), "88");
    check("umask", |_| {}, "0022");
    check("pwd", |spec| spec.process.cwd = "/new/dir".into(), "/new/dir");
    check("hostname", |spec| spec.hostname = "box".into(), "box");
    check(
        "grep -c box /etc/hosts; cat /etc/hostname",
        |spec| spec.hostname = "box".into(),
        "1\nbox",
    );
    check(
        "ulimit -n",
        |spec| spec.process.rlimits.push(("nofile".into(), 123, 456)),
        "123",
    );
    check("echo $$", |_| {}, "1");
    check(
        "cat /sys/class/net/*/operstate | wc -l; cat /sys/class/net/lo/flags",
        |_| {},
        "1\n0x9",
    );
    check(
        "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status",
        |_| {},
        "SigIgn:\t0000000000000000\nSigBlk:\t0000000000000000",
    );
    check("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", |_| {}, "0");
    let sysctl = |spec: &mut cooper_runner::spec::ContainerSpec| {
        spec.sysctls.insert("net.core.somaxconn".into(), "99".into());
    };
    check("cat /proc/sys/net/core/somaxconn", sysctl, "99");
    check(
        "df -k /dev/shm | tail -n1 | awk '{print $2}'",
        |spec| spec.shm_size = 1 << 20,
        "1024",
    );
    check(
        "cat /proc/self/oom_score_adj",
        |spec| spec.process.oom_score_adj = Some(500),
        "500",
    );
    check(
        "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && echo rw",
        |spec| spec.rootfs.readonly = true,
        "ro\nrw",
    );
}

fn twenty_at_once() {
    let world = World::new();
    std::thread::scope(|scope| {
        for n in 0..20 {
            let world = &world;
            scope.spawn(move || {
                let run = world.sh(&format!("echo {n}; exit {n}"));
                assert_eq!((run.code, run.stdout), (n, format!("{n}\n")));
            });
        }
    });
}

fn no_lower_layers() {
    let world = World::new();
    let spec = world.spec_with(&["/busybox", "sh", "-c", "exit 9"], |spec| {
        spec.rootfs.lowers.clear();
    });
    let id = world.create(&spec);
    std::fs::copy("/bin/busybox", spec.rootfs.upper.join("busybox")).unwrap();
    let wait = world.containers.wait_begin(&id, WaitCondition::NextExit).unwrap();
    world.containers.start(&id).unwrap();
    assert_eq!(wait.finish().unwrap().code, 9);
}

fn many_lower_layers() {
    let world = World::new();
    let layers: Vec<_> = (0..130)
        .map(|n| {
            let dir = world.path(&format!("layers/{n:0>60}"));
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join(format!("f{n}")), "").unwrap();
            dir
        })
        .collect();
    let spec = world.spec_with(&["sh", "-c", "ls / | grep -c ^f"], |spec| {
        spec.rootfs.lowers.splice(0..0, layers);
    });
    assert_eq!(world.run(&spec).stdout, "130\n");
}

fn leftovers_are_swept() {
    let world = World::new();
    for name in [".tmp-x", ".rm-y"] {
        std::fs::create_dir_all(world.path("data").join(name).join("upper/deep")).unwrap();
    }
    cooper_runner::container::Containers::open(&world.path("data"), &world.path("exec")).unwrap();
    assert!(!world.path("data/.tmp-x").exists() && !world.path("data/.rm-y").exists());
}
