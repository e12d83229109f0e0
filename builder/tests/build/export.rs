//! Results leaving the builder: compression, squash, annotations, attestations, archives.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use cooper_builder::build::{
    Annotation, AnnotationPlace, Compression, CompressionKind, Provenance, ProvenanceMode, Request, Sbom,
    Target,
};
use cooper_builder::export::{Format, WriteOptions, metadata, write};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Index, Manifest, RunConfig, media_type};
use serde_json::Value;

use crate::platforms::add_multi;
use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("export_compressed", compressed),
    ("export_pushed", pushed),
    ("export_squashed", squashed),
    ("export_annotated", annotated),
    ("export_refused", refused),
    ("export_attested", attested),
    ("export_sbom", sbom),
    ("export_platforms", platforms),
    ("export_archives", archives),
    ("export_files", files),
    ("export_docker_types", docker_types),
    ("export_skopeo", skopeo),
];

const DOCKERFILE: &str =
    "FROM busybox\nENV A=1\nCOPY a /a\nRUN echo made > /b && rm /a\nCMD [\"cat\", \"/b\"]\n";
const EPOCH: i64 = 1_700_000_000;

fn named(world: &World, dockerfile: &str, name: &str) -> Request {
    world.write("a", "content");
    Request {
        targets: vec![Target {
            stage: None,
            names: vec![name.parse().unwrap()],
        }],
        source_date_epoch: Some(EPOCH),
        ..world.request(dockerfile)
    }
}

fn compression(kind: CompressionKind, force: bool) -> Option<Compression> {
    Some(Compression {
        kind,
        level: None,
        force,
    })
}

fn manifest(world: &World, digest: &Digest) -> Manifest {
    serde_json::from_slice(&world.store.read_blob(digest, 1 << 20).unwrap()).unwrap()
}

fn types(manifest: &Manifest) -> Vec<&str> {
    let layers = manifest.layers.iter();
    layers
        .map(|layer| layer.media_type.rsplit('.').next().unwrap())
        .collect()
}

/// Layers made here are compressed, config and history stay, base layers that are compressed already stay unless forced;
/// without threads, at another time, by another engine: the same bytes.
fn compressed() {
    use CompressionKind::{Gzip, None as Plain, Zstd};
    let world = World::new();
    let mut request = named(&world, DOCKERFILE, "out");
    let (plain, _) = world.build_request(&request);
    assert_eq!(types(&plain.manifest), ["tar", "tar", "tar"]);
    request.compression = compression(Gzip, false);
    let (gzip, _) = world.build_request(&request);
    assert_eq!(types(&gzip.manifest), ["tar+gzip", "tar+gzip", "tar+gzip"]);
    assert_eq!(gzip.config_bytes, plain.config_bytes);
    assert_eq!(
        gzip.names,
        ["out".parse().unwrap()].map(|name: cooper_registry::reference::ImageRef| {
            cooper_registry::reference::ImageRef {
                tag: name.tag_or_latest(),
                ..name
            }
        })
    );
    for (layer, diff_id) in gzip.manifest.layers.iter().zip(&gzip.config.rootfs.diff_ids) {
        let mut bytes = Vec::new();
        let blob = world.store.open_blob(&layer.digest, 0).unwrap();
        flate2::read::GzDecoder::new(blob)
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(&Digest::sha256(&bytes), diff_id.digest());
    }
    // The same in another store.
    let other = World::new();
    let mut again = named(&other, DOCKERFILE, "out");
    again.compression = compression(Gzip, false);
    assert_eq!(other.build_request(&again).0.id, gzip.id);

    // On top of an image of gzip layers.
    let mut above = named(&world, "FROM out\nCOPY a /c\n", "above");
    for (kind, force, expected) in [
        (Zstd, false, ["tar+gzip", "tar+gzip", "tar+gzip", "tar+zstd"]),
        (Zstd, true, ["tar+zstd"; 4]),
        (Plain, false, ["tar+gzip", "tar+gzip", "tar+gzip", "tar"]),
        (Plain, true, ["tar"; 4]),
    ] {
        above.compression = compression(kind, force);
        let (image, _) = world.build_request(&above);
        assert_eq!(types(&image.manifest), expected, "{kind:?} {force}");
        world.store.unpack_image(&image).unwrap();
    }
    world.assert_clean();
}

