//! `RUN --mount` of files and tmpfs, mount points, and what ends up in the layer.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

use cooper_builder::build::Request;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("mounts::context", context),
    ("mounts::stages", stages),
    ("mounts::tmpfs", tmpfs),
    ("mounts::errors", errors),
    ("mounts::keys", keys),
    ("mounts::stubs", stubs),
    ("mounts::unchanged_copies", unchanged_copies),
];

/// What RUN writes with these flags, in a stage with WORKDIR /w.
fn output(world: &World, flags: &str, command: &str) -> String {
    let dockerfile = format!("FROM busybox\nWORKDIR /w\nRUN {flags} {command}\n");
    world.build(&dockerfile).1.output()
}

fn context() {
    for plain in [true, false] {
        let world = World::new();
        world.write("sub/f", "one");
        world.write("hidden", "no");
        std::fs::set_permissions(
            world.context().join("sub"),
            std::fs::Permissions::from_mode(0o750),
        )
        .unwrap();
        symlink("/etc/passwd", world.context().join("link")).unwrap();
        symlink("../../../../../etc", world.context().join("up")).unwrap();
        if !plain {
            // Files of another owner, some of them ignored: what is mounted is a copy.
            world.write(".dockerignore", "hidden\n");
            chown(world.context().join("sub/f"), Some(1234), Some(5)).unwrap();
        }
        let shown = output(
            &world,
            "--mount=target=/c",
            "stat -c '%n %a %u:%g' /c/sub /c/sub/f; cat /c/sub/f",
        );
        assert_eq!(shown, "/c/sub 750 0:0\n/c/sub/f 644 0:0\none", "{plain}");
        let hidden = output(
            &world,
            "--mount=target=.",
            "ls hidden 2>/dev/null || echo none; pwd",
        );
        assert_eq!(hidden, if plain { "hidden\n/w\n" } else { "none\n/w\n" });
        let one = output(
            &world,
            "--mount=type=bind,src=sub/../sub/./f,dst=a/b",
            "cat /w/a/b",
        );
        assert_eq!(one, "one");
        let refused = output(
            &world,
            "--mount=target=/c,ro",
            "sh -c 'echo > /c/sub/new || echo refused' 2>/dev/null",
        );
        assert_eq!(refused, "refused\n");
        let flags = "--mount=target=/c,rw,source=/sub";
        let written = output(
            &world,
            flags,
            "sh -c 'echo two > /c/f; rm -f /c/none; echo > /c/new; cat /c/f; ls /c'",
        );
        assert_eq!(written, "two\nf\nnew\n", "{plain}");
        assert_eq!(
            std::fs::read_to_string(world.context().join("sub/f")).unwrap(),
            "one"
        );
        assert!(!world.context().join("sub/new").exists());
        // Links are followed inside the context, where there is no /etc.
        for source in ["link", "up/passwd", "../../../etc/passwd", "up"] {
            let request = world.request(&format!(
                "FROM busybox\nRUN --mount=target=/x,source={source} cat /x\n"
            ));
            let error = world.run(&request).error();
            assert!(
                error.contains("not found") && error.contains("Dockerfile:2:"),
                "{source}: {error}"
            );
        }
        world.assert_clean();
    }
}

fn stages() {
    let world = World::new();
    let build = |other: &str, wanted: &str, mount: &str| {
        let dockerfile = format!(
            "FROM busybox AS files\nRUN mkdir -p /d/sub && echo {wanted} > /d/sub/f && ln -s /d/sub /link && echo {other} > /other\n\
             FROM busybox\nRUN --mount=from=files,{mount} cat /m/f && (echo new > /m/g; ls /m) 2>/dev/null; true\n"
        );
        let (_, outcome) = world.build(&dockerfile);
        let ran = outcome.executed().iter().any(|step| step.contains("--mount"));
        (outcome.output().replace('\n', " "), ran)
    };
    for mount in ["source=/d/sub,target=/m", "src=link,target=/m,rw"] {
        let listed = if mount.ends_with("rw") { "f g" } else { "f" };
        let expected = |word: &str| (format!("{word} {listed} "), true);
        assert_eq!(build("1", "a", mount), expected("a"), "{mount}");
        // What is not mounted does not count; what is does.
        assert_eq!(build("2", "a", mount), (String::new(), false), "{mount}");
        assert_eq!(build("2", "b", mount), expected("b"), "{mount}");
        assert_eq!(build("1", "a", mount), (String::new(), false), "{mount}");
    }
    world.add_base("other", cooper_registry::oci::RunConfig::default());
    for (mount, command, expected) in [
        ("from=other,target=/m", "ls -d /m/bin", "/m/bin\n"),
        ("from=scratch,target=/m", "ls -A /m", ""),
        (
            "from=scratch,target=/m,rw",
            "sh -c 'echo a > /m/b; cat /m/b'",
            "a\n",
        ),
        (
            "from=other,source=/bin/busybox,target=/tool",
            "sh -c 'test -x /tool && echo yes'",
            "yes\n",
        ),
        (
            "from=0,target=/m,source=/etc/group",
            "sh -c 'wc -c < /m || busybox wc -c /m'",
            "",
        ),
    ] {
        let dockerfile = format!("FROM busybox\nFROM busybox\nRUN --mount={mount} {command}\n");
        let outcome = world.build(&dockerfile).1.output();
        assert!(outcome == expected || expected.is_empty(), "{mount}: {outcome}");
    }
    world.assert_clean();
}

