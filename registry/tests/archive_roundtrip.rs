//! Saving and loading image archives, whole and broken ones.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[expect(dead_code, reason = "each test binary uses its own part")]
mod client_support;

use std::io::Write as _;

use client_support::{Parts, assert_stored, gzip, image, layer_tar, name, new_store, put, small_image};
use cooper_registry::archive::{self, Loaded};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Platform, media_type};
use cooper_registry::store::Store;

fn save(store: &Store, names: &[&str]) -> Vec<u8> {
    let images: Vec<_> = names
        .iter()
        .map(|text| (store.image(text).unwrap(), vec![name(text)]))
        .collect();
    let mut out = Vec::new();
    archive::save(store, &images, &mut out).unwrap();
    out
}

fn load(store: &Store, tar: &[u8]) -> Result<Vec<Loaded>, String> {
    archive::load(store, &mut &tar[..]).map_err(|error| error.to_string())
}

#[test]
fn saved_images_come_back_byte_identical() {
    let (_dir, store) = new_store();
    let (one, two) = (small_image(1), small_image(2));
    put(&store, &one, &name("one:v1"));
    put(&store, &two, &name("registry.lan:5000/two"));
    let names = ["one:v1", "registry.lan:5000/two:latest"];
    let saved = save(&store, &names);
    assert_eq!(saved, save(&store, &names), "the same images give the same bytes");

    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    zstd.write_all(&saved).unwrap();
    for tar in [saved.clone(), gzip(&saved), zstd.finish().unwrap()] {
        let (_dir, other) = new_store();
        let loaded = load(&other, &tar).unwrap();
        assert_eq!(loaded, names.map(|text| Loaded::Name(name(text))));
        assert_stored(&other, &one, &name("one:v1"));
        assert_stored(&other, &two, &name("registry.lan:5000/two"));
        assert_eq!(client_support::ingests(&other), 0);
    }

    let mut paths = Vec::new();
    for entry in tar::Archive::new(&saved[..]).entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            (entry.header().mtime().unwrap(), entry.header().uid().unwrap()),
            (0, 0)
        );
        paths.push(entry.path().unwrap().display().to_string());
    }
    assert_eq!(paths[..2], ["blobs/", "blobs/sha256/"]);
    assert_eq!(
        paths[paths.len() - 4..],
        ["index.json", "manifest.json", "oci-layout", "repositories"]
    );
    assert!(paths.is_sorted());
}

#[test]
fn an_image_without_a_name_comes_back_by_its_id() {
    let (_dir, store) = new_store();
    let parts = small_image(1);
    put(&store, &parts, &name("one"));
    let mut out = Vec::new();
    archive::save(&store, &[(store.image("one").unwrap(), Vec::new())], &mut out).unwrap();
    let (_dir, other) = new_store();
    assert_eq!(load(&other, &out).unwrap(), [Loaded::Id(parts.digest())]);
}

