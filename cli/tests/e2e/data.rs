//! Files, images, use and limits of containers, through our command line and docker's.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, symlink};

use crate::Test;
use crate::daemon::{Daemon, run};
use crate::world::{World, tool};

pub(crate) const TESTS: &[Test] = &[
    ("data::cp", cp),
    ("data::cp_stays_inside", cp_stays_inside),
    ("data::diff_commit_export", diff_commit_export),
    ("data::stats_and_update", stats_and_update),
    ("data::docker", docker),
];

fn background(world: &World, more: &[&str], script: &str) -> String {
    let script = format!("{script}\n: >/tmp/ready; exec sleep 1000");
    let id = world.ok(&[
        &["run", "-d", "--network", "none"],
        more,
        &["busybox", "sh", "-c", &script],
    ]
    .concat());
    crate::world::eventually("a prepared container", || {
        world.cooper(&["exec", &id, "test", "-e", "/tmp/ready"]).code == 0
    });
    id
}

fn cp(world: &World) {
    let volume = world.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let bind = format!("{}:/data", volume.display());
    let id = background(
        world,
        &["-v", &bind, "-u", "65534"],
        "mkdir -p /tmp/d/e; echo content >/tmp/d/f; ln -s f /tmp/d/l",
    );
    let (file, here) = (world.write("here/file", "from here"), world.path("here"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let inside = |path: &str| format!("{id}:{path}");
    for state in ["running", "stopped"] {
        let dir = world.path(state);
        world.ok(&["cp", &inside("/tmp/d"), &text(&dir)]);
        assert_eq!(
            std::fs::read_to_string(dir.join("f")).unwrap(),
            "content\n",
            "{state}"
        );
        assert_eq!(
            std::fs::read_link(dir.join("l")).unwrap().to_str(),
            Some("f"),
            "{state}"
        );
        world.ok(&["cp", &inside("/tmp/d/."), &text(&dir)]);
        world.ok(&["cp", "-L", &inside("/tmp/d/l"), &text(&world.path("followed"))]);
        assert_eq!(
            std::fs::read_to_string(world.path("followed")).unwrap(),
            "content\n",
            "{state}"
        );
        world.ok(&["cp", &text(&file), &inside("/data/x")]);
        assert_eq!(
            std::fs::read_to_string(volume.join("x")).unwrap(),
            "from here",
            "{state}: into a volume"
        );
        std::fs::remove_file(volume.join("x")).unwrap();
        world.ok(&["cp", "-a", &text(&here), &inside(&format!("/tmp/{state}"))]);
        let tar = world
            .command(&["cp", &inside(&format!("/tmp/{state}")), "-"])
            .output()
            .unwrap()
            .stdout;
        let mut archive = tar::Archive::new(&tar[..]);
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut content = String::new();
                entry.read_to_string(&mut content).unwrap();
                let name = entry.path().unwrap().to_str().unwrap().to_owned();
                (name, entry.header().uid().unwrap(), content)
            })
            .collect();
        let expected = [
            (format!("{state}/"), 65534, String::new()),
            (format!("{state}/file"), 65534, "from here".to_owned()),
        ];
        assert_eq!(entries, expected, "{state}");
        let output = world.with_input(&["cp", "-", &inside("/tmp")], &tar);
        assert!(output.status.success(), "{output:?}");
        let refused = |arguments: &[&str], text: &str| {
            let ended = world.cooper(&[&["cp"], arguments].concat());
            assert!(
                ended.code == 1 && ended.stderr.contains(text),
                "{arguments:?}: {ended:?}"
            );
        };
        refused(
            &[&inside("/nope"), "."],
            "Could not find the file /nope in container",
        );
        refused(
            &[&text(&file), &inside("/nope/x/y")],
            "Could not find the file /nope/x in container",
        );
        refused(&[&text(&file), &inside("/nope/")], "no such directory");
        refused(&[&text(&here), &inside("/etc/passwd")], "cannot copy directory");
        refused(&["a", "b"], "must specify at least one container source");
        if state == "running" {
            world.ok(&["stop", "-t", "0", &id]);
        }
    }
    world.ok(&["start", &id]);
    assert_eq!(world.ok(&["exec", &id, "cat", "/tmp/stopped/file"]), "from here");
    let id = world.ok(&["create", "--read-only", "--network", "none", "busybox"]);
    let ended = world.cooper(&["cp", file.to_str().unwrap(), &format!("{id}:/tmp")]);
    assert!(
        ended.stderr.contains("container rootfs is marked read-only"),
        "{ended:?}"
    );
}