/// What leaves the host is gzip, the local name points to what was pushed, and compressing is paid once.
fn pushed() {
    let world = World::new();
    let mut request = named(&world, DOCKERFILE, "localhost:1/team/out:v1");
    request.push = true;
    let (image, outcome) = world.build_request(&request);
    assert_eq!(types(&image.manifest), ["tar+gzip"; 3]);
    let name: cooper_registry::reference::ImageRef = "localhost:1/team/out:v1".parse().unwrap();
    assert_eq!(*world.pushed.lock().unwrap(), [(name.clone(), image.id.clone())]);
    assert_eq!(world.store.image("localhost:1/team/out:v1").unwrap().id, image.id);
    assert!(
        outcome.progress().contains(&"to localhost:1/team/out:v1"),
        "{:?}",
        outcome.progress()
    );
    request.push_by_digest = true;
    world.build_request(&request);
    let (last, _) = world.pushed.lock().unwrap().last().unwrap().clone();
    assert_eq!((last.tag, last.digest), (None, Some(image.id)));
    request.targets[0].names.clear();
    assert_eq!(
        world.run(&request).error(),
        "an image that is pushed needs a name"
    );
}

/// New layers become one; the base's stay. Files are those of the unsquashed image, deletions work on the base too.
fn squashed() {
    let world = World::new();
    world.write("dir/x", "1");
    let dockerfile = "FROM busybox\nCOPY a /a\nCOPY dir /etc/dir\nRUN rm -r /a /etc/passwd /etc/dir && mkdir /etc/dir && \
        echo 2 > /etc/dir/y && ln /etc/dir/y /etc/dir/z\nRUN rm -r /root && mkdir /root && chmod 700 /root\nENV B=1\n";
    let mut request = named(&world, dockerfile, "whole");
    let (whole, _) = world.build_request(&request);
    request.squash = true;
    request.targets[0].names = vec!["squashed".parse().unwrap()];
    let (squashed, _) = world.build_request(&request);
    assert_eq!(squashed.config.rootfs.diff_ids.len(), 2);
    assert_eq!(
        squashed.config.rootfs.diff_ids[0],
        whole.config.rootfs.diff_ids[0]
    );
    let mut list = world.layer(&squashed, 0);
    list.sort();
    assert_eq!(
        list,
        [
            "etc 755 0:0 dir",
            "etc/.wh.passwd 0 0:0 \"\"",
            "etc/dir 755 0:0 dir",
            "etc/dir/.wh..wh..opq 0 0:0 \"\"",
            "etc/dir/y 644 0:0 \"2\\n\"",
            "etc/dir/z 644 0:0 = etc/dir/y",
            "root 700 0:0 dir",
            "root/.wh..wh..opq 0 0:0 \"\"",
            ".wh.a 0 0:0 \"\"",
        ]
        .map(str::to_owned)
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    let history: Vec<_> = squashed
        .config
        .history
        .iter()
        .map(|entry| entry.empty_layer)
        .collect();
    assert_eq!(history, [false, true, true, true, true, true, false]);
    let last = squashed.config.history.last().unwrap();
    assert!(last.comment.starts_with("merge sha256:"), "{last:?}");
    assert_eq!(tree(&world, &squashed.id), tree(&world, &whole.id));
    let (again, _) = world.build_request(&request);
    assert_eq!(again.id, squashed.id);

    // Without a base nothing is left of deletions.
    let mut request = named(&world, "FROM scratch\nCOPY a /a\nCOPY dir /dir\n", "small");
    request.squash = true;
    let (small, _) = world.build_request(&request);
    assert_eq!(
        world.layer(&small, 0),
        ["a 644 0:0 \"content\"", "dir 755 0:0 dir", "dir/x 644 0:0 \"1\""]
    );
    assert!(
        small
            .config
            .history
            .last()
            .unwrap()
            .comment
            .starts_with("create new from sha256:")
    );
    world.assert_clean();
}

fn export(world: &World, id: &Digest, format: Format, options: &WriteOptions) -> Vec<u8> {
    let mut out = Vec::new();
    write(&world.store, &world.exec_root(), id, format, options, &mut out).unwrap();
    out
}

/// Paths of the image's files with mode, owner, time and contents.
fn tree(world: &World, id: &Digest) -> BTreeMap<String, String> {
    entries(&export(world, id, Format::Tar, &WriteOptions::default()))
}

fn entries(tar: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(tar);
    let mut map = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let header = entry.header();
        let text = format!(
            "{:?} {:o} {}:{} @{} {:?} {}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
            entry.link_name().unwrap(),
            Digest::sha256(&bytes).hex()
        );
        map.insert(entry.path().unwrap().display().to_string(), text);
    }
    map
}