fn tmpfs() {
    let world = World::new();
    let shown = output(
        &world,
        "--mount=type=tmpfs,target=/t --mount=type=tmpfs,target=/s,size=64k --mount=type=tmpfs,target=/r,ro",
        "sh -c 'stat -c %a:%u /t; cp /bin/busybox /t/busybox; /t/busybox echo runs; dd if=/dev/zero of=/s/a bs=128k count=1 2>/dev/null || echo full; echo > /r/a || echo ro' 2>/dev/null",
    );
    assert_eq!(shown, "1777:0\nruns\nfull\nro\n");
    world.assert_clean();
}

/// Texts are BuildKit's; each has the place of the option.
fn errors() {
    let world = World::new();
    for (mount, column, message) in [
        ("type=cache,target=/", 30, "invalid mount target \"/\""),
        ("target=/..", 19, "invalid mount target \"/\""),
        ("type=bond,target=/x", 17, "unsupported mount type \"bond\""),
        ("type=bond,target=/x", 17, "did you mean bind?"),
        ("target=/x,sorce=a", 22, "unexpected key 'sorce' in 'sorce=a'"),
        ("target=/x,sorce=a", 22, "did you mean source?"),
        (
            "target=/x,size=1k",
            22,
            "unexpected key 'size' for mount type 'bind'",
        ),
        (
            "target=/x,mode=7",
            22,
            "mode not allowed for \"bind\" type mounts",
        ),
        ("type=tmpfs,target=/x,size=abc", 38, "invalid value for size: abc"),
        (
            "type=cache,target=/x,sharing=shard",
            41,
            "unsupported sharing value \"shard\"",
        ),
        (
            "type=secret",
            12,
            "invalid secret mount. one of source, target required",
        ),
        ("type=secret,id=a,source=b", 12, "both source and id can't be set"),
        (
            "type=secret,id=a,from=b",
            29,
            "secret mount should not have a from",
        ),
        (
            "type=secret,id=a,sharing=locked",
            29,
            "secret mount should not define sharing",
        ),
        ("type=ssh,source=x", 28, "ssh does not support source"),
        (
            "target=/x,from=$a",
            27,
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "target=/x,foo",
            22,
            "invalid field 'foo' must be a key=value pair",
        ),
        (
            "target=/x,required",
            22,
            "unexpected key 'required' for mount type 'bind'",
        ),
        (
            "type=cache,target=/x,mode=0999",
            38,
            "invalid value 0999 for mode",
        ),
        ("target=/x,ro=maybe", 25, "invalid value for ro: maybe"),
        ("target=/x,from=later", 27, "later"),
        ("type=cache,target=/x,source=/y", 40, "needs from"),
        ("target=${x:?nox}", 19, "nox"),
    ] {
        let dockerfile = format!(
            "FROM busybox\nRUN --mount={mount} true\nFROM busybox AS later\nFROM scratch\nCOPY --from=0 / /\n"
        );
        let error = world.run(&world.request(&dockerfile)).error();
        assert!(error.contains(message), "{mount}: {error}");
        assert!(
            error.contains(&format!("Dockerfile:2:{}", column + 1)),
            "{mount}: {error}"
        );
    }
    // Any order of options, and expansion of their values.
    world.write("f", "x");
    let dockerfile = "FROM busybox\nARG T=/v/t S=f\nRUN --mount=required=false,id=$S,type=secret --mount=target=$T,source=${S} cat /v/t\n";
    assert_eq!(world.build(dockerfile).1.output(), "x");
    world.assert_clean();
}

