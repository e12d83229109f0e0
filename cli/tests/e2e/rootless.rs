//! The same commands as an unprivileged user.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Test;
use crate::account::{Unprivileged, ended_well, mode};
use crate::rootless_engines::namespace;
use crate::world::{Ended, World, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("rootless::builds_give_the_same_bytes", builds_give_the_same_bytes),
    ("rootless::containers", containers),
    ("rootless::degrades_clearly", degrades_clearly),
    (
        "rootless::errors_name_what_is_missing",
        errors_name_what_is_missing,
    ),
    ("rootless::without_subordinate_ids", without_subordinate_ids),
];

/// The user, with the image that `world` has.
pub(crate) fn with_busybox(world: &World) -> Option<Unprivileged> {
    let user = Unprivileged::new()?;
    give(world, &user, "busybox");
    Some(user)
}

/// Saves `image` as root and loads it as the user; its id stays what it is.
pub(crate) fn give(world: &World, user: &Unprivileged, image: &str) {
    let tar = user.path("image.tar");
    world.ok(&["save", "-o", tar.to_str().unwrap(), image]);
    mode(&tar, 0o644);
    user.ok(&["load", "-i", tar.to_str().unwrap()]);
    assert_eq!(
        user.ok(&["images", "-q", "--no-trunc", image]),
        world.ok(&["images", "-q", "--no-trunc", image])
    );
}

/// An archive with what only root can make: device nodes, other owners, file capabilities.
fn privileged_archive() -> Vec<u8> {
    // Version 2, cap_net_raw, effective (capabilities(7)).
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut tar = tar::Builder::new(Vec::new());
    let mut entry = |name: &str, kind: tar::EntryType, change: &dyn Fn(&mut tar::Header), content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o640);
        header.set_size(content.len() as u64);
        header.set_mtime(5);
        change(&mut header);
        tar.append_data(&mut header, name, content).unwrap();
    };
    let device = |major: u32, minor: u32| {
        move |header: &mut tar::Header| {
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
            header.set_uid(7);
        }
    };
    entry("dev/null2", tar::EntryType::Char, &device(1, 3), b"");
    entry("dev/loop7", tar::EntryType::Block, &device(7, 300), b"");
    entry(
        "pipe",
        tar::EntryType::Fifo,
        &|header| header.set_uid(65_534),
        b"",
    );
    entry(
        "owned",
        tar::EntryType::Regular,
        &|header| header.set_uid(1234),
        b"x",
    );
    // A PAX record starts with its own length: two digits and a space, the key, 20 bytes, the end of the line.
    let key = b"SCHILY.xattr.security.capability=";
    let length = 3 + key.len() + capability.len() + 1;
    let record = [format!("{length} ").as_bytes(), key, capability, b"\n"].concat();
    entry("pax", tar::EntryType::XHeader, &|_| (), &record);
    entry(
        "ping",
        tar::EntryType::Regular,
        &|header| header.set_mode(0o755),
        b"program",
    );
    tar.into_inner().unwrap()
}

/// Every kind of thing that is kept in another way in a user namespace, and what needs other ids.
const DOCKERFILE: &str = r#"FROM busybox AS base
ADD privileged.tar /added/
RUN mkdir -p /opaque/sub /d && echo 1 > /opaque/a && echo 2 > /opaque/sub/b && echo 3 > /gone && \
    echo one > /d/f && ln /d/f /d/hard && ln -s f /d/soft && mkfifo /d/fifo && \
    chown -R 1000:1001 /d && chown 65534:65534 /d/f && chmod 6755 /d/f && chmod 1777 /d
RUN rm -rf /opaque /gone && mkdir /opaque && echo new > /opaque/c && chown -h 42:43 /d/soft && rm /d/fifo
RUN touch /added/owned && chmod 600 /added/dev/null2 && mv /d/hard /d/moved
COPY --chown=33:34 context/ /copied/
WORKDIR /work
USER 1000:1001
RUN id -u > /tmp/uid && id -g >> /tmp/uid
FROM base
COPY --from=base /added /again
COPY --from=base --chown=5:6 /d /e
CMD ["cat", "/tmp/uid"]
"#;