/// A tar of files, links (`path -> target`) and other entries in the given order.
fn tar_of(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, entry) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        let (kind, content, link) = match entry {
            Entry::File(content) => (tar::EntryType::Regular, content.as_slice(), ""),
            Entry::Symlink(target) => (tar::EntryType::Symlink, &[][..], *target),
            Entry::Hardlink(target) => (tar::EntryType::Link, &[][..], *target),
            Entry::Device => (tar::EntryType::Char, &[][..], ""),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        if !link.is_empty() {
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        }
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

enum Entry {
    File(Vec<u8>),
    Symlink(&'static str),
    Hardlink(&'static str),
    Device,
}

fn docker_manifest(config: &str, layers: &[&str]) -> Entry {
    let json = serde_json::json!([{ "Config": config, "RepoTags": ["old/app:v1"], "Layers": layers }]);
    Entry::File(json.to_string().into_bytes())
}

/// An image of two layers as Docker before 25 saves it: plain layers, the second a link to the first.
fn legacy() -> (Parts, Vec<u8>) {
    let tar = layer_tar("a", b"content");
    (
        image(&Platform::host().architecture, &[tar.clone(), tar.clone()]),
        tar,
    )
}

#[test]
fn archives_of_older_dockers() {
    let (parts, tar) = legacy();
    let file = |bytes: &[u8]| Entry::File(bytes.to_vec());
    let layers = ["aa/layer.tar", "bb/layer.tar"];
    for (what, entries) in [
        (
            "in order, symlink",
            vec![
                ("manifest.json", docker_manifest("c.json", &layers)),
                ("c.json", file(&parts.config)),
                ("aa/VERSION", file(b"1.0")),
                ("aa/json", file(b"{}")),
                ("aa/layer.tar", file(&tar)),
                ("bb/layer.tar", Entry::Symlink("../aa/layer.tar")),
            ],
        ),
        (
            "links first, hard link",
            vec![
                ("bb/layer.tar", Entry::Hardlink("./aa/layer.tar")),
                ("./aa/layer.tar", file(&tar)),
                ("./c.json", file(&parts.config)),
                ("./manifest.json", docker_manifest("c.json", &layers)),
            ],
        ),
    ] {
        let (_dir, store) = new_store();
        assert_eq!(
            load(&store, &tar_of(&entries)).unwrap(),
            [Loaded::Name(name("old/app:v1"))],
            "{what}"
        );
        let image = store.image("old/app:v1").unwrap();
        assert_eq!(image.config_bytes, parts.config, "{what}");
        let kinds: Vec<_> = image
            .manifest
            .layers
            .iter()
            .map(|layer| layer.media_type.as_str())
            .collect();
        assert_eq!(kinds, [media_type::DOCKER_LAYER; 2], "{what}");
        assert_eq!(image.manifest.layers[0].digest, Digest::sha256(&tar), "{what}");
    }
    // Compressed layers keep their bytes; their DiffIDs are checked all the same.
    let (_dir, store) = new_store();
    let zipped = [
        ("l", file(&gzip(&tar))),
        ("c", file(&parts.config)),
        ("manifest.json", docker_manifest("c", &["l", "l"])),
    ];
    load(&store, &tar_of(&zipped)).unwrap();
    let layer = store.image("old/app:v1").unwrap().manifest.layers.remove(0);
    assert_eq!(
        (layer.media_type.as_str(), layer.digest),
        (media_type::DOCKER_LAYER_GZIP, Digest::sha256(&gzip(&tar)))
    );
}

#[test]
fn broken_and_hostile_archives() {
    let (parts, tar) = legacy();
    let file = |bytes: &[u8]| Entry::File(bytes.to_vec());
    let config = || ("c", file(&parts.config));
    let layer = || ("l", file(&tar));
    let manifest = |layers: &[&str]| ("manifest.json", docker_manifest("c", layers));
    let blob = format!("blobs/sha256/{}", Digest::sha256(b"right").hex());
    let whole = tar_of(&[config(), layer(), manifest(&["l", "l"])]);
    for (expected, archive) in [
        ("empty", Vec::new()),
        ("tar", b"no tar at all, but long enough to be looked at".repeat(20)),
        ("truncated", whole[..whole.len() - 4096].to_vec()),
        ("bzip2", b"BZh91AY&SY".to_vec()),
        ("xz", [&[0xfd][..], b"7zXZ\0rest"].concat()),
        ("truncated", gzip(&whole)[..200].to_vec()),
        ("neither manifest.json", tar_of(&[config()])),
        ("l is missing", tar_of(&[config(), manifest(&["l", "l"])])),
        ("2 layers, the image has 1", tar_of(&[config(), layer(), manifest(&["l"])])),
        ("digest mismatch", tar_of(&[config(), ("l", file(&layer_tar("b", b"other"))), manifest(&["l", "l"])])),
        ("digest mismatch", tar_of(&[(&blob, file(b"wrong"))])),
        ("out of the archive", tar_of(&[("../c", file(b"x"))])),
        ("absolute path", tar_of(&[("/etc/passwd", file(b"x"))])),
        ("out of the archive", tar_of(&[("a/l", Entry::Symlink("../../etc/passwd"))])),
        ("absolute path", tar_of(&[("l", Entry::Symlink("/etc/passwd"))])),
        ("too many links", tar_of(&[config(), ("l", Entry::Symlink("m")), ("m", Entry::Symlink("l")), manifest(&["l", "l"])])),
        ("neither file", tar_of(&[("dev", Entry::Device)])),
        ("manifest.json: ", tar_of(&[("manifest.json", file(b"[{"))])),
        ("invalid reference", tar_of(&[config(), layer(), ("manifest.json", file(
            br#"[{"Config":"c","RepoTags":["Bad Name"],"Layers":["l","l"]}]"#))])),
        ("is missing", tar_of(&[("oci-layout", file(b"{}")), ("index.json", file(format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":3}}]}}"#,
            media_type::OCI_MANIFEST, Digest::sha256(b"gone")).as_bytes()))])),
    ] {
        let (_dir, store) = new_store();
        let error = load(&store, &archive).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?}, got {error:?}");
        assert_eq!(store.repositories(None, None).unwrap(), [], "{expected}");
        assert_eq!(client_support::ingests(&store), 0, "{expected}");
    }
}