fn annotated() {
    let world = World::new();
    let mut request = named(&world, DOCKERFILE, "out");
    let annotation = |place, key: &str| Annotation {
        place,
        platform: None,
        key: key.to_owned(),
        value: "v".to_owned(),
    };
    request.annotations = vec![
        annotation(AnnotationPlace::Manifest, "m"),
        annotation(AnnotationPlace::IndexDescriptor, "id"),
    ];
    let (image, _) = world.build_request(&request);
    assert_eq!(
        image.manifest.annotations,
        BTreeMap::from([("m".to_owned(), "v".to_owned())])
    );
    let options = WriteOptions {
        annotations: request.annotations.clone(),
        names: request.targets[0].names.clone(),
        ..WriteOptions::default()
    };
    let layout = export(&world, &image.id, Format::Oci, &options);
    let index: Index = serde_json::from_slice(&file(&layout, "index.json")).unwrap();
    assert_eq!(index.manifests[0].annotations["id"], "v");
    assert_eq!(
        index.manifests[0].annotations["io.containerd.image.name"],
        "docker.io/library/out:latest"
    );

    request.annotations.push(annotation(AnnotationPlace::Index, "i"));
    request
        .annotations
        .push(annotation(AnnotationPlace::ManifestDescriptor, "md"));
    assert!(
        world
            .run(&request)
            .error()
            .contains("annotations not supported for single platform export")
    );
    request.provenance = Some(Provenance::default());
    let (image, _) = world.build_request(&request);
    let index: Index = serde_json::from_slice(&world.store.read_blob(&image.id, 1 << 20).unwrap()).unwrap();
    assert_eq!(index.annotations["i"], "v");
    assert_eq!(index.manifests[0].annotations["md"], "v");
    assert_eq!(image.manifest.annotations["m"], "v");
}

fn file(tar: &[u8], name: &str) -> Vec<u8> {
    let mut archive = tar::Archive::new(tar);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new(name) {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            return bytes;
        }
    }
    panic!("no {name}");
}

/// Before anything runs.
fn refused() {
    let world = World::new();
    let check = |change: &dyn Fn(&mut Request), expected: &str| {
        let mut request = named(&world, "FROM busybox\nRUN false\n", "out");
        change(&mut request);
        assert!(world.run(&request).error().contains(expected), "{expected}");
    };
    check(
        &|request| {
            request.compression = Some(Compression {
                level: Some(10),
                ..Compression::default()
            });
        },
        "gzip has no compression level 10: expected 0 to 9",
    );
    check(
        &|request| {
            request.compression = compression(CompressionKind::Zstd, false);
            request.docker_types = true;
        },
        "compression=zstd needs OCI media types",
    );
}

/// The image's statements by predicate type.
fn statements(world: &World, id: &Digest) -> BTreeMap<String, Value> {
    let index: Index = serde_json::from_slice(&world.store.read_blob(id, 1 << 20).unwrap()).unwrap();
    assert_eq!(index.manifests.len(), 2);
    let (image, attestation) = (&index.manifests[0], &index.manifests[1]);
    let platform = attestation.platform.as_ref().unwrap();
    assert_eq!(
        (platform.os.as_str(), platform.architecture.as_str()),
        ("unknown", "unknown")
    );
    assert_eq!(
        attestation.annotations["vnd.docker.reference.type"],
        "attestation-manifest"
    );
    assert_eq!(
        attestation.annotations["vnd.docker.reference.digest"],
        image.digest.to_string()
    );
    let mut found = BTreeMap::new();
    for layer in manifest(world, &attestation.digest).layers {
        assert_eq!(layer.media_type, "application/vnd.in-toto+json");
        let value: Value =
            serde_json::from_slice(&world.store.read_blob(&layer.digest, 1 << 20).unwrap()).unwrap();
        assert_eq!(value["subject"][0]["digest"]["sha256"], image.digest.hex());
        found.insert(layer.annotations["in-toto.io/predicate-type"].clone(), value);
    }
    found
}