fn builds_give_the_same_bytes(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    user.write("c/Dockerfile", DOCKERFILE);
    user.write("c/privileged.tar", privileged_archive());
    user.write("c/context/file", "content\n");
    mode(&user.write("c/context/sub/script", "#!/bin/sh\n"), 0o755);
    let context = user.path("c");
    let arguments = [
        "build",
        "--progress",
        "plain",
        "-t",
        "both",
        context.to_str().unwrap(),
    ];
    let epoch =
        |mut command: Command| Ended::from(command.env("SOURCE_DATE_EPOCH", "1700000000").output().unwrap());
    ended_well(epoch(world.command(&arguments)), &arguments);
    ended_well(epoch(user.command(&arguments)), &arguments);

    let layers = ["inspect", "-f", "{{json .RootFS.Layers}}", "both"];
    assert_eq!(user.ok(&layers), world.ok(&layers));
    let id = ["images", "-q", "--no-trunc", "both"];
    assert_eq!(user.ok(&id), world.ok(&id), "the manifest");
    assert_eq!(user.ok(&["run", "--rm", "both"]), "1000\n1001");
    let look = "stat -c '%n %u:%g %a %F' /d/* /e/f /opaque/* /copied/file /added/owned /again/dev/*; ls /gone; echo $?";
    let seen = user.ok(&["run", "--rm", "-u", "0", "both", "sh", "-c", look]);
    for line in [
        "/d/f 65534:65534 6755 regular file",
        "/d/soft 42:43 777 symbolic link",
        "/e/f 5:6 6755 regular file",
        "/opaque/c 0:0 644 regular file",
        "/copied/file 33:34 644 regular file",
        "/added/owned 1234:0 640 regular file",
        "/again/dev/loop7 7:0 640 regular empty file",
    ] {
        assert!(
            seen.lines().any(|found| found == line),
            "`{line}` is missing in\n{seen}"
        );
    }
    assert!(!seen.contains("/opaque/a"), "{seen}");

    // The second time nothing runs, here too.
    let again = epoch(user.command(&arguments));
    assert_eq!(again.code, 0, "{again:?}");
    let lines: Vec<&str> = again
        .stderr
        .lines()
        .filter(|line| line.contains("CACHED"))
        .collect();
    assert!(lines.len() >= 6, "{}", again.stderr);
    assert_eq!(user.ok(&id), world.ok(&id));

    // And what the user saves is what root loads, device nodes included.
    let tar = user.path("home/saved.tar");
    user.ok(&["save", "-o", tar.to_str().unwrap(), "both"]);
    let other = World::new();
    other.ok(&["load", "-i", tar.to_str().unwrap()]);
    assert_eq!(other.ok(&id), world.ok(&id));
    assert_eq!(
        other.ok(&[
            "run",
            "--rm",
            "-u",
            "0",
            "both",
            "stat",
            "-c",
            "%u %a %F %t:%T",
            "/again/dev/null2",
            "/added/dev/loop7"
        ]),
        "7 600 character special file 1:3\n7 640 block special file 7:12c"
    );
}

