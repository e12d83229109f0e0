//! `--link`, `--parents`, `--exclude`, `--chmod`, archives, and what the one-pass writer must not change.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::world::{Test, World, set_mtime};

pub(crate) const TESTS: &[Test] = &[
    ("flags", flags),
    ("link_survives_a_new_base", link_survives_a_new_base),
    ("compressed_archives", compressed_archives),
    ("unusual_files", unusual_files),
    ("clamped_while_writing", clamped_while_writing),
    ("big_layer", big_layer),
];

fn world() -> World {
    let world = World::new();
    for (path, text) in [
        ("a.txt", "A"),
        ("b.md", "B"),
        ("d/x.txt", "X"),
        ("d/e/y.txt", "Y"),
        ("d/e/z.md", "Z"),
        ("d/run", "R"),
        ("p/q/one.txt", "1"),
        ("p/two.txt", "2"),
    ] {
        world.write(path, text);
    }
    for (path, mode) in [
        ("d/e", 0o700),
        ("d/run", 0o750),
        ("b.md", 0o600),
        ("p", 0o711),
        ("p/q", 0o711),
    ] {
        fs::set_permissions(world.context().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("d", world.context().join("to-d")).unwrap();
    world
}

/// Layers as BuildKit makes them; where its documentation marks a trap, our choice.
fn flags() {
    let world = world();
    let cases: &[(&str, &[&str])] = &[
        // A file that is copied by itself is never excluded.
        (
            "COPY --exclude=a.txt a.txt b.md /o/",
            &["o 755", "o/a.txt 644", "o/b.md 600"],
        ),
        ("COPY --exclude=*.txt *.txt /o/", &["o 755", "o/a.txt 644"]),
        (
            "COPY --exclude=d/e d /o/",
            &[
                "o 755",
                "o/e 700",
                "o/e/y.txt 644",
                "o/e/z.md 644",
                "o/run 750",
                "o/x.txt 644",
            ],
        ),
        ("COPY --exclude=e d /o/", &["o 755", "o/run 750", "o/x.txt 644"]),
        (
            "COPY --exclude=e --exclude=!e/y.txt d /o/",
            &["o 755", "o/e 700", "o/e/y.txt 644", "o/run 750", "o/x.txt 644"],
        ),
        (
            "COPY --exclude=**/*.txt --exclude=run d /o/",
            &["o 755", "o/e 700", "o/e/z.md 644"],
        ),
        (
            "COPY --parents p/q/one.txt /o/",
            &["o 755", "o/p 711", "o/p/q 711", "o/p/q/one.txt 644"],
        ),
        (
            "COPY --parents p/./q/one.txt /o/",
            &["o 755", "o/q 711", "o/q/one.txt 644"],
        ),
        (
            "COPY --parents ./p/q /o/",
            &["o 755", "o/p 711", "o/p/q 711", "o/p/q/one.txt 644"],
        ),
        (
            "COPY --parents d/**/*.txt /o/",
            &[
                "o 755",
                "o/d 755",
                "o/d/e 700",
                "o/d/e/y.txt 644",
                "o/d/x.txt 644",
            ],
        ),
        (
            "COPY --parents **/*.md /o/",
            &["o 755", "o/b.md 600", "o/d 755", "o/d/e 700", "o/d/e/z.md 644"],
        ),
        (
            "COPY --parents to-d/./e/y* /o/",
            &["o 755", "o/e 700", "o/e/y.txt 644"],
        ),
        (
            "COPY --parents --exclude=**/one.txt p /o/",
            &["o 755", "o/p 711", "o/p/q 711", "o/p/two.txt 644"],
        ),
        ("COPY --parents none* d/none/** /o/", &[]),
        (
            "COPY --chmod=u=rwX,go=rX d /o/",
            &[
                "o 755",
                "o/e 755",
                "o/e/y.txt 644",
                "o/e/z.md 644",
                "o/run 755",
                "o/x.txt 644",
            ],
        ),
        (
            "COPY --chmod=+x a.txt /new/par/",
            &["new 755", "new/par 755", "new/par/a.txt 755"],
        ),
        // An octal mode is given to the directories that are made, too.
        (
            "COPY --chmod=644 a.txt /new/par/",
            &["new 644", "new/par 644", "new/par/a.txt 644"],
        ),
        (
            "COPY --chmod=g+w d/e /tmp",
            &["tmp 755", "tmp/y.txt 664", "tmp/z.md 664"],
        ),
        ("COPY --chmod=u+s,o= <<F /h/\nx\nF", &["h 755", "h/F 4640"]),
        (
            "COPY --chmod=700 --chown=1:2 <<F /h/\nx\nF",
            &["h 700", "h/F 700"],
        ),
        (
            "COPY --link a.txt b.md /l/",
            &["l 755", "l/a.txt 644", "l/b.md 600"],
        ),
        ("COPY --link --chmod=600 a.txt /l/", &["l 600", "l/a.txt 600"]),
        // The base's directories keep their attributes.
        (
            "RUN chmod 1777 /tmp\nCOPY --link --chmod=600 a.txt /tmp/x/",
            &["tmp 1777", "tmp/x 600", "tmp/x/a.txt 600"],
        ),
        // Nothing in the base says where the file goes: no link is followed, no directory makes it go inside.
        (
            "RUN ln -s /etc /to-etc\nCOPY --link a.txt /to-etc/",
            &["to-etc 755", "to-etc/a.txt 644"],
        ),
        ("COPY --link a.txt /root", &["root 644"]),
        (
            "COPY --link --exclude=e d /root",
            &["root 755", "root/run 750", "root/x.txt 644"],
        ),
        (
            "COPY --link --parents p/q/one.txt /etc/",
            &["etc 755", "etc/p 711", "etc/p/q 711", "etc/p/q/one.txt 644"],
        ),
    ];
    for (instructions, expected) in cases {
        let (image, _) = world.build(&format!("FROM busybox\n{instructions}\n"));
        let entries: Vec<String> = world
            .layer(&image, 0)
            .iter()
            .map(|entry| entry.split(' ').take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(entries, *expected, "{instructions}");
    }
    for (instruction, expected) in [
        ("COPY --parents p/nosuch /o/", "\"/p/nosuch\": not found"),
        ("COPY --parents nosuch/./p /o/", "\"/nosuch/p\": not found"),
        ("COPY --exclude=[ . /o/", "invalid exclude pattern \"[\""),
        ("COPY --link --chown=nosuch a.txt /o/", "no user nosuch"),
        ("COPY --chmod=rwx a.txt /o/", "invalid chmod parameter: \"rwx\""),
    ] {
        let error = world
            .run(&world.request(&format!("FROM busybox\n{instruction}\n")))
            .error();
        assert!(
            error.contains(expected) && error.contains("Dockerfile:2:"),
            "{instruction}: {error}"
        );
    }
    // The history is what BuildKit writes.
    let (image, _) = world.build(
        "FROM scratch\nCOPY --link --exclude=z* --chmod=600 --chown=1:2 a.txt /o/\nADD --link --unpack=false a.txt /q/\n",
    );
    let history: Vec<&str> = image
        .config
        .history
        .iter()
        .map(|entry| entry.created_by.as_str())
        .collect();
    assert_eq!(
        history,
        [
            "COPY --chown=1:2 --chmod=600 a.txt /o/ # buildkit",
            "ADD a.txt /q/ # buildkit"
        ]
    );
    world.assert_clean();
}

/// The layer of a linked copy is found again on another base, unless that base changes what the layer says.
fn link_survives_a_new_base() {
    let world = world();
    let dockerfile = |run: &str, chown: &str| {
        format!("FROM busybox\nRUN {run}\nCOPY --link {chown} a.txt /tmp/linked/\nCOPY a.txt /tmp/plain\n")
    };
    let (first, _) = world.build(&dockerfile("echo 1 > /one", "--chown=user"));
    for (run, chown, linked) in [
        ("echo 2 > /two", "--chown=user", false),
        // A name that means the same, and a number.
        (
            "echo user2:x:1000:1001::/: >> /etc/passwd",
            "--chown=user2",
            false,
        ),
        ("echo 3 > /three", "--chown=1000:1001", false),
        ("chmod 1777 /tmp", "--chown=user", true),
        ("sed -i s/1001/7/ /etc/passwd", "--chown=user", true),
    ] {
        let (image, outcome) = world.build(&dockerfile(run, chown));
        let executed = outcome
            .executed()
            .iter()
            .any(|name| name.starts_with("COPY --link"));
        assert_eq!(executed, linked, "{run}");
        let layer = |image: &cooper_registry::store::Image| image.config.rootfs.diff_ids[2].clone();
        assert_eq!(layer(&image) == layer(&first), !linked, "{run}");
        assert!(
            outcome
                .executed()
                .iter()
                .any(|name| name.starts_with("COPY a.txt")),
            "{run}"
        );
    }
    world.assert_clean();
}

/// All compressions are unpacked; what is broken from its start on is a file, what breaks later is an error.
fn compressed_archives() {
    let world = World::new();
    world.write("in/a", "A");
    for (name, flag) in [("t.tar", ""), ("t.gz", "z"), ("t.bz2", "j"), ("t.xz", "J")] {
        let status = Command::new("tar")
            .args([&format!("-c{flag}f"), name, "--owner=5", "--group=6", "in"])
            .current_dir(world.context())
            .status()
            .unwrap();
        assert!(status.success(), "{name}");
    }
    let plain = fs::read(world.context().join("t.tar")).unwrap();
    fs::write(
        world.context().join("t.zst"),
        zstd::encode_all(plain.as_slice(), 3).unwrap(),
    )
    .unwrap();
    for (name, magic) in [
        ("b.gz", &b"\x1f\x8b\x08"[..]),
        ("b.bz2", b"BZh9"),
        ("b.xz", b"\xfd7zXZ\0"),
        ("b.zst", b"\x28\xb5\x2f\xfd"),
    ] {
        fs::write(world.context().join(name), [magic, b"not really"].concat()).unwrap();
    }
    for name in ["t.tar", "t.gz", "t.bz2", "t.xz", "t.zst"] {
        let (image, _) = world.build(&format!("FROM busybox\nADD --chmod=700 {name} /o\n"));
        // The mode of an archive's files is not changed, as in BuildKit.
        assert!(
            world
                .layer(&image, 0)
                .contains(&"o/in/a 644 5:6 \"A\"".to_owned()),
            "{name}"
        );
    }
    for name in ["b.gz", "b.bz2", "b.xz", "b.zst"] {
        let (image, _) = world.build(&format!("FROM scratch\nADD {name} /o\n"));
        assert!(world.layer(&image, 0)[0].starts_with("o 644 0:0"), "{name}");
    }
    let mut cut = plain;
    cut.truncate(1024);
    fs::write(world.context().join("cut.tar"), cut).unwrap();
    let error = world
        .run(&world.request("FROM scratch\nADD cut.tar /o\n"))
        .error();
    assert!(error.contains("Dockerfile:2:1"), "{error}");
    world.assert_clean();
}

/// Devices, pipes, sockets, attributes, names that are no text, and what a whiteout below hides.
fn unusual_files() {
    let world = World::new();
    let context = world.context();
    let odd = std::ffi::OsStr::from_bytes(b"odd-\xff");
    fs::write(context.join(odd), "odd").unwrap();
    world.write("sub/kept", "K");
    let status = Command::new("sh")
        .args(["-c", "mkfifo sub/pipe && mknod sub/null c 1 3"])
        .current_dir(&context)
        .status()
        .unwrap();
    assert!(status.success());
    let _socket = std::os::unix::net::UnixListener::bind(context.join("sub/socket")).unwrap();
    rustix::fs::setxattr(
        context.join("sub/kept"),
        "user.note",
        b"hi",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let (image, _) = world.build(
        "FROM busybox\nRUN mkdir -p /was/x && touch /was/x/old && rm -r /was && mkdir /was\nCOPY . /was/x/\n",
    );
    let entries = world.layer(&image, 0);
    for expected in [
        "was/x/sub/null 644 0:0 Char",
        "was/x/sub/pipe 644 0:0 Fifo",
        "was/x/sub/kept 644 0:0 \"K\"",
    ] {
        assert!(entries.contains(&expected.to_owned()), "{expected}: {entries:?}");
    }
    assert!(
        !entries
            .iter()
            .any(|entry| entry.contains("old") || entry.contains("socket")),
        "{entries:?}"
    );
    let layer = world
        .store
        .layer(&image.config.rootfs.diff_ids[2])
        .unwrap()
        .unwrap();
    assert_eq!(fs::read(layer.tree.join("was/x").join(odd)).unwrap(), b"odd");
    let mut value = [0u8; 8];
    let length = rustix::fs::getxattr(layer.tree.join("was/x/sub/kept"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"hi");
    // The directory that a lower layer deleted does not come back.
    let (image, _) = world.build("FROM busybox\nRUN mkdir -p /was/x && touch /was/x/old && chmod 700 /was/x\nRUN rm -r /was/x\nCOPY sub/kept /was/x/\nRUN ls -la /was/x\n");
    let copy = world.layer(&image, 1);
    assert_eq!(
        copy,
        ["was 755 0:0 dir", "was/x 755 0:0 dir", "was/x/kept 644 0:0 \"K\""]
    );
    world.assert_clean();
}

/// With a clamp no time is later, earlier ones stay, and two builds without cache give the same layers.
fn clamped_while_writing() {
    let world = World::new();
    world.write("d/old", "o");
    world.write("d/new", "n");
    set_mtime(&world.context().join("d/old"), 1000);
    let request = cooper_builder::build::Request {
        source_date_epoch: Some(1_000_000),
        no_cache: true,
        ..world.request("FROM busybox\nWORKDIR /w/x\nCOPY d /made/d\nCOPY --link <<F /l/\nx\nF\nRUN mkdir /r && touch /r/f && ln -s f /r/l\n")
    };
    let (first, _) = world.build_request(&request);
    let (second, _) = world.build_request(&request);
    assert_eq!(first.config.rootfs, second.config.rootfs);
    for id in &first.config.rootfs.diff_ids[1..] {
        let tree = world.store.layer(id).unwrap().unwrap().tree;
        let found = Command::new("find")
            .arg(&tree)
            .args(["-newermt", "@1000000", "-not", "-path"])
            .arg(&tree)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "");
    }
    let layer = world
        .store
        .layer(&first.config.rootfs.diff_ids[2])
        .unwrap()
        .unwrap();
    assert_eq!(fs::metadata(layer.tree.join("made/d/old")).unwrap().mtime(), 1000);
    assert_eq!(
        fs::metadata(layer.tree.join("made/d/new")).unwrap().mtime(),
        1_000_000
    );
    world.assert_clean();
}

/// Says how fast a layer is written and hashed; `COOPER_BIG_LAYER` is its size in MiB.
fn big_layer() {
    let size: usize = std::env::var("COOPER_BIG_LAYER")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(16);
    let world = World::new();
    let block: Vec<u8> = (0..1 << 20)
        .map(|i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    for number in 0..size.div_ceil(64) {
        let mut file = fs::File::create(world.context().join(format!("f{number}"))).unwrap();
        for _ in 0..64.min(size - number * 64) {
            std::io::Write::write_all(&mut file, &block).unwrap();
        }
    }
    let request = cooper_builder::build::Request {
        no_cache: true,
        ..world.request("FROM scratch\nCOPY . /\n")
    };
    world.build_request(&request);
    let (_, outcome) = world.build_request(&request);
    let millis = outcome.events.iter().find_map(|event| match event {
        cooper_builder::build::Event::Done { millis, .. } => Some(*millis),
        _ => None,
    });
    println!("a layer of {size} MiB, its files' digests made again: {millis:?} ms");
}
