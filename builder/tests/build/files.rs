//! COPY and ADD: what goes where, and what must not.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("deep", deep),
    ("destinations", destinations),
    ("refused", refused),
    ("attributes", attributes),
    ("archives", archives),
];

fn world() -> World {
    let world = World::new();
    world.write("f", "F");
    world.write("d/g", "G");
    world.write("sub/f", "other");
    world.write("d/e/h", "H");
    world.write("hidden/x", "X");
    world.write("hidden/seen", "S");
    world.write(".dockerignore", "hidden\n!hidden/seen\n");
    symlink("d", world.context().join("link")).unwrap();
    symlink("../../../../f", world.context().join("up")).unwrap();
    symlink("/etc/passwd", world.context().join("out")).unwrap();
    fs::hard_link(world.context().join("f"), world.context().join("d/hard")).unwrap();
    fs::hard_link(world.context().join("f"), world.context().join("d/again")).unwrap();
    world
}

/// The files of the topmost layer, without directories that only carry them.
fn destinations() {
    let world = world();
    let cases: &[(&str, &[&str])] = &[
        ("COPY f /new", &["new 644 0:0 \"F\""]),
        ("COPY f /new/", &["new/f 644 0:0 \"F\""]),
        ("COPY f /tmp", &["tmp/f 644 0:0 \"F\""]),
        ("COPY ../../f /a/../b", &["b 644 0:0 \"F\""]),
        ("COPY up /b", &["b 644 0:0 \"F\""]),
        ("COPY link/g /b", &["b 644 0:0 \"G\""]),
        (
            "COPY link /b",
            &[
                "b/again 644 0:0 \"F\"",
                "b/e/h 644 0:0 \"H\"",
                "b/g 644 0:0 \"G\"",
                "b/hard 644 0:0 = b/again",
            ],
        ),
        ("COPY hidden /b", &["b/seen 644 0:0 \"S\""]),
        ("COPY hidde? /b", &["b/seen 644 0:0 \"S\""]),
        // The first f is replaced before another name of its inode is copied.
        (
            "COPY f d/g sub/f d/hard /b/",
            &[
                "b/f 644 0:0 \"other\"",
                "b/g 644 0:0 \"G\"",
                "b/hard 644 0:0 \"F\"",
            ],
        ),
        ("COPY none* /b", &[]),
        (
            "COPY d/* /b/",
            &[
                "b/again 644 0:0 \"F\"",
                "b/g 644 0:0 \"G\"",
                "b/h 644 0:0 \"H\"",
                "b/hard 644 0:0 = b/again",
            ],
        ),
        ("COPY [\"f\", \"/with space\"]", &["with space 644 0:0 \"F\""]),
        ("WORKDIR /w\nCOPY f .", &["w/f 644 0:0 \"F\""]),
        ("ENV D=/x S=f\nCOPY $S ${D}/y", &["x/y 644 0:0 \"F\""]),
        (
            "RUN ln -s /etc /to-etc\nCOPY f /to-etc/new",
            &["etc/new 644 0:0 \"F\""],
        ),
        (
            "RUN ln -s ../../../../new/deep /dangling\nCOPY f /dangling/",
            &["new/deep/f 644 0:0 \"F\""],
        ),
        (
            "RUN ln -s /target /bin/l\nCOPY f /bin/l",
            &["target 644 0:0 \"F\""],
        ),
        (
            "RUN mkdir /q && ln -s /etc/passwd /q/f\nCOPY f /q/",
            &["q/f 644 0:0 \"F\""],
        ),
        ("COPY --chown=user:extra f /o", &["o 644 1000:2000 \"F\""]),
        ("COPY --chown=user f /o", &["o 644 1000:1001 \"F\""]),
        ("COPY --chown=5 --chmod=4711 f /o", &["o 4711 5:5 \"F\""]),
        (
            "COPY --from=0 /etc/group /g",
            &["g 644 0:0 \"root:x:0:\\nuser:x:1001:\\nextra:x:2000:user\\n\""],
        ),
        (
            "COPY --from=busybox /etc/group /g",
            &["g 644 0:0 \"root:x:0:\\nuser:x:1001:\\nextra:x:2000:user\\n\""],
        ),
    ];
    for (instructions, expected) in cases {
        let (image, _) = world.build(&format!("FROM busybox AS zero\nFROM busybox\n{instructions}\n"));
        let files: Vec<String> = world
            .layer(&image, 0)
            .into_iter()
            .filter(|entry| !entry.ends_with(" dir"))
            .collect();
        assert_eq!(files, *expected, "{instructions}");
    }
    world.assert_clean();
}

/// Errors have their place in the Dockerfile; nothing is left behind.
fn refused() {
    let world = world();
    for (instruction, place, message) in [
        ("COPY nosuch /", "2:6", "\"/nosuch\": not found"),
        ("COPY out /", "2:6", "\"/out\": not found"),
        ("COPY f hidden/x /d/", "2:8", "\"/hidden/x\": not found"),
        ("COPY f/x /d/", "2:6", "\"/f/x\": not found"),
        (
            "COPY d /etc/passwd",
            "2:1",
            "cannot copy to non-directory: /etc/passwd",
        ),
        ("COPY f /etc/passwd/x", "2:1", "/etc/passwd/x: not a directory"),
        (
            "COPY d/g /tmp/\nRUN mkdir /tmp/f\nCOPY f /tmp",
            "4:1",
            "cannot replace directory /tmp/f with a file",
        ),
        (
            "COPY --chown=nosuch f /",
            "2:1",
            "no user nosuch in the image's /etc/passwd",
        ),
        ("COPY --chmod=u+q f /", "2:14", "invalid chmod parameter: \"u+q\""),
        ("COPY --from=nosuch f /", "1:", "nosuch"),
        (
            "COPY https://example.com/x /",
            "2:6",
            "source can't be a URL for COPY",
        ),
        (
            "RUN --network=host true",
            "2:",
            "network.host is not allowed for this build",
        ),
        ("EXPOSE nope", "2:8", "invalid containerPort: nope"),
        ("STOPSIGNAL NOPE", "2:12", "invalid signal: NOPE"),
    ] {
        let error = world
            .run(&world.request(&format!("FROM busybox\n{instruction}\n")))
            .error();
        assert!(error.contains(message), "{instruction}: {error}");
        if place != "1:" {
            assert!(
                error.contains(&format!("Dockerfile:{place}")),
                "{instruction}: {error}"
            );
        }
    }
    world.assert_clean();
}

