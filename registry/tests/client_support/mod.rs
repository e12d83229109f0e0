//! What the tests of server, client and archive share.

use std::net::SocketAddr;

use cooper_registry::client::{Client, ClientConfig};
use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, ImageConfig, Manifest, Platform, RootFs, RunConfig, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::server;
use cooper_registry::store::Store;
use tempfile::TempDir;
use tokio::net::TcpListener;

pub(crate) fn new_store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

pub(crate) fn client(store: &Store) -> Client {
    Client::new(store.clone(), ClientConfig::default())
}

/// Serves a store on a loopback port until the test's runtime ends.
pub(crate) async fn serve(store: &Store) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, store.clone(), std::future::pending()));
    address
}

pub(crate) fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

/// A plain layer with one file.
pub(crate) fn layer_tar(file: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_mtime(0);
    builder.append_data(&mut header, file, content).unwrap();
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress and differ by seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()
    });
    words
        .flat_map(|word| word.into_iter().take(4))
        .take(len)
        .collect()
}

/// The parts of an image that exists nowhere yet.
pub(crate) struct Parts {
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
}

impl Parts {
    pub(crate) fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }
}

/// An image of gzip layers made of the given plain tars.
pub(crate) fn image(architecture: &str, tars: &[Vec<u8>]) -> Parts {
    let config = ImageConfig {
        architecture: architecture.to_owned(),
        os: "linux".to_owned(),
        os_version: None,
        variant: None,
        author: None,
        created: Some("2026-01-01T00:00:00Z".to_owned()),
        config: RunConfig {
            cmd: Some(vec!["/bin/sh".to_owned()]),
            ..RunConfig::default()
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: tars.iter().map(|tar| DiffId(Digest::sha256(tar))).collect(),
        },
        history: Vec::new(),
        inline_cache: None,
    };
    let config = serde_json::to_vec(&config).unwrap();
    let layers: Vec<_> = tars.iter().map(|tar| gzip(tar)).collect();
    let descriptor =
        |kind: &str, bytes: &[u8]| Descriptor::new(kind, Digest::sha256(bytes), bytes.len() as u64);
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: descriptor(media_type::OCI_CONFIG, &config),
        layers: layers
            .iter()
            .map(|layer| descriptor(media_type::OCI_LAYER_GZIP, layer))
            .collect(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    // Spaces and an unknown field: kept only by those who keep the bytes.
    let mut text = serde_json::to_string_pretty(&manifest).unwrap();
    text.insert_str(1, "\n  \"x-unknown\": [1,  2],");
    Parts {
        config,
        layers,
        manifest: text.into_bytes(),
    }
}

/// A small image of two layers that differs by seed.
pub(crate) fn small_image(seed: u64) -> Parts {
    let layers = [
        layer_tar("a", &noise(seed, 5000)),
        layer_tar("b", &noise(seed + 1, 3_000_000)),
    ];
    image(&Platform::host().architecture, &layers)
}

/// Puts an image into a store under a name.
pub(crate) fn put(store: &Store, parts: &Parts, name: &ImageRef) {
    put_blobs(store, parts);
    let tags = name.tag_or_latest();
    store
        .put_manifest(
            Some(&name.repo),
            media_type::OCI_MANIFEST,
            &parts.manifest,
            None,
            tags.as_slice(),
        )
        .unwrap();
}

pub(crate) fn put_blobs(store: &Store, parts: &Parts) {
    for blob in parts.layers.iter().chain([&parts.config]) {
        store.put_blob(blob).unwrap();
    }
}

/// The bytes that a name points to.
pub(crate) fn stored(store: &Store, name: &ImageRef) -> Vec<u8> {
    let tag = name.tag_or_latest().unwrap();
    let found = store
        .resolve_tag(&name.repo, &tag)
        .unwrap()
        .expect("the tag is there");
    store
        .manifest(&name.repo, &found.digest)
        .unwrap()
        .expect("the manifest is there")
        .bytes
}

/// Whether all parts are in the store, byte-identical.
pub(crate) fn assert_stored(store: &Store, parts: &Parts, name: &ImageRef) {
    assert_eq!(stored(store, name), parts.manifest);
    for blob in parts.layers.iter().chain([&parts.config]) {
        assert_eq!(&store.read_blob(&Digest::sha256(blob), 1 << 30).unwrap(), blob);
    }
}

pub(crate) fn ingests(store: &Store) -> usize {
    std::fs::read_dir(store.root().join("ingest")).unwrap().count()
}
