//! `--build-context`

use std::fs;
use std::path::{Path, PathBuf};

use cooper_builder::build::{NamedContext, Request};
use cooper_builder::context::{UnpackLimits, untar};
use cooper_registry::archive::save;
use cooper_registry::oci::RunConfig;

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("context_directories", directories),
    ("context_images", images),
    ("context_layouts", layouts),
    ("hostile_layouts", hostile_layouts),
];

fn with_contexts(world: &World, dockerfile: &str, contexts: &[(&str, NamedContext)]) -> Request {
    let contexts = contexts.iter().cloned();
    Request {
        named_contexts: contexts
            .map(|(name, context)| (name.to_owned(), context))
            .collect(),
        ..world.request(dockerfile)
    }
}

fn directory(world: &World, name: &str, files: &[(&str, &str)]) -> NamedContext {
    let dir = world.dir.path().join(name);
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    NamedContext::Directory(dir)
}

fn directories() {
    let world = World::new();
    world.write("a", "main");
    let files = directory(
        &world,
        "files",
        &[
            ("a", "named"),
            ("d/b", "b"),
            ("hidden", "x"),
            (".dockerignore", "hidden\n"),
            ("Dockerfile.dockerignore", "a\n"),
        ],
    );
    let gone = NamedContext::Directory(world.dir.path().join("nosuch"));
    let contexts = [
        ("files", files.clone()),
        ("unused", gone.clone()),
        ("stage", files),
    ];
    let dockerfile = "FROM busybox\nCOPY a /main\nCOPY --from=FILES a /named\nCOPY --from=files d /d\nRUN cat /main /named /d/b\n";
    let request = with_contexts(&world, dockerfile, &contexts);
    let (image, outcome) = world.build_request(&request);
    assert_eq!(outcome.output(), "mainnamedb");
    assert_eq!(world.layer(&image, 2), ["named 644 0:0 \"named\""]);
    let (again, outcome) = world.build_request(&request);
    assert_eq!((again.id, outcome.executed()), (image.id, Vec::new()));
    fs::write(world.dir.path().join("files/a"), "changed").unwrap();
    let (_, outcome) = world.build_request(&request);
    assert!(
        outcome.output().starts_with("mainchanged"),
        "{}",
        outcome.output()
    );

    // What is ignored is not there, and escapes lead nowhere.
    let escape = world.dir.path().join("files/escape");
    std::os::unix::fs::symlink("/etc/passwd", escape).unwrap();
    for source in ["hidden", "escape"] {
        let file = format!("FROM busybox\nCOPY --from=files {source} /\n");
        let error = world.run(&with_contexts(&world, &file, &contexts)).error();
        assert!(
            error.contains("not found") && error.contains("Dockerfile:2:"),
            "{error}"
        );
    }

    // As a base, and in place of a stage whose own instructions then mean nothing.
    let dockerfile = "FROM nosuch AS stage\nRUN nothing\nFROM stage AS on\nCOPY a /more\nFROM files\nCOPY --from=on /more /d/b /from/\n";
    let (image, outcome) = world.build_request(&with_contexts(&world, dockerfile, &contexts));
    assert_eq!(image.config.rootfs.diff_ids.len(), 2);
    let layer = world.layer(&image, 1);
    assert!(
        layer.iter().any(|entry| entry == "d/b 644 0:0 \"b\""),
        "{layer:?}"
    );
    assert!(
        !layer.iter().any(|entry| entry.starts_with("hidden")),
        "{layer:?}"
    );
    let comments: Vec<&str> = image
        .config
        .history
        .iter()
        .map(|entry| entry.comment.as_str())
        .collect();
    assert_eq!(comments, ["buildkit.dockerfile.v0", "buildkit.exporter.image.v0"]);
    assert!(image.config.history.iter().all(|entry| entry.created.is_some()));
    assert!(!outcome.steps().iter().any(|step| step.name.contains("nothing")));
    // A context that is needed must be there.
    let error = world
        .run(&with_contexts(&world, "FROM unused\nENV A=1\n", &contexts))
        .error();
    assert!(error.contains("no such file or directory"), "{error}");
    world.assert_clean();
}

fn images() {
    let world = World::new();
    world.add_base(
        "base",
        RunConfig {
            env: Some(vec!["IMAGE=base".to_owned()]),
            ..RunConfig::default()
        },
    );
    let image = NamedContext::Image("base".parse().unwrap());
    let host = cooper_registry::oci::Platform::host().normalized();
    let own = format!("alpine::{host}");
    let foreign = "alpine::linux/s390x".to_owned();
    let wrong = NamedContext::Image("nosuch".parse().unwrap());
    for contexts in [
        &[("alpine", image.clone())] as &[(&str, NamedContext)],
        &[(own.as_str(), image.clone()), ("alpine", wrong.clone())],
        &[("alpine", image.clone()), (foreign.as_str(), wrong.clone())],
    ] {
        for dockerfile in [
            "FROM alpine\nRUN echo $IMAGE\n",
            "FROM docker.io/library/alpine:latest\nRUN echo $IMAGE\n",
            "FROM nosuch AS alpine\nRUN nothing\nFROM alpine\nRUN echo $IMAGE\n",
        ] {
            let request = Request {
                no_cache: true,
                ..with_contexts(&world, dockerfile, contexts)
            };
            let (_, outcome) = world.build_request(&request);
            assert_eq!(outcome.output(), "base\n", "{dockerfile} {contexts:?}");
        }
    }
    let dockerfile = "FROM busybox\nCOPY --from=alpine /etc/group /copied\nRUN cat /copied\n";
    let request = with_contexts(&world, dockerfile, &[("alpine", image)]);
    let (_, outcome) = world.build_request(&request);
    assert!(outcome.output().starts_with("root:"), "{}", outcome.output());
    let remote = NamedContext::Remote("https://example.com/x.git".to_owned());
    let error = world
        .run(&with_contexts(
            &world,
            "FROM scratch\nCOPY --from=r / /\n",
            &[("r", remote)],
        ))
        .error();
    assert!(error.contains("Dockerfile:2:"), "{error}");
    world.assert_clean();
}

