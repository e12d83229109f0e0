//! Changes, files, use and updates of containers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use cooper_runner::cgroup::Resources;
use cooper_runner::container::{ChangeKind, Error, ReadOnly};
use cooper_runner::spec::{MountSource, MountSpec, Propagation, Restart, RestartPolicy};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("files::changes", changes),
    ("files::views_stay_inside", views_stay_inside),
    ("files::a_stopped_container_waits", a_stopped_container_waits),
    ("files::updates_are_live_and_stay", updates_are_live_and_stay),
];

fn changes() {
    let world = World::new();
    let script = "rm /etc/group; rm -r /root; mkdir /root; mkdir /new; : >/new/file; chmod 700 /var; touch -r /etc/passwd /tmp/x; rm /tmp/x";
    let id = world.background(script);
    let listed = |id: &str| -> Vec<String> {
        let changes = world.containers.changes(id).unwrap();
        changes
            .iter()
            .map(|change| {
                let kind = match change.kind {
                    ChangeKind::Modified => 'C',
                    ChangeKind::Added => 'A',
                    ChangeKind::Deleted => 'D',
                };
                format!("{kind} {}", change.path.display())
            })
            .collect()
    };
    let expected = ["C etc", "D etc/group", "A new", "A new/file", "C var"];
    assert_eq!(listed(&id), expected);
    world.containers.stop(&id, None, Some(0)).unwrap();
    assert_eq!(listed(&id), expected);
}

/// What a hostile container makes of its links, and what is mounted in it.
fn views_stay_inside() {
    let world = World::new();
    let (host, read_only) = (world.path("host"), world.path("read-only"));
    for dir in [&host, &read_only] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("file"), "volume").unwrap();
    }
    fs::write(world.path("secret"), "secret").unwrap();
    symlink(world.path("secret"), host.join("out")).unwrap();
    let bind = |path: &Path, target: &str, readonly: bool| MountSpec {
        target: target.into(),
        source: MountSource::Bind {
            path: path.to_path_buf(),
            propagation: Propagation::Private,
        },
        readonly,
    };
    let script = "ln -s / /tmp/root; ln -s ../../../../../.. /tmp/up; ln -s /proc/self/root /tmp/magic; \
                  ln -s /tmp/up/etc/passwd /tmp/chain; ln -s /nope/x /tmp/dangling";
    let id = world.background_with(script, |spec| {
        spec.mounts = vec![bind(&host, "/data", false), bind(&read_only, "/ro", true)];
    });
    let check = |state: &str| {
        let files = world.containers.files(&id).unwrap();
        let read = |path: &str| files.read(Path::new(path), 1 << 20).unwrap();
        assert_eq!(read("/data/file").as_deref(), Some(&b"volume"[..]), "{state}");
        assert_eq!(
            read("/tmp/root/tmp/up/data/file").as_deref(),
            Some(&b"volume"[..]),
            "{state}"
        );
        // The link means a path in the container, where there is none such.
        assert_eq!(read("/data/out"), None, "{state}");
        assert!(read("/tmp/chain").unwrap().starts_with(b"root:x:0:0"), "{state}");
        let host_path = world.path("secret");
        assert_eq!(files.read(&host_path, 100).unwrap(), None, "{state}");
        let info = |path: &str| files.info(Path::new(path));
        assert_eq!(
            info("/tmp/chain").unwrap().target,
            Some(PathBuf::from("/etc/passwd")),
            "{state}"
        );
        assert_eq!(
            info("/tmp/dangling").unwrap().target,
            Some(PathBuf::from("/nope/x")),
            "{state}"
        );
        assert!(
            info("/tmp/magic/").is_err(),
            "{state}: a magic link must not be followed"
        );
        let guard = |path: &str| {
            files
                .read_only(files.directory(Path::new(path)).unwrap())
                .unwrap()
        };
        assert_eq!(guard("/ro"), Some(ReadOnly::Mount), "{state}");
        assert_eq!((guard("/data"), guard("/tmp")), (None, None), "{state}");
        // Nothing of the machine's own is seen.
        let proc = files.directory(Path::new("/proc")).unwrap();
        let mut seen = fs::read_dir(format!("/proc/self/fd/{}", fd(&proc))).unwrap();
        assert!(seen.next().is_none(), "{state}");
    };
    check("running");
    world.containers.stop(&id, None, Some(0)).unwrap();
    check("stopped");
    let id = world.create(&world.spec_with(&["true"], |spec| spec.rootfs.readonly = true));
    let files = world.containers.files(&id).unwrap();
    let root = files.directory(Path::new("/")).unwrap();
    assert_eq!(files.read_only(root).unwrap(), Some(ReadOnly::Root));
}

fn fd(fd: &impl std::os::fd::AsRawFd) -> i32 {
    fd.as_raw_fd()
}

/// While somebody has the files of a stopped container it does not start; afterwards it sees what was written.
fn a_stopped_container_waits() {
    let world = World::new();
    let id = world.create(&world.spec(&["cat", "/written"]));
    let files = world.containers.files(&id).unwrap();
    let (send, started) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let (containers, id) = (&world.containers, &id);
        scope.spawn(move || {
            let wait = containers.wait(id, cooper_runner::container::WaitCondition::NotRunning);
            assert!(wait.is_ok());
            containers.start(id).unwrap();
            send.send(()).unwrap();
        });
        let handle = files.directory(Path::new("/")).unwrap();
        fs::write(format!("/proc/self/fd/{}/written", fd(&handle)), "here").unwrap();
        drop(handle);
        assert!(started.try_recv().is_err(), "it started under our hands");
        drop(files);
        started.recv().unwrap();
    });
    let ended = world
        .containers
        .wait(&id, cooper_runner::container::WaitCondition::NotRunning)
        .unwrap();
    assert_eq!(ended.code, 0);
    let log = fs::read_to_string(world.containers.log_path(&id)).unwrap();
    assert!(log.contains("here"), "{log}");
}

fn updates_are_live_and_stay() {
    let world = World::new();
    let id = world.background("");
    let resources = |pids: i64, memory: i64| Resources {
        pids_limit: Some(pids),
        memory: Some(memory),
        ..Resources::default()
    };
    let update = |wanted: Resources| {
        world.containers.update(&id, |overrides| {
            overrides.resources = Some(wanted);
            overrides.restart = Some(RestartPolicy {
                when: Restart::Always,
                max_retries: 0,
            });
            Ok::<_, Error>(())
        })
    };
    update(resources(7, 64 << 20)).unwrap();
    let used = world.containers.stats(&id).unwrap().unwrap();
    assert_eq!((used.pids_limit, used.memory.limit), (Some(7), Some(64 << 20)));
    assert!(used.pids >= 1 && used.cpu.total > 0, "{used:?}");
    // What the kernel refuses changes nothing, on disk or in the group.
    assert!(
        update(Resources {
            cpuset_cpus: Some("4000".into()),
            ..resources(9, 64 << 20)
        })
        .is_err()
    );
    let spec = world.containers.spec(&id).unwrap();
    assert_eq!(
        (spec.resources.pids_limit, spec.restart.when),
        (Some(7), Restart::Always)
    );
    let pid = world.containers.state(&id).unwrap().pid;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let state = world.containers.state(&id).unwrap();
        if state.pid != 0 && state.pid != pid && state.restart_count == 1 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "not restarted: {state:?}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(world.containers.stats(&id).unwrap().unwrap().pids_limit, Some(7));
}