/// Which changes of a RUN are found in the cache.
fn keys() {
    let world = World::new();
    world.write("a/f", "1");
    world.write("b/f", "1");
    let first = "--mount=type=bind,source=a,target=/x --mount=type=cache,target=/c,id=one --mount=type=tmpfs,target=/t --mount=type=secret,id=s";
    let ran = |flags: &str, change: &dyn Fn(&mut Request)| {
        let mut request = world.request(&format!("FROM busybox\nRUN {flags} true\n"));
        change(&mut request);
        let (_, outcome) = world.build_request(&request);
        !outcome.executed().is_empty()
    };
    let same: &dyn Fn(&mut Request) = &|_| {};
    assert!(ran(first, same));
    for (from, to, miss) in [
        ("", "", false),
        ("source=a", "source=b", false),
        ("id=one", "id=two", false),
        ("id=one", "id=one,sharing=locked", false),
        ("target=/c,id=one", "target=/c", true),
        ("target=/c", "target=/d", true),
        ("target=/c", "target=/c,ro", true),
        ("target=/x", "target=/y", true),
        ("target=/x", "target=/x,rw", true),
        ("target=/t", "target=/t,size=1m", true),
        ("id=s", "id=s,mode=0444", true),
        ("id=s", "id=s,env=S", true),
        ("id=s", "id=other", true),
    ] {
        assert_eq!(ran(&first.replacen(from, to, 1), same), miss, "{from} -> {to}");
    }
    let base = |request: &mut Request| {
        request.extra_hosts = vec![("h".to_owned(), "10.0.0.1".to_owned())];
        request.ulimits = vec![("nofile".to_owned(), 100, 200)];
        request.shm_size = Some(1 << 20);
    };
    assert!(ran(first, &base));
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Request), bool);
    let changes: [Change<'_>; 6] = [
        (
            "host address",
            &|request| request.extra_hosts[0].1 = "10.0.0.2".to_owned(),
            false,
        ),
        (
            "memory",
            &|request| request.resources.memory = Some(64 << 20),
            false,
        ),
        (
            "host name",
            &|request| request.extra_hosts[0].0 = "i".to_owned(),
            true,
        ),
        ("ulimit", &|request| request.ulimits[0].1 = 101, true),
        ("shm size", &|request| request.shm_size = Some(2 << 20), true),
        (
            "cgroup parent",
            &|request| request.cgroup_parent = Some("/cooper-test".to_owned()),
            true,
        ),
    ];
    for (what, change, miss) in changes {
        let both = |request: &mut Request| {
            base(request);
            change(request);
        };
        assert_eq!(ran(first, &both), miss, "{what}");
    }
    world.write("a/f", "2");
    assert!(ran(first, same));
    world.assert_clean();
}

/// A step that changes nothing gives an empty layer, whatever was mounted where; what it changes stays.
fn stubs() {
    let world = World::new();
    let mut world = world;
    world.secrets.insert("s".to_owned(), b"x".to_vec());
    let flags = "--mount=type=secret,id=s --mount=type=secret,id=s,target=/a/b/c --mount=type=cache,target=/root/.cache/x/y --mount=type=tmpfs,target=/new/tmp --mount=type=bind,target=/etc/deep/er";
    let dockerfile = format!("FROM busybox\nRUN {flags} true\n");
    let (image, _) = world.build(&dockerfile);
    assert_eq!(world.layer(&image, 0), Vec::<String>::new());
    let (image, _) = world.build(&format!(
        "FROM busybox\nRUN {flags} echo kept > /a/file && touch -d @5 /etc/mine\n"
    ));
    let names: Vec<String> = world
        .layer(&image, 0)
        .into_iter()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a", "a/file", "etc", "etc/mine"]);
    // A parent that was changed besides has its new time.
    for command in ["touch /etc/mine", "sh -c 'touch /etc/mine; rm /etc/mine'"] {
        let before = std::time::SystemTime::now();
        let (image, _) = world.build(&format!("FROM busybox\nRUN {flags} {command}\n"));
        let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(mtime(&world, &image, "etc"));
        assert!(changed + std::time::Duration::from_secs(1) > before, "{command}");
    }
    let (image, _) = world.build(&format!("FROM busybox\nRUN {flags} chmod 700 /etc\n"));
    assert_eq!(mtime(&world, &image, "etc"), 1_000_000_000);
    world.assert_clean();
}

/// Time of an entry of the topmost layer.
fn mtime(world: &World, image: &cooper_registry::store::Image, name: &str) -> u64 {
    let id = image.config.rootfs.diff_ids.last().unwrap();
    let mut archive = tar::Archive::new(world.store.open_blob(id.digest(), 0).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let entry = entries.find(|entry| entry.path().unwrap().to_str().unwrap().trim_end_matches('/') == name);
    entry.unwrap().header().mtime().unwrap()
}

/// Files that were copied up and did not change are not in the layer.
fn unchanged_copies() {
    let world = World::new();
    for (command, expected) in [
        ("chmod 644 /etc/passwd", &[][..]),
        ("chown 0:0 /etc/passwd /etc /bin/busybox", &[]),
        ("sh -c 'exec 3<>/etc/passwd'", &[]),
        (
            "sh -c 'chmod 755 /etc && echo > /etc/x && rm /etc/x && touch -d @1000000000 /etc'",
            &[],
        ),
        (
            "sh -c 'cp -p /etc/passwd /tmp/p && mv /tmp/p /etc/passwd && touch -d @1000000000 /etc /tmp'",
            &[],
        ),
        (
            "sh -c 'chmod 644 /etc/passwd; chmod 600 /etc/group'",
            &["etc", "etc/group"],
        ),
        ("touch /etc/passwd", &["etc", "etc/passwd"]),
        (
            "sh -c 'sed -i s/root/toor/ /etc/group; touch -d @1000000000 /etc/group'",
            &["etc", "etc/group"],
        ),
        (
            "sh -c 'rm -r /root && mkdir /root && echo > /root/only'",
            &["root", "root/.wh..wh..opq", "root/only"],
        ),
    ] {
        let (image, _) = world.build(&format!("FROM busybox\nRUN {command}\n"));
        let names: Vec<String> = world
            .layer(&image, 0)
            .into_iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect();
        assert_eq!(names, expected, "{command}");
    }
    world.assert_clean();
}