/// Writes an image of `world` as an OCI layout.
fn write_layout(world: &World, names: &[&str]) -> PathBuf {
    let dir = tempfile::tempdir_in(world.dir.path()).unwrap().keep();
    let mut tar = Vec::new();
    let images: Vec<_> = names
        .iter()
        .map(|&name| (world.store.image(name).unwrap(), vec![name.parse().unwrap()]))
        .collect();
    save(&world.store, &images, &mut tar).unwrap();
    untar(&mut tar.as_slice(), &dir, UnpackLimits::default()).unwrap();
    dir
}

fn layout(path: &Path, reference: Option<&str>) -> NamedContext {
    NamedContext::OciLayout {
        path: path.to_owned(),
        reference: reference.map(str::to_owned),
    }
}

fn layouts() {
    let source = World::new();
    for name in ["one:latest", "one:old"] {
        source.add_base(
            name,
            RunConfig {
                env: Some(vec![format!("IMAGE={name}")]),
                ..RunConfig::default()
            },
        );
    }
    let old = source.store.image("one:old").unwrap().id.to_string();
    let both = write_layout(&source, &["one:latest", "one:old"]);
    let single = write_layout(&source, &["one:old"]);
    let world = World::new();
    for (path, reference, expected) in [
        (&both, None, "one:latest"),
        (&both, Some("old".to_owned()), "one:old"),
        (&both, Some("latest".to_owned()), "one:latest"),
        (&both, Some(old.clone()), "one:old"),
        (&both, Some(format!("latest@{old}")), "one:old"),
        (&single, None, "one:old"),
    ] {
        let request = Request {
            no_cache: true,
            ..with_contexts(
                &world,
                "FROM base\nRUN echo $IMAGE\nCOPY --from=base /etc/group /\n",
                &[("base", layout(path, reference.as_deref()))],
            )
        };
        let (image, outcome) = world.build_request(&request);
        assert_eq!(outcome.output(), format!("{expected}\n"), "{reference:?}");
        let name = &outcome.steps()[0].name;
        assert!(name.contains("FROM oci-layout://base"), "{name}");
        world.store.delete_image(&image.id).unwrap();
    }
    assert_eq!(
        world.store.images().unwrap().len(),
        1,
        "the layout's images have no name"
    );
    world.assert_clean();
}

fn hostile_layouts() {
    let source = World::new();
    source.add_base("one", RunConfig::default());
    let image = source.store.image("one").unwrap();
    let blob =
        |dir: &Path, digest: &cooper_registry::digest::Digest| dir.join("blobs/sha256").join(digest.hex());
    let layer = &image.manifest.layers[0].digest;
    type Damage<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Damage<'_>, &str); 10] = [
        (
            "no index",
            &|dir| fs::remove_file(dir.join("index.json")).unwrap(),
            "open index.json: no such file or directory",
        ),
        (
            "no json",
            &|dir| fs::write(dir.join("index.json"), "x").unwrap(),
            "index.json: expected value",
        ),
        (
            "long index",
            &|dir| fs::write(dir.join("index.json"), vec![b' '; 5 << 20]).unwrap(),
            "index.json is longer than 4194304 bytes",
        ),
        (
            "empty index",
            &|dir| fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap(),
            "index.json has several manifests, and none is tagged",
        ),
        (
            "climbing digest",
            &|dir| {
                let text = r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"sha256:../../../../etc/passwd","size":1}]}"#;
                fs::write(dir.join("index.json"), text).unwrap();
            },
            "index.json: ",
        ),
        (
            "pipe",
            &|dir| {
                fs::remove_file(dir.join("index.json")).unwrap();
                let made = std::process::Command::new("mkfifo")
                    .arg(dir.join("index.json"))
                    .status()
                    .unwrap();
                assert!(made.success());
            },
            "index.json is not a regular file",
        ),
        (
            "other manifest",
            &|dir| {
                fs::write(
                    blob(dir, &image.manifest_digest),
                    serde_json::to_vec_pretty(&image.manifest).unwrap(),
                )
                .unwrap();
            },
            "has digest sha256:",
        ),
        (
            "short layer",
            &|dir| fs::write(blob(dir, layer), "short").unwrap(),
            "does not have the",
        ),
        (
            "other layer",
            &|dir| {
                let path = blob(dir, layer);
                let mut bytes = fs::read(&path).unwrap();
                bytes[1000] ^= 1;
                fs::write(&path, bytes).unwrap();
            },
            "digest",
        ),
        (
            "link out",
            &|dir| {
                let path = blob(dir, layer);
                let outside = tempfile::NamedTempFile::new().unwrap();
                fs::copy(&path, outside.path()).unwrap();
                fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(outside.into_temp_path().keep().unwrap(), &path).unwrap();
            },
            "no such file or directory",
        ),
    ];
    for (name, damage, expected) in cases {
        let dir = write_layout(&source, &["one"]);
        damage(&dir);
        let world = World::new();
        // The busybox layer is in every store: without it the layer has to come from the layout.
        let busybox = world.store.image("busybox").unwrap().id;
        world.store.delete_image(&busybox).unwrap();
        let request = with_contexts(&world, "FROM base\nENV A=1\n", &[("base", layout(&dir, None))]);
        let error = world.run(&request).error();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains("Dockerfile:1:6"), "{name}: {error}");
        assert!(world.store.images().unwrap().is_empty(), "{name}");
        world.assert_clean();
    }
}
