//! One test for each row of the isolation checklist that touches a container's start.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use cooper_runner::container::Error;
use cooper_runner::spec::{ContainerSpec, MountSource, MountSpec, Propagation};

use crate::world::{Run, Test, World, make_busybox, process};

pub(crate) const TESTS: &[Test] = &[
    ("security::no_descriptor_leaks", no_descriptor_leaks),
    (
        "security::workdir_through_a_descriptor",
        workdir_through_a_descriptor,
    ),
    (
        "security::symlinked_mount_points_are_refused",
        symlinked_mount_points_are_refused,
    ),
    (
        "security::replaced_dev_null_masks_nothing_else",
        replaced_dev_null_masks_nothing_else,
    ),
    (
        "security::account_files_are_regular_and_inside",
        account_files_are_regular_and_inside,
    ),
    ("security::process_status", process_status),
    ("security::masked_and_read_only_paths", masked_and_read_only_paths),
    ("security::privileged", privileged),
    ("security::mounts_stay_inside", mounts_stay_inside),
    ("security::mount_target_behind_a_link", mount_target_behind_a_link),
    ("security::proc_is_not_covered", proc_is_not_covered),
    (
        "security::read_only_binds_are_recursive",
        read_only_binds_are_recursive,
    ),
    (
        "security::engine_binary_is_not_writable",
        engine_binary_is_not_writable,
    ),
    (
        "security::supervisor_is_not_reachable",
        supervisor_is_not_reachable,
    ),
    ("security::devices", devices),
    ("security::bad_sysctls", bad_sysctls),
    ("security::spec_paths", spec_paths),
    ("security::keyring_is_own", keyring_is_own),
    (
        "security::directories_are_closed_to_others",
        directories_are_closed_to_others,
    ),
];

/// A descriptor of the host's root at `at` or above, not close-on-exec.
fn leak_root(at: i32) -> rustix::fd::OwnedFd {
    let root = fs::File::open("/").unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&root, at).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    leaked
}

/// An image of its own for a test that spoils it.
fn spoilt<F: FnOnce(&Path)>(world: &World, spoil: F) -> Box<dyn FnOnce(&mut ContainerSpec)> {
    let image = world.path(&format!("image-{}", crate::world::new_id()));
    fs::create_dir(&image).unwrap();
    make_busybox(&image);
    spoil(&image);
    Box::new(move |spec| spec.rootfs.lowers = vec![image])
}

fn start_error(result: Result<Run, Error>) -> String {
    match result {
        Err(Error::Start { message, .. }) => message,
        other => panic!("started: {other:?}"),
    }
}

fn no_descriptor_leaks() {
    let world = World::new();
    // Descriptors that an engine inherited without close-on-exec, as moby's test opens 41 and 42 on purpose.
    let leaked = leak_root(41);
    assert!(leaked.as_raw_fd() >= 41);
    let run = world.sh("ls /proc/self/fd; ls /proc/1/fd; true");
    // ls holds its directory open itself.
    assert_eq!(run.stdout, "0\n1\n2\n3\n0\n1\n2\n", "{run:?}");
    let id = world.background("");
    let run = world
        .exec(&id, &process(&["sh", "-c", "ls /proc/$$/fd; true"]), b"")
        .unwrap();
    assert_eq!(run.stdout, "0\n1\n2\n");
}

fn workdir_through_a_descriptor() {
    let world = World::new();
    let leaked: Vec<_> = (0..3).map(|_| leak_root(3)).collect();
    for fd in 3..20 {
        let cwd = |path: String| move |spec: &mut ContainerSpec| spec.process.cwd = path;
        let spec = world.spec_with(&["true"], cwd(format!("/proc/self/fd/{fd}")));
        let message = start_error(world.try_run(&spec, b""));
        assert!(
            message.contains("chdir to cwd") || message.contains("open ") || message.contains("create "),
            "{message}"
        );
        // Such a path means what it means without the descriptor: a directory of the container.
        let spec = world.spec_with(
            &["cat", "etc/machine-id", "bin/busybox"],
            cwd(format!("/proc/self/fd/{fd}/../..")),
        );
        assert!(
            world
                .try_run(&spec, b"")
                .map_or(true, |run| run.stdout.is_empty())
        );
    }
    drop(leaked);
    let id = world.background("ln -s /proc/self/fd/7 /link");
    let mut leave = process(&["pwd"]);
    leave.cwd = "/link".into();
    assert!(world.exec(&id, &leave, b"").is_err());
}