fn containers(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    let run = |arguments: &[&str]| user.ok(&[&["run", "--rm"], arguments].concat());
    for (arguments, expected) in [
        (
            &["busybox", "sh", "-c", "id -u; id -g; hostname | wc -c"][..],
            "0\n0\n13",
        ),
        (&["--hostname", "named", "busybox", "hostname"], "named"),
        (
            &["-u", "nobody", "busybox", "id"],
            "uid=65534(nobody) gid=65534(nogroup) groups=65534(nogroup)",
        ),
        (
            &["-u", "5:6", "--group-add", "7", "busybox", "id"],
            "uid=5 gid=6 groups=6,7",
        ),
        (
            &[
                "--read-only",
                "busybox",
                "sh",
                "-c",
                "touch /x 2>/dev/null; echo $?",
            ],
            "1",
        ),
        (
            &[
                "busybox",
                "sh",
                "-c",
                "echo x > /dev/null && head -c 3 /dev/zero | wc -c && echo out > /dev/stdout",
            ],
            "3\nout",
        ),
        (&["busybox", "sh", "-c", "ls /sys/class/net"], "lo"),
        (
            &[
                "--network",
                "host",
                "busybox",
                "sh",
                "-c",
                "test -e /sys/class/net/lo && cat /proc/1/comm; true",
            ],
            "sh",
        ),
        (&["busybox", "sh", "-c", "mknod /node c 1 3 2>&1"], ""),
        (
            &[
                "busybox",
                "sh",
                "-c",
                "touch /sys/x /proc/sys/x 2>/dev/null; head -c 1 /proc/kcore | wc -c; ls /sys/firmware",
            ],
            "0",
        ),
        (
            &[
                "--cap-drop",
                "ALL",
                "busybox",
                "sh",
                "-c",
                "chown 5 /tmp 2>/dev/null; echo $?",
            ],
            "1",
        ),
        (
            &["--tmpfs", "/t", "busybox", "sh", "-c", "touch /t/x && ls /t"],
            "x",
        ),
        (
            &[
                "busybox",
                "sh",
                "-c",
                "ping -c 1 127.0.0.1 | grep -c '1 packets received'",
            ],
            "1",
        ),
    ] {
        let got = user.cooper(&[&["run", "--rm"], arguments].concat());
        if expected.is_empty() {
            assert_eq!(
                (got.code, got.stdout.trim_end()),
                (1, "mknod: /node: Operation not permitted"),
                "{arguments:?}"
            );
        } else {
            assert_eq!(got.stdout.trim_end(), expected, "{arguments:?}: {got:?}");
        }
    }
    // What a container writes to a bind mount belongs to the user, or to one of the user's other ids.
    let shared = user.path("home/shared");
    let bind = format!("{}:/s", shared.display());
    run(&[
        "-v",
        &bind,
        "busybox",
        "sh",
        "-c",
        "touch /s/mine /s/other && chown 1:1 /s/other",
    ]);
    let owner =
        |name: &str| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(shared.join(name)).unwrap());
    assert_eq!(owner("mine"), user.uid);
    assert!(owner("other") >= 1_500_000_000, "{}", owner("other"));

    user.ok(&[
        "run",
        "-d",
        "--name",
        "server",
        "busybox",
        "sh",
        "-c",
        "echo started; trap 'exit 9' TERM; while :; do sleep 0.1; done",
    ]);
    assert!(user.ok(&["ps"]).contains("server"));
    assert_eq!(
        user.ok(&["exec", "server", "sh", "-c", "cat /proc/1/comm; hostname | wc -c"]),
        "sh\n13"
    );
    assert_eq!(
        user.ok(&["exec", "-u", "1:2", "server", "id"]),
        "uid=1 gid=2 groups=2"
    );
    // A second one, since the supervisor cannot leave the container's PID namespace again.
    assert_eq!(user.ok(&["exec", "server", "echo", "again"]), "again");
    assert!(user.ok(&["top", "server"]).contains("while :"));
    eventually("the log", || user.ok(&["logs", "server"]) == "started");
    user.ok(&["stop", "server"]);
    assert_eq!(user.ok(&["inspect", "-f", "{{.State.ExitCode}}", "server"]), "9");
    user.ok(&["start", "server"]);
    user.ok(&["kill", "server"]);
    assert_eq!(user.ok(&["wait", "server"]), "137");
    user.ok(&[
        "run",
        "-d",
        "--network",
        "host",
        "--name",
        "hosted",
        "busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(user.ok(&["exec", "hosted", "echo", "inside"]), "inside");
    user.ok(&["rm", "-f", "hosted", "server"]);
    assert_eq!(user.ok(&["ps", "-aq"]), "");
    user.ok(&["system", "prune", "-af"]);
    assert_eq!(user.ok(&["images", "-q"]), "");

    // Root would misread the store, and whoever has other ids.
    let store = user.path("home/.local/share/cooper");
    let root = Command::new(user.path("cooper"))
        .args(["--data-root", store.to_str().unwrap(), "images"])
        .output()
        .unwrap();
    let root = Ended::from(root);
    assert!(
        root.code != 0 && root.stderr.contains("the store was made with the ids \"u 0 "),
        "{root:?}"
    );

    // Files of other ids can be deleted from inside only.
    assert!(store.join("format").exists());
    user.ok(&[
        "unshare",
        "rm",
        "-rf",
        store.to_str().unwrap(),
        shared.to_str().unwrap(),
    ]);
    assert!(!store.exists() && !shared.exists());
}

/// What an unprivileged user cannot have is said, and nothing else fails for it.
fn degrades_clearly(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    let info: serde_json::Value = serde_json::from_str(&user.ok(&["info", "-f", "json"])).unwrap();
    assert!(
        info["SecurityOptions"]
            .as_array()
            .unwrap()
            .contains(&"name=rootless".into()),
        "{info}"
    );
    if info["CgroupDriver"] != "none" {
        println!("skipped: limits of a user without cgroups, because some are delegated");
        return;
    }
    let limited = user.cooper(&["run", "--rm", "-m", "64m", "busybox", "echo", "ran"]);
    assert_eq!(
        (limited.code, limited.stdout.trim_end()),
        (0, "ran"),
        "{limited:?}"
    );
    assert!(limited.stderr.contains("No cgroups are delegated"), "{limited:?}");
    assert_eq!(user.cooper(&["run", "--rm", "busybox", "true"]).stderr, "");
    user.ok(&["run", "-d", "--name", "running", "busybox", "sleep", "1000"]);
    let pause = user.cooper(&["pause", "running"]);
    assert!(
        pause.code == 1 && pause.stderr.contains("has no cgroup"),
        "{pause:?}"
    );
    assert_eq!(
        user.ok(&["inspect", "-f", "{{.State.Status}}", "running"]),
        "running"
    );
}

fn errors_name_what_is_missing(world: &World) {
    let Some(user) = with_busybox(world) else { return };
    let context = user.path("c");
    user.write("c/file", "x");
    for (dockerfile, part) in [
        (
            "FROM busybox\nCOPY --chown=70000 file /\n",
            "user 70000 is not one of the ids of this user namespace, 0-65536",
        ),
        (
            "FROM busybox\nCOPY --chown=5:70001 file /\n",
            "group 70001 is not one of",
        ),
        (
            "FROM busybox\nUSER 70002\nRUN true\n",
            "run as user 70002: not one of the ids of this user namespace, 0-65536",
        ),
    ] {
        user.write("c/Dockerfile", dockerfile);
        let ended = user.cooper(&["build", context.to_str().unwrap()]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(
            ended.stderr.contains(part),
            "`{part}` is missing in\n{}",
            ended.stderr
        );
    }
    // An image of root's with ids that the user does not have.
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(70_003);
    header.set_size(0);
    header.set_mode(0o644);
    archive
        .append_data(&mut header, "far/away", std::io::empty())
        .unwrap();
    let archive = user.write("far.tar", archive.into_inner().unwrap());
    let import = user.cooper(&["import", archive.to_str().unwrap(), "far"]);
    assert_eq!(import.code, 1, "{import:?}");
    assert!(
        import
            .stderr
            .contains("user 70003 is not one of the ids of this user namespace, 0-65536"),
        "{import:?}"
    );

    let bare = Ended::from(
        user.program(Path::new("/usr/bin/env"))
            .arg("PATH=/nonexistent")
            .arg(user.path("cooper"))
            .arg("ps")
            .output()
            .unwrap(),
    );
    assert_eq!(bare.code, 125, "{bare:?}");
    assert!(
        bare.stderr.contains("newuidmap is not in PATH") && bare.stderr.contains("package `uidmap`"),
        "{bare:?}"
    );

    // In a namespace where no more may be made, which is a setting of each.
    let mut outer = Command::new("unshare")
        .args(["--user", "sh", "-c"])
        // Root in it has no capabilities until it executes something after the mapping is there.
        .arg("read go; exec sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --reuid=$1 --regid=$1 --clear-groups $2 ps' \"$@\"")
        .args(["sh", "sh"])
        .arg(user.uid.to_string())
        .arg(user.path("cooper"))
        .env("HOME", user.path("home"))
        .env("XDG_RUNTIME_DIR", user.path("run"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let proc = PathBuf::from(format!("/proc/{}", outer.id()));
    eventually("the namespace", || {
        std::fs::read_link(proc.join("ns/user")).is_ok_and(|found| found != namespace("self"))
    });
    for file in ["uid_map", "gid_map"] {
        std::fs::write(proc.join(file), "0 0 100000\n").unwrap();
    }
    outer.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let ended = Ended::from(outer.wait_with_output().unwrap());
    assert_eq!(ended.code, 125, "{ended:?}");
    assert!(
        ended.stderr.contains("user.max_user_namespaces is 0"),
        "{ended:?}"
    );
}

/// A user that /etc/subuid does not know has its own ids alone.
fn without_subordinate_ids(world: &World) {
    let number = 1_400_000_000 + std::process::id();
    let Some(user) = Unprivileged::of(number, number) else {
        return;
    };
    give(world, &user, "busybox");
    user.write(
        "c/Dockerfile",
        "FROM busybox\nRUN echo built > /f && rm /etc/group\nCOPY Dockerfile /c/\nCMD cat /f; id -u\n",
    );
    let context = user.path("c");
    user.ok(&["build", "-t", "single", context.to_str().unwrap()]);
    assert_eq!(user.ok(&["run", "--rm", "single"]), "built\n0");
    user.ok(&["run", "-d", "--name", "running", "busybox", "sleep", "1000"]);
    assert_eq!(user.ok(&["exec", "running", "id", "-u"]), "0");
    let other = user.cooper(&["run", "--rm", "-u", "5", "busybox", "true"]);
    assert_eq!(other.code, 125, "{other:?}");
    assert!(
        other
            .stderr
            .contains("user 5: not one of the ids of this user namespace, 0 (/etc/subuid gives more)"),
        "{other:?}"
    );
    user.write("c/Dockerfile", "FROM busybox\nCOPY --chown=5 Dockerfile /\n");
    let build = user.cooper(&["build", context.to_str().unwrap()]);
    assert!(
        build
            .stderr
            .contains("user 5 is not one of the ids of this user namespace, 0 ("),
        "{build:?}"
    );
}