fn attested() {
    const SLSA: &str = "https://slsa.dev/provenance/v1";
    let world = World::new();
    let mut request = named(&world, &format!("ARG A\nARG API_TOKEN\n{DOCKERFILE}"), "out");
    request.build_args.insert("A".to_owned(), Some("seen".to_owned()));
    request
        .build_args
        .insert("API_TOKEN".to_owned(), Some("hunter2".to_owned()));
    request.provenance = Some(Provenance {
        builder_id: Some("https://ci/1".to_owned()),
        ..Provenance::default()
    });
    let (min, _) = world.build_request(&request);
    let statement = &statements(&world, &min.id)[SLSA];
    let predicate = &statement["predicate"];
    let base = world.store.image("busybox").unwrap();
    let dependency = &predicate["buildDefinition"]["resolvedDependencies"][0];
    assert_eq!(dependency["digest"]["sha256"], base.id.hex());
    assert_eq!(
        dependency["uri"],
        "pkg:docker/busybox@latest?platform=linux%2Famd64".replace("amd64", &base.config.architecture)
    );
    assert_eq!(predicate["runDetails"]["builder"]["id"], "https://ci/1");
    assert_eq!(
        predicate["runDetails"]["metadata"]["startedOn"],
        "2023-11-14T22:13:20Z"
    );
    let text = statement.to_string();
    assert!(
        !text.contains("seen") && !text.contains("hunter2") && !text.contains("buildkit_metadata"),
        "{text}"
    );

    request.provenance = Some(Provenance {
        mode: ProvenanceMode::Max,
        reproducible: true,
        ..Provenance::default()
    });
    let (max, _) = world.build_request(&request);
    let statement = &statements(&world, &max.id)[SLSA];
    let predicate = &statement["predicate"];
    let arguments = &predicate["buildDefinition"]["externalParameters"]["request"]["args"];
    assert_eq!(
        (&arguments["build-arg:A"], &arguments["build-arg:API_TOKEN"]),
        (&"seen".into(), &"<redacted>".into())
    );
    assert!(!statement.to_string().contains("hunter2"));
    let metadata_of = &predicate["runDetails"]["metadata"];
    assert_eq!(metadata_of["buildkit_reproducible"], true);
    let layers = metadata_of["buildkit_metadata"]["layers"].as_object().unwrap();
    assert_eq!(layers.len(), 3, "{layers:?}");
    request.no_cache = true;
    assert_eq!(
        world.build_request(&request).0.id,
        max.id,
        "with an epoch nothing varies"
    );

    let names = request.targets[0].names.clone();
    let told = metadata(&world.store, &max.id, &names, "ref1", &["careful".to_owned()]).unwrap();
    let keys: Vec<&str> = told.0.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "buildx.build.provenance",
            "buildx.build.ref",
            "buildx.build.warnings",
            "containerimage.config.digest",
            "containerimage.descriptor",
            "containerimage.digest",
            "image.name"
        ]
    );
    assert_eq!(told.image_id(), Some(max.id.to_string().as_str()));
    assert_eq!(told.0["buildx.build.provenance"], *predicate);

    // In other form for somebody else the statements are about the new manifest.
    let options = WriteOptions {
        compression: compression(CompressionKind::Zstd, false),
        ..WriteOptions::default()
    };
    let layout = export(&world, &max.id, Format::Oci, &options);
    let top: Index = serde_json::from_slice(&file(&layout, "index.json")).unwrap();
    let read = |digest: &Digest| file(&layout, &format!("blobs/sha256/{}", digest.hex()));
    let index: Index = serde_json::from_slice(&read(&top.manifests[0].digest)).unwrap();
    assert_ne!(index.manifests[0].digest, max.manifest_digest);
    assert_eq!(
        index.manifests[1].annotations["vnd.docker.reference.digest"],
        index.manifests[0].digest.to_string()
    );
    let attestation: Manifest = serde_json::from_slice(&read(&index.manifests[1].digest)).unwrap();
    let statement: Value = serde_json::from_slice(&read(&attestation.layers[0].digest)).unwrap();
    assert_eq!(
        statement["subject"][0]["digest"]["sha256"],
        index.manifests[0].digest.hex()
    );
    assert_eq!(statement["predicate"], *predicate);
    // Nobody sees the copy.
    assert!(
        !world
            .store
            .images()
            .unwrap()
            .iter()
            .any(|image| image.id == top.manifests[0].digest)
    );
}