/// Ownership, special modes, links, sparse files and attributes survive from stage to stage.
fn attributes() {
    let world = world();
    let dockerfile = "FROM busybox AS a\nRUN mkdir -p /t/sub && cd /t && echo x > f && chown 7:8 f && chmod 6755 f && ln f hard && ln -s f soft && chmod 1777 sub && touch -d @1000 f && touch -d @2000 sub\nFROM busybox\nCOPY --from=a /t /t\n";
    let (image, _) = world.build(dockerfile);
    let expected = [
        "t 755 0:0 dir",
        "t/f 6755 7:8 \"x\\n\"",
        "t/hard 6755 7:8 = t/f",
        "t/soft 777 0:0 -> f",
        "t/sub 1777 0:0 dir",
    ];
    assert_eq!(world.layer(&image, 0), expected);
    let layer = world
        .store
        .layer(&image.config.rootfs.diff_ids[1])
        .unwrap()
        .unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(layer.tree.join("t/f")).unwrap().mtime(), 1000);
    assert_eq!(fs::metadata(layer.tree.join("t/sub")).unwrap().mtime(), 2000);

    let sparse = fs::File::create(world.context().join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 30) - 3).unwrap();
    drop(sparse);
    world.write(".dockerignore", "");
    let (image, _) = world.build("FROM scratch\nCOPY sparse /\n");
    let layer = world
        .store
        .layer(&image.config.rootfs.diff_ids[0])
        .unwrap()
        .unwrap();
    let copied = fs::metadata(layer.tree.join("sparse")).unwrap();
    assert_eq!(copied.size(), 1 << 30);
    assert!(copied.blocks() < 1000, "{}", copied.blocks());
}

/// ADD extracts tars and copies what only looks like one.
fn archives() {
    let world = World::new();
    world.write("in/a", "A");
    world.write("plain.tar", "not a tar");
    let tar = |args: &[&str]| {
        let status = Command::new("tar")
            .args(args)
            .current_dir(world.context())
            .status()
            .unwrap();
        assert!(status.success());
    };
    tar(&["--owner=5", "--group=6", "--numeric-owner", "-cf", "x.tar", "in"]);
    tar(&["--owner=5", "--group=6", "--numeric-owner", "-czf", "x.tgz", "in"]);
    for (instruction, expected) in [
        ("ADD x.tar /t", "t/in/a 644 5:6 \"A\""),
        ("ADD x.tgz /t/", "t/in/a 644 5:6 \"A\""),
        ("ADD --chown=7:7 x.tgz /t/", "t/in/a 644 7:7 \"A\""),
        ("ADD plain.tar /t", "t 644 0:0 \"not a tar\""),
        ("ADD in /t", "t/a 644 0:0 \"A\""),
        ("ADD --unpack=false x.tar /t", "t 644 0:0 10240 bytes"),
        ("COPY x.tar /t", "t 644 0:0 10240 bytes"),
    ] {
        let (image, _) = world.build(&format!("FROM busybox\n{instruction}\n"));
        let files = world.layer(&image, 0);
        assert!(
            files.iter().any(|entry| entry == expected),
            "{instruction}: {files:?}"
        );
    }
}

/// Paths that no container could name are refused by every instruction that makes directories; trees that RUN has made
/// deeper than that can be measured and removed.
fn deep() {
    let world = World::new();
    world.write("f", "f");
    let path = "/a".repeat(5000);
    for dockerfile in [
        format!("FROM busybox\nWORKDIR {path}\n"),
        format!("FROM busybox\nCOPY f {path}/\n"),
        format!("FROM busybox\nCOPY --link f {path}/\n"),
        format!("FROM busybox\nCOPY <<f {path}/\nx\nf\n"),
    ] {
        let error = world.run(&world.request(&dockerfile)).error();
        assert!(error.contains("Dockerfile:2:1") && error.len() < 4096, "{error}");
    }
    let error = world.run(&world.request("FROM busybox\nCOPY <<../../etc/x /d/\nx\n../../etc/x\n"));
    let error = error.error();
    assert!(
        error.contains("invalid inline file name") && error.contains("Dockerfile:2:1"),
        "{error}"
    );
    let path = "/a".repeat(2000);
    world.build(&format!("FROM busybox\nWORKDIR {path}\nRUN touch f\nCOPY f g\n"));
    let deep = "RUN i=0; while [ $i -lt 1000 ]; do mkdir -p a/a/a && cd a/a/a || break; i=$((i+1)); done";
    world.build(&format!("FROM busybox\n{deep}\n"));
    assert!(world.store.usage().unwrap().total_bytes > 12 << 20);
    world.assert_clean();
}