fn symlinked_mount_points_are_refused() {
    let world = World::new();
    for name in ["proc", "sys", "dev"] {
        let target = world.path(&format!("outside-{name}"));
        fs::create_dir(&target).unwrap();
        for link in [target.as_path(), Path::new("/tmp")] {
            let spoil = spoilt(&world, |image| {
                fs::remove_dir(image.join(name)).unwrap();
                symlink(link, image.join(name)).unwrap();
            });
            let spec = world.spec_with(&["true"], spoil);
            let message = start_error(world.try_run(&spec, b""));
            assert!(message.contains("symbolic link"), "{name}: {message}");
        }
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}

fn replaced_dev_null_masks_nothing_else() {
    let world = World::new();
    let spoil = spoilt(&world, |image| {
        symlink("/proc/sys/kernel/core_pattern", image.join("dev/null")).unwrap();
    });
    let run = world.run(&world.spec_with(
        &["sh", "-c", "stat -c %t:%T /dev/null /proc/interrupts /proc/keys"],
        spoil,
    ));
    assert_eq!(run.stdout, "1:3\n1:3\n1:3\n", "{run:?}");
}

fn account_files_are_regular_and_inside() {
    let world = World::new();
    let user = |spec: &mut ContainerSpec| spec.process.user = "user".into();
    let spoil = spoilt(&world, |image| {
        fs::remove_file(image.join("etc/passwd")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            image.join("etc/passwd"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    });
    let spec = world.spec_with(&["true"], |spec| {
        spoil(spec);
        user(spec);
    });
    assert!(start_error(world.try_run(&spec, b"")).contains("not a regular file"));

    // A link that names a file of the host resolves inside the image, where it is another one.
    let secret = world.path("passwd");
    fs::write(&secret, "user:x:4242:4242::/:/bin/sh\n").unwrap();
    let spoil = spoilt(&world, |image| {
        fs::remove_file(image.join("etc/passwd")).unwrap();
        symlink(&secret, image.join("etc/passwd")).unwrap();
    });
    let spec = world.spec_with(&["true"], |spec| {
        spoil(spec);
        user(spec);
    });
    assert!(start_error(world.try_run(&spec, b"")).contains("user"));
}

fn process_status() {
    let world = World::new();
    let show = "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status";
    let check = |change: fn(&mut ContainerSpec), expected: &str| {
        let run = world.run(&world.spec_with(&["sh", "-c", show], change));
        let got: Vec<String> = run
            .stdout
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(got.join("\n"), expected);
    };
    let caps = |effective: &str| {
        format!(
            "CapInh: 0000000000000000\nCapPrm: {effective}\nCapEff: {effective}\nCapBnd: 00000000a80425fb\nCapAmb: 0000000000000000"
        )
    };
    let default = "00000000a80425fb";
    check(
        |_| {},
        &format!("Groups: 0\n{}\nNoNewPrivs: 0\nSeccomp: 2", caps(default)),
    );
    let nnp = |spec: &mut ContainerSpec| spec.process.no_new_privileges = true;
    check(
        nnp,
        &format!("Groups: 0\n{}\nNoNewPrivs: 1\nSeccomp: 2", caps(default)),
    );
    let user = |spec: &mut ContainerSpec| {
        spec.process.user = "user".into();
        spec.process.group_add.push("3000".into());
    };
    check(
        user,
        &format!(
            "Groups: 1000 2000 3000\n{}\nNoNewPrivs: 0\nSeccomp: 2",
            caps("0000000000000000")
        ),
    );
}

fn masked_and_read_only_paths() {
    let world = World::new();
    let run = world.sh(
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do [ -e $f ] && wc -c < $f; done | sort -u; \
         ls /sys/firmware | wc -l; touch /sys/firmware/x 2>/dev/null || echo ro; \
         echo 1 > /proc/sys/kernel/core_pattern 2>/dev/null || echo ro; \
         echo h > /proc/sysrq-trigger 2>/dev/null || echo ro; \
         touch /sys/x 2>/dev/null || echo ro; mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro; \
         mkdir /sys/fs/cgroup/*/x 2>/dev/null || echo ro; mount -t tmpfs x /tmp 2>/dev/null || echo denied",
    );
    assert_eq!(run.stdout, "0\n0\nro\nro\nro\nro\nro\nro\ndenied\n", "{run:?}");
    // Each controller shows the container's group as the top.
    let run = world.sh("cut -d: -f3 /proc/self/cgroup | sort -u; cat /sys/fs/cgroup/pids/cgroup.procs 2>/dev/null | head -n1");
    assert!(run.stdout.starts_with("/\n"), "{run:?}");
}

fn privileged() {
    let world = World::new();
    let script = "mount -t tmpfs x /tmp && echo mounted; grep Seccomp: /proc/self/status; [ -c /dev/kmsg ] && echo host device; \
                  mkdir /sys/fs/cgroup/pids/x 2>/dev/null || mkdir /sys/fs/cgroup/x && echo rw";
    let run = world.run(&world.spec_with(&["sh", "-c", script], |spec| spec.privileged = true));
    assert_eq!(run.stdout, "mounted\nSeccomp:\t0\nhost device\nrw\n", "{run:?}");
    assert!(
        !fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(" - tmpfs x ")
    );
}

fn bind(path: &Path, target: &str, readonly: bool) -> MountSpec {
    let source = MountSource::Bind {
        path: path.into(),
        propagation: Propagation::Private,
    };
    MountSpec {
        target: target.into(),
        source,
        readonly,
    }
}

fn mounts_stay_inside() {
    let world = World::new();
    let (source, outside) = (world.path("source"), world.path("outside"));
    fs::create_dir(&source).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(source.join("mark"), "").unwrap();
    for link in [
        outside.to_str().unwrap().to_owned(),
        format!("../../../../../..{}", outside.display()),
    ] {
        let spoil = spoilt(&world, |image| symlink(&link, image.join("escape")).unwrap());
        let spec = world.spec_with(&["ls", "/escape/deep"], |spec| {
            spoil(spec);
            spec.mounts.push(bind(&source, "/escape/deep", false));
        });
        assert_eq!(world.run(&spec).stdout, "mark\n");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "created on the host");
    }
}

fn mount_target_behind_a_link() {
    let world = World::new();
    let source = world.path("socket");
    fs::write(&source, "content").unwrap();
    let spec = world.spec_with(&["cat", "/run/docker.sock"], |spec| {
        spec.mounts.push(bind(&source, "/var/run/docker.sock", false));
        spec.mounts.push(MountSpec {
            target: "/tmp/new/mount".into(),
            source: MountSource::Tmpfs {
                size: Some(1 << 20),
                mode: Some(0o700),
                exec: false,
            },
            readonly: false,
        });
    });
    assert_eq!(world.run(&spec).stdout, "content");
}

fn proc_is_not_covered() {
    let world = World::new();
    let (dir, file) = (world.path("dir"), world.path("file"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "content").unwrap();
    for (source, target) in [
        (&dir, "/proc"),
        (&dir, "/proc/sys"),
        (&file, "/proc/self/status"),
        (&dir, "/p/sys"),
    ] {
        let spoil = spoilt(&world, |image| symlink("/proc", image.join("p")).unwrap());
        let spec = world.spec_with(&["true"], |spec| {
            spoil(spec);
            spec.mounts.push(bind(source, target, false));
        });
        let message = start_error(world.try_run(&spec, b""));
        assert!(message.contains("inside /proc"), "{target}: {message}");
    }
    let spec = world.spec_with(&["cat", "/proc/uptime"], |spec| {
        spec.mounts.push(bind(&file, "/proc/uptime", false));
    });
    assert_eq!(world.run(&spec).stdout, "content");
    let spec = world.spec_with(&["true"], |spec| {
        spec.mounts.push(bind(Path::new("/proc"), "/proc", true));
    });
    assert_eq!(world.run(&spec).code, 0);
}

fn read_only_binds_are_recursive() {
    let world = World::new();
    let source = world.path("tree");
    fs::create_dir_all(source.join("sub")).unwrap();
    rustix::mount::mount(
        "x",
        source.join("sub"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None,
    )
    .unwrap();
    let spec = world.spec_with(
        &[
            "sh",
            "-c",
            "touch /m/a 2>/dev/null || echo ro; touch /m/sub/a 2>/dev/null || echo ro",
        ],
        |spec| {
            spec.mounts.push(bind(&source, "/m", true));
        },
    );
    let run = world.run(&spec);
    rustix::mount::unmount(source.join("sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(run.stdout, "ro\nro\n");
}

fn engine_binary_is_not_writable() {
    let world = World::new();
    // Even a process with all capabilities that finds the supervisor's binary cannot write to it.
    let id = world.background("");
    let supervisor = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find(|entry| {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains(&id)
        })
        .unwrap();
    // Not by ETXTBSY, which ends with the program, but because its mount is read-only.
    let mount = rustix::fs::statvfs(supervisor.path().join("exe")).unwrap();
    assert!(
        mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        "{:?}",
        mount.f_flag
    );
    let own = rustix::fs::statvfs("/proc/self/exe").unwrap();
    assert!(
        !own.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        "the test proves nothing"
    );
}

fn supervisor_is_not_reachable() {
    let world = World::new();
    let id = world.background("");
    // Nothing but the container's own processes is visible, and no abstract socket exists (CVE-2020-15257).
    let run = world
        .exec(
            &id,
            &process(&[
                "sh",
                "-c",
                "cat /proc/net/unix | wc -l; ls -d /proc/[0-9]* | wc -l",
            ]),
            b"",
        )
        .unwrap();
    assert_eq!(run.stdout.lines().next(), Some("1"), "{run:?}");
    let socket = world.path("exec").join(&id).join("supervisor.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        fs::metadata(socket.parent().unwrap())
            .unwrap()
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    let abstract_sockets = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(
        !abstract_sockets
            .lines()
            .any(|line| line.contains('@') && line.contains("cooper"))
    );
}

fn devices() {
    let world = World::new();
    let run = world.sh(
        "cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; for l in fd stdin stdout stderr ptmx; do readlink $l; done; \
         mknod /dev/mem2 c 1 1 && cat /dev/mem2 2>&1 >/dev/null | grep -o 'Operation not permitted'; ls /dev/pts",
    );
    assert_eq!(
        run.stdout,
        "null 1:3 666\nzero 1:5 666\nfull 1:7 666\nrandom 1:8 666\nurandom 1:9 666\ntty 5:0 666\n\
         /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\nOperation not permitted\nptmx\n"
    );
}

fn bad_sysctls() {
    let world = World::new();
    for (key, value) in [
        ("kernel.core_pattern", "x"),
        ("kernel.shmmax", "1+kernel.core_pattern=x"),
        ("vm.overcommit_memory", "1"),
    ] {
        let spec = world.spec_with(&["true"], |spec| {
            spec.sysctls.insert(key.into(), value.into());
        });
        assert!(start_error(world.try_run(&spec, b"")).contains("sysctl"));
    }
}

fn spec_paths() {
    let world = World::new();
    let spec = world.spec(&["true"]);
    for name in ["../escape", "a/b", ".."] {
        let result = world.containers.create("name", &spec, &[(name, Vec::new())]);
        assert!(matches!(result, Err(Error::Format { .. })), "{result:?}");
    }
    let mut bad = spec.clone();
    bad.id = "../../x".into();
    assert!(matches!(
        world.containers.create("name", &bad, &[]),
        Err(Error::InvalidId(_))
    ));
    assert!(matches!(
        world.containers.create("../name", &spec, &[]),
        Err(Error::InvalidName(_))
    ));
    assert!(matches!(world.containers.state("../x"), Err(Error::NotFound(_))));
}

fn keyring_is_own() {
    let world = World::new();
    let spec = world.spec_with(&["cat", "/proc/keys"], |spec| {
        spec.masked_paths = Some(Vec::new());
    });
    let run = world.run(&spec);
    if run.stdout.is_empty() {
        println!("skipped: this kernel has no /proc/keys");
        return;
    }
    assert!(run.stdout.contains(&format!("_ses.{}", spec.id)), "{run:?}");
}

fn directories_are_closed_to_others() {
    let world = World::new();
    let id = world.create(&world.spec(&["true"]));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.path("data")), 0o710);
    assert_eq!(mode(&world.containers.dir(&id)), 0o710);
    assert_eq!(mode(&world.path("exec")), 0o700);
}