fn sbom() {
    let world = World::new();
    world.write(
        "status",
        "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2-1\n",
    );
    world.write(
        "Cargo.lock",
        "version = 4\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n",
    );
    world.write("rpm", "not a database");
    let dockerfile = "FROM busybox\nCOPY status /var/lib/dpkg/status\nCOPY Cargo.lock /app/\nCOPY rpm /var/lib/rpm/rpmdb.sqlite\n\
        RUN ln -s /etc/shadow /app/package-lock.json\n";
    let mut request = named(&world, dockerfile, "out");
    request.sbom = Some(Sbom::default());
    let (image, _) = world.build_request(&request);
    let document = &statements(&world, &image.id)["https://spdx.dev/Document"]["predicate"];
    assert_eq!(
        (&document["spdxVersion"], &document["creationInfo"]["created"]),
        (&"SPDX-2.3".into(), &"2023-11-14T22:13:20Z".into())
    );
    let packages = document["packages"].as_array().unwrap();
    let urls: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    assert_eq!(
        urls,
        ["pkg:cargo/serde@1.0.0", "pkg:deb/debian/bash@5.2-1?arch=amd64"]
    );
    assert_eq!(
        document["comment"],
        "/var/lib/rpm/rpmdb.sqlite: RPM packages are not listed"
    );
    request.no_cache = true;
    assert_eq!(world.build_request(&request).0.id, image.id);
    request.sbom = Some(Sbom {
        generator: Some("scanner".parse().unwrap()),
    });
    assert!(world.run(&request).error().contains("scanner"));
}

/// Layouts are complete and the same every time; foreign tools are asked where they are.
fn archives() {
    let world = World::new();
    let request = named(&world, DOCKERFILE, "out:v1");
    let (image, _) = world.build_request(&request);
    let options = WriteOptions {
        compression: compression(CompressionKind::Gzip, false),
        names: request.targets[0].names.clone(),
        ..WriteOptions::default()
    };
    for format in [Format::Oci, Format::Docker, Format::Tar] {
        let first = export(&world, &image.id, format, &options);
        assert!(first == export(&world, &image.id, format, &options), "{format:?}");
    }
    let docker = export(&world, &image.id, Format::Docker, &options);
    let entries: Value = serde_json::from_slice(&file(&docker, "manifest.json")).unwrap();
    assert_eq!(entries[0]["RepoTags"], serde_json::json!(["out:v1"]));
    let other = World::new();
    cooper_registry::archive::load(&other.store, &mut docker.as_slice()).unwrap();
    assert_eq!(
        other.store.image("out:v1").unwrap().config_bytes,
        image.config_bytes
    );
    let oci = export(&world, &image.id, Format::Oci, &options);
    let paths: Vec<String> = entries_paths(&oci);
    assert!(
        paths.iter().all(|path| path != "manifest.json"),
        "an OCI layout only"
    );
    let third = World::new();
    cooper_registry::archive::load(&third.store, &mut oci.as_slice()).unwrap();
    assert_eq!(
        third.store.image("out:v1").unwrap().config_bytes,
        image.config_bytes
    );
    world.assert_clean();
}

fn entries_paths(tar: &[u8]) -> Vec<String> {
    entries(tar).into_keys().collect()
}

/// Files of the image; times clamped; attestations beside them.
fn files() {
    let world = World::new();
    let mut request = named(&world, DOCKERFILE, "out");
    request.provenance = Some(Provenance::default());
    request.sbom = Some(Sbom::default());
    let (image, _) = world.build_request(&request);
    let options = WriteOptions {
        source_date_epoch: Some(1_000_000_001),
        ..WriteOptions::default()
    };
    let found = entries(&export(&world, &image.id, Format::Tar, &options));
    for path in ["b", "bin/busybox", "provenance.json", "sbom.spdx.json"] {
        assert!(found.contains_key(path), "{path}: {:?}", found.keys());
    }
    assert!(!found.contains_key("a"), "deleted by a layer");
    for (path, entry) in &found {
        let time: i64 = entry
            .split('@')
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!(time <= 1_000_000_001, "{path} {entry}");
    }
    let split = WriteOptions {
        platform_split: Some(true),
        ..options
    };
    let platform = format!("linux_{}/", image.config.architecture);
    let found = entries(&export(&world, &image.id, Format::Tar, &split));
    assert!(
        found.contains_key(&format!("{platform}b")) && found.keys().all(|path| path.starts_with(&platform))
    );
}

fn docker_types() {
    let world = World::new();
    let mut request = named(&world, DOCKERFILE, "out");
    request.docker_types = true;
    request.compression = compression(CompressionKind::Gzip, false);
    let (image, _) = world.build_request(&request);
    assert_eq!(
        image.manifest.media_type.as_deref(),
        Some(media_type::DOCKER_MANIFEST)
    );
    assert_eq!(image.manifest.config.media_type, media_type::DOCKER_CONFIG);
    assert!(
        image
            .manifest
            .layers
            .iter()
            .all(|layer| layer.media_type == media_type::DOCKER_LAYER_GZIP)
    );
    world.store.unpack_image(&image).unwrap();
}

