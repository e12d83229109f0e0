//! Memory of a push and a pull of a large blob, through server and client in one process. Alone in its file: the peak of
//! the process is what is measured.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[expect(dead_code, reason = "each test binary uses its own part")]
mod client_support;

use client_support::{client, name, new_store, noise, serve};
use cooper_registry::client::Credentials;
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Manifest, Platform, media_type};

/// Four times the limit; more only takes longer.
const BLOB: u64 = 256 << 20;
const LIMIT_KB: u64 = 64 << 10;

fn status_kb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_bounded() {
    let (_dir, store) = new_store();
    let (_dir, target) = new_store();
    let (_dir, back) = new_store();
    let there = name(&format!("{}/big:v1", serve(&target).await));
    let chunk = noise(1, 1 << 20);
    let mut ingest = store.ingest().unwrap();
    for _ in 0..BLOB / chunk.len() as u64 {
        ingest.write(&chunk).unwrap();
    }
    let (blob, size) = ingest.commit(None).unwrap();
    let config = br#"{"architecture":"any","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(
            media_type::OCI_CONFIG,
            store.put_blob(config).unwrap(),
            config.len() as u64,
        ),
        layers: vec![Descriptor::new(media_type::OCI_LAYER, blob.clone(), size)],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    store
        .put_manifest(
            Some(&there.repo),
            media_type::OCI_MANIFEST,
            &manifest,
            None,
            there.tag.as_slice(),
        )
        .unwrap();
    let before = status_kb("VmRSS");
    client(&store)
        .push(&there, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    client(&back)
        .pull(&there, &Platform::host(), Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    let peak = status_kb("VmHWM");
    assert_eq!(back.blob_info(&blob).unwrap().unwrap().size, BLOB);
    assert_eq!(
        back.resolve_tag(&there.repo, &"v1".parse().unwrap())
            .unwrap()
            .unwrap()
            .digest,
        Digest::sha256(&manifest)
    );
    println!("RSS {before} kB before, peak {peak} kB");
    assert!(peak - before < LIMIT_KB, "peak {peak} kB, {before} kB before");
}
