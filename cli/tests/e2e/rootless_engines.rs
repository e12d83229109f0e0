//! Engines of an unprivileged user: what they share, how they die, and where they are when there is no session.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::Test;
use crate::account::Unprivileged;
use crate::rootless::{give, with_busybox};
use crate::world::{Ended, Service, World, eventually, signal};

pub(crate) const TESTS: &[Test] = &[
    ("rootless::all_share_one_namespace", all_share_one_namespace),
    ("rootless::engines_killed", engines_killed),
    (
        "rootless::temporary_runtime_directory",
        temporary_runtime_directory,
    ),
];

/// The user namespace of a process.
pub(crate) fn namespace(pid: &str) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/ns/user", pid.trim())).unwrap()
}

fn parent(pid: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let parent = status
        .lines()
        .find_map(|line| line.strip_prefix("PPid:"))
        .unwrap();
    parent.trim().to_owned()
}

fn all_share_one_namespace(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    // Four that start at once, when nobody is inside.
    let start = |name: &str| user.ok(&["run", "-d", "--name", name, "busybox", "sleep", "1000"]);
    std::thread::scope(|scope| {
        for name in ["c0", "c1", "c2", "c3"] {
            scope.spawn(move || start(name));
        }
    });
    let pid = |name: &str| user.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    let first = namespace(&pid("c0"));
    assert_ne!(first, namespace("self"));
    for name in ["c0", "c1", "c2", "c3"] {
        assert_eq!(namespace(&pid(name)), first, "{name}");
        assert_eq!(namespace(&parent(&pid(name))), first, "the supervisor of {name}");
    }

    // A daemon, found at its default socket by a command that needs no namespace then, and by one that is told of its own.
    let daemon = Service(user.command(&["daemon"]).stderr(Stdio::null()).spawn().unwrap());
    let socket = user.path("run/cooper.sock");
    eventually("the daemon", || {
        std::os::unix::net::UnixStream::connect(&socket).is_ok()
    });
    assert_eq!(namespace(&daemon.0.id().to_string()), first);
    assert_eq!(user.ok(&["ps", "-q"]).lines().count(), 4);
    user.ok(&["run", "-d", "--name", "by-daemon", "busybox", "sleep", "1000"]);
    let store = user.path("home/.local/share/cooper");
    let exec = user.path("run/cooper");
    let aside = [
        "--data-root",
        store.to_str().unwrap(),
        "--exec-root",
        exec.to_str().unwrap(),
    ];
    assert_eq!(
        user.ok(&[&aside[..], &["exec", "by-daemon", "echo", "other engine"]].concat()),
        "other engine"
    );
    assert_eq!(namespace(&pid("by-daemon")), first);
    let id = user.ok(&["unshare", "sh", "-c", "readlink /proc/self/ns/user"]);
    assert_eq!(Path::new(&id), first);

    // Who is inside already stays there, and is root.
    let binary = user.path("cooper");
    let nested = format!("{} ps -q | wc -l; id -u", binary.display());
    assert_eq!(user.ok(&["unshare", "sh", "-c", &nested]), "5\n0");

    // It outlives its engines, and ends with the last process.
    drop(daemon);
    user.ok(&["rm", "-f", "c1", "c2", "c3", "by-daemon"]);
    start("late");
    assert_eq!(namespace(&pid("late")), first);
    user.ok(&["rm", "-f", "c0", "late"]);
    eventually("the end of the last supervisor", || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        !processes.into_iter().any(|entry| {
            std::fs::read_link(entry.path().join("ns/user")).is_ok_and(|namespace| namespace == first)
        })
    });
}

fn engines_killed(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    user.write("c/Dockerfile", "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=20 && chown 5:5 /big\nRUN sleep 0.2\nCOPY . /c\n");
    let context = user.path("c");
    let build = ["build", "--no-cache", "-t", "killed", context.to_str().unwrap()];
    let run = ["run", "-d", "busybox", "sleep", "1000"];
    for (arguments, millis) in [
        (&build[..], 5),
        (&run[..], 5),
        (&build[..], 60),
        (&run[..], 15),
        (&build[..], 200),
        (&run[..], 30),
        (&build[..], 400),
        (&run[..], 45),
    ] {
        let mut child = user
            .command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Which instant this is, is up to the machine; any must do.
        std::thread::sleep(Duration::from_millis(millis));
        signal(&child, Signal::KILL);
        child.wait().unwrap();
        let ended = Ended::from(child.wait_with_output().unwrap());
        if let (Some(id), "run") = (ended.stdout.lines().next(), arguments[0]) {
            assert!(
                user.ok(&["ps", "-aq", "--no-trunc"]).contains(id),
                "{id} was acknowledged and is lost"
            );
        }
        assert_eq!(user.ok(&["run", "--rm", "busybox", "echo", "next"]), "next");
    }
    user.ok(&["build", "-t", "whole", context.to_str().unwrap()]);
    assert_eq!(
        user.ok(&["run", "--rm", "whole", "stat", "-c", "%s %u", "/big"]),
        format!("{} 5", 20 << 20)
    );
    let left = user.ok(&["ps", "-aq"]);
    let left: Vec<&str> = left.lines().collect();
    if !left.is_empty() {
        user.ok(&[&["rm", "-f"], &left[..]].concat());
    }
    user.ok(&["system", "prune", "-af"]);
    // Nothing of the killed builds is left either.
    for dir in ["snapshots", "trash", "layers/sha256"] {
        let path = user.path("home/.local/share/cooper").join(dir);
        let left: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new());
    }
}

/// Without a session there is `/tmp/cooper-UID`, unless somebody else was there first.
fn temporary_runtime_directory(world: &World) {
    let number = 1_300_000_000 + std::process::id();
    let Some(user) = Unprivileged::of(number, number) else {
        return;
    };
    give(world, &user, "busybox");
    let dir = PathBuf::from(format!("/tmp/cooper-{number}"));
    let run = || {
        let mut command = user.command(&["run", "--rm", "busybox", "echo", "ran"]);
        Ended::from(command.env_remove("XDG_RUNTIME_DIR").output().unwrap())
    };
    std::fs::create_dir(&dir).unwrap();
    let refused = run();
    let mode_of =
        |path: &Path| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o7777;
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("belongs to user 0"), "{refused:?}");
    let ran = run();
    let found = mode_of(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!((ran.stdout.as_str(), found), ("ran\n", 0o700), "{ran:?}");
}