/// skopeo reads what we write, in every compression.
fn skopeo() {
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("skipped: no skopeo in PATH");
        return;
    }
    let world = World::new();
    world.add_base("labelled", RunConfig::default());
    let (image, _) = world.build_request(&named(&world, DOCKERFILE, "out:v1"));
    for kind in [
        CompressionKind::None,
        CompressionKind::Gzip,
        CompressionKind::Zstd,
    ] {
        let options = WriteOptions {
            compression: compression(kind, false),
            names: vec!["out:v1".parse().unwrap()],
            ..WriteOptions::default()
        };
        for (format, transport) in [(Format::Oci, "oci-archive"), (Format::Docker, "docker-archive")] {
            let path = world.dir.path().join("image.tar");
            std::fs::write(&path, export(&world, &image.id, format, &options)).unwrap();
            let target = world.dir.path().join(format!("{transport}-{kind:?}"));
            let output = Command::new("skopeo")
                .args(["--insecure-policy", "copy", "-q"])
                .arg(format!("{transport}:{}", path.display()))
                .arg(format!("dir:{}", target.display()))
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{transport} {kind:?}: {errors}");
        }
    }
}

/// Several targets for several platforms: an index of each, whose attestations tell of that image alone.
fn platforms() {
    let world = World::new();
    add_multi(&world);
    let dockerfile = "FROM multi AS one\nCOPY a /one\nFROM busybox AS two\nCOPY a /two\nENV X=1\n";
    let mut request = named(&world, dockerfile, "localhost:1/one");
    request.targets[0].stage = Some("one".to_owned());
    request.targets.push(Target {
        stage: Some("two".to_owned()),
        names: vec!["localhost:1/two".parse().unwrap()],
    });
    let host = cooper_registry::oci::Platform::host().normalized();
    request.platforms = vec![host.clone(), "linux/arm/v6".parse().unwrap()];
    request.push = true;
    request.provenance = Some(Provenance {
        mode: ProvenanceMode::Max,
        ..Provenance::default()
    });
    let outcome = world.run(&request);
    let built = outcome.result.as_ref().unwrap();
    let pushed = world.pushed.lock().unwrap().clone();
    let pushed: Vec<_> = pushed
        .iter()
        .map(|(name, id)| (name.familiar(), id.clone()))
        .collect();
    assert_eq!(
        pushed,
        [
            ("localhost:1/one".to_owned(), built.images[0].image.clone()),
            ("localhost:1/two".to_owned(), built.images[1].image.clone())
        ]
    );
    for (number, (name, base, copied)) in [("one", "multi", "/one"), ("two", "busybox", "/two")]
        .into_iter()
        .enumerate()
    {
        let id = &built.images[number].image;
        let index: Index = serde_json::from_slice(&world.store.read_blob(id, 1 << 20).unwrap()).unwrap();
        let shown: Vec<String> = index
            .manifests
            .iter()
            .map(|manifest| manifest.platform.as_ref().unwrap().to_string())
            .collect();
        let unknown = "unknown/unknown";
        assert_eq!(
            shown,
            [host.to_string().as_str(), "linux/arm/v6", unknown, unknown]
        );
        let told = metadata(&world.store, id, &[], "", &[]).unwrap();
        for platform in &shown[..2] {
            let predicate = &told.0[&format!("buildx.build.provenance/{platform}")];
            let definition = &predicate["buildDefinition"];
            let materials = definition["resolvedDependencies"].as_array().unwrap();
            assert_eq!(materials.len(), 1, "{definition}");
            // There is one busybox, which is what was taken for the other platform, too.
            let taken = if base == "multi" { platform } else { &shown[0] };
            let uri = format!("pkg:docker/{base}@latest?platform={}", taken.replace('/', "%2F"));
            assert_eq!(materials[0]["uri"], uri);
            assert_eq!(
                definition["externalParameters"]["request"]["args"]["target"],
                name
            );
            let steps = definition["internalParameters"]["buildConfig"]["steps"]
                .as_array()
                .unwrap();
            assert_eq!(steps.len(), 2, "{steps:?}");
            let copies = steps
                .iter()
                .filter(|step| step["name"].as_str().unwrap().ends_with(copied));
            assert_eq!(copies.count(), 1, "{steps:?}");
            let layers = &predicate["runDetails"]["metadata"]["buildkit_metadata"]["layers"];
            assert_eq!(layers.as_object().unwrap().len(), 2, "{layers}");
        }
    }
    world.assert_clean();
}