/// CVE-2018-15664 and CVE-2019-14271: links that change under the copy, and a hostile library, lead nowhere.
fn cp_stays_inside(world: &World) {
    let secret = world.write("secret", "secret of the host");
    let target = world.write("innocent", "copied");
    let outside = secret.parent().unwrap().to_str().unwrap().to_owned();
    let swap = format!(
        "mkdir -p /real{outside}; cd /; while :; do ln -sfn {outside} swap; rm -rf swap; mkdir swap; rm -rf swap; done &"
    );
    let id = background(world, &[], &swap);
    let link = format!("{id}:/swap/secret");
    for _ in 0..20 {
        // Which of the two it finds is chance; that it is never ours is not.
        let out = world.command(&["cp", "-L", &link, "-"]).output().unwrap();
        assert!(
            !String::from_utf8_lossy(&out.stdout).contains("secret of the host"),
            "read through a link"
        );
        world.cooper(&["cp", target.to_str().unwrap(), &link]);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret of the host");
    }
    world.ok(&["kill", &id]);
    // Out of the container: an archive cannot write through a link that stands here, either.
    let into = world.path("into");
    std::fs::create_dir(&into).unwrap();
    symlink(&outside, into.join("d")).unwrap();
    let id = background(world, &[], "mkdir /d; echo evil >/d/secret");
    world.cooper(&["cp", &format!("{id}:/d"), into.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret of the host");
}

fn diff_commit_export(world: &World) {
    let volume = world.path("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("private"), "x").unwrap();
    let bind = format!("{}:/data", volume.display());
    let id = background(
        world,
        &["-v", &bind],
        "rm /etc/group; rm -r /root; mkdir /root; mkdir /new; echo a >/new/a; ln /new/a /new/b; chmod 4755 /new/a",
    );
    let expected = "A /data\nC /etc\nD /etc/group\nA /new\nA /new/a\nA /new/b\nC /tmp\nA /tmp/ready";
    assert_eq!(world.ok(&["diff", &id]), expected);
    let flags = [
        "-m",
        "why",
        "-a",
        "Jo",
        "-c",
        "CMD [\"cat\",\"/new/b\"]",
        "-c",
        "ENV A=1",
    ];
    let image = world.ok(&[&["commit"], &flags[..], &[&id, "made:1"]].concat());
    assert!(image.starts_with("sha256:"), "{image}");
    assert_eq!(world.ok(&["run", "--rm", "--network", "none", "made:1"]), "a");
    let check = "test ! -e /etc/group && test -u /new/a && test /new/a -ef /new/b && ls /data && echo $A";
    assert_eq!(
        world.ok(&["run", "--rm", "--network", "none", "made:1", "sh", "-c", check]),
        "1"
    );
    assert_eq!(
        world.ok(&["inspect", "-f", "{{.Author}} {{.Comment}}", "made:1"]),
        "Jo why"
    );
    assert_eq!(world.ok(&["inspect", "-f", "{{.State.Status}}", &id]), "running");
    let again = world.ok(&["create", "--network", "none", "made:1"]);
    assert_eq!(world.ok(&["diff", &again]), "");
    let export = |name: &str| {
        let path = world.path(name);
        world.ok(&["export", "-o", path.to_str().unwrap(), &id]);
        std::fs::read(path).unwrap()
    };
    let (running, same) = (export("1.tar"), export("2.tar"));
    assert!(running == same, "two exports differ");
    world.ok(&["stop", "-t", "0", &id]);
    assert!(
        export("3.tar") == running,
        "the export of the stopped container differs"
    );
    let mut archive = tar::Archive::new(&running[..]);
    let names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
        .collect();
    for name in ["data/", "new/a", "new/b", "etc/hosts", "proc/"] {
        assert!(names.iter().any(|have| have == name), "{name}: {names:?}");
    }
    assert!(
        !names
            .iter()
            .any(|name| name == "data/private" || name == "etc/group"),
        "{names:?}"
    );
    assert!(world.ok(&["diff", &id]).contains("A /new"));
    let bad = world.cooper(&["commit", "-c", "RUN x", &id]);
    assert!(
        bad.stderr.contains("RUN is not a valid change command"),
        "{bad:?}"
    );
}

fn stats_and_update(world: &World) {
    let id = background(world, &["--memory", "64m"], "");
    let line = world.ok(&["stats", "--no-stream", "--format", "json", &id]);
    let stats: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(stats["ID"], id[..12]);
    assert!(
        stats["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"),
        "{stats}"
    );
    assert_ne!(stats["PIDs"], "0");
    let flags = [
        "--memory",
        "32m",
        "--memory-swap",
        "32m",
        "--pids-limit",
        "9",
        "--restart",
        "always",
    ];
    assert_eq!(world.ok(&[&["update"], &flags[..], &[&id]].concat()), id);
    let format = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(world.ok(&["inspect", "-f", format, &id]), "33554432 9 always");
    assert!(
        world
            .ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id])
            .ends_with("/ 32MiB")
    );
    world.ok(&["restart", "-t", "0", &id]);
    assert!(
        world
            .ok(&["stats", "--no-stream", "--format", "{{.MemUsage}}", &id])
            .ends_with("/ 32MiB"),
        "lost by a restart"
    );
    let refused = |flags: &[&str], text: &str| {
        let ended = world.cooper(&[&["update"], flags, &[&id]].concat());
        assert!(
            ended.code == 1 && ended.stderr.contains(text),
            "{flags:?}: {ended:?}"
        );
    };
    refused(&[], "one or more flags");
    refused(&["--memory", "1m"], "Minimum memory limit allowed is 6MB");
    refused(&["--restart", "sometimes"], "unknown policy 'sometimes'");
    refused(&["--cpuset-cpus", "4000"], "Cannot update container");
    assert_eq!(
        world.ok(&["inspect", "-f", "{{.HostConfig.CpusetCpus}}", &id]),
        ""
    );
    world.ok(&["stop", "-t", "0", &id]);
    assert_eq!(
        world.ok(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", &id]),
        "0B / 0B 0"
    );
}

fn docker(world: &World) {
    let Some(docker) = tool("docker") else { return };
    let daemon = Daemon::start(world);
    let host = daemon.host();
    let ok = |arguments: &[&str]| {
        let ended = run(&docker, &host, arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
        ended.stdout.trim_end().to_owned()
    };
    let id = background(world, &[], "mkdir /new; echo a >/new/a");
    let file = world.write("file", "from here");
    for state in ["running", "stopped"] {
        let out = world.path(state);
        ok(&["cp", &format!("{id}:/new"), out.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(out.join("a")).unwrap(), "a\n");
        ok(&["cp", "-a", file.to_str().unwrap(), &format!("{id}:/new/b")]);
        let back = world.path("back");
        ok(&["cp", &format!("{id}:/new/b"), back.to_str().unwrap()]);
        assert_eq!(std::fs::metadata(&back).unwrap().size(), 9);
        assert!(ok(&["diff", &id]).contains("A /new/b"), "{state}");
        let missing = run(&docker, &host, &["cp", &format!("{id}:/nope"), "."]);
        // Clients before 23 have their own words for a 404.
        let words = ["Could not find the file /nope", "No such container:path"];
        assert!(
            missing.code == 1 && words.iter().any(|words| missing.stderr.contains(words)),
            "{missing:?}"
        );
        let tar = world.path("export.tar");
        ok(&["export", "-o", tar.to_str().unwrap(), &id]);
        assert!(std::fs::metadata(&tar).unwrap().size() > 1 << 20);
        if state == "running" {
            assert!(ok(&["stats", "--no-stream", &id]).contains(&id[..12]));
            ok(&[
                "update",
                "--memory",
                "32m",
                "--memory-swap",
                "64m",
                "--restart",
                "no",
                &id,
            ]);
            assert_eq!(ok(&["inspect", "-f", "{{.HostConfig.Memory}}", &id]), "33554432");
            ok(&["stop", "-t", "0", &id]);
        }
    }
    ok(&["commit", "-c", "CMD [\"cat\",\"/new/b\"]", &id, "made"]);
    assert_eq!(ok(&["run", "--rm", "--network", "none", "made"]), "from here");
    // Docker's command line cuts "now" to whole seconds.
    let until = jiff::Timestamp::now().as_second() + 1;
    let events = ok(&[
        "events",
        "--since",
        "1h",
        "--until",
        &until.to_string(),
        "--filter",
        "type=container",
    ]);
    for action in ["commit", "export", "archive-path", "extract-to-dir", "update"] {
        assert!(
            events.contains(&format!("container {action} {id}")),
            "{action}: {events}"
        );
    }
}
