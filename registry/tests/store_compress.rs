//! Compressed layers in the store: remembered, collected, and never half there.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::Read;
use std::sync::atomic::AtomicBool;

use common::{config, root, sh, store};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::store::{Backing, Coding, Error, GcOptions, Layer, Store};

fn layer(store: &Store, script: &str) -> (Layer, Descriptor) {
    let snapshot = store.new_snapshot().unwrap();
    sh(&snapshot.upper(), script);
    let layer = store.commit_snapshot(snapshot, Some(1_700_000_000)).unwrap();
    let descriptor = store.layer_descriptor(&layer);
    (layer, descriptor)
}

/// Nobody stops it.
static GO: AtomicBool = AtomicBool::new(false);
const FILES: &str = "seq 1 400000 > numbers; head -c 3000000 /dev/urandom > noise; mkdir d; echo x > d/x";

fn read(mut reader: Box<dyn Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    bytes
}

fn bytes(store: &Store, digest: &Digest) -> Vec<u8> {
    read(store.open_blob(digest, 0).unwrap())
}

#[test]
fn the_same_on_any_number_of_threads_and_from_any_source() {
    if !root() {
        return;
    }
    let (_dir, first) = store();
    let (made, plain) = layer(&first, FILES);
    let tar = bytes(&first, made.diff_id.digest());
    for coding in [Coding::gzip(None).unwrap(), Coding::zstd(None).unwrap()] {
        let mut found = Vec::new();
        for threads in [1, 2, 5, 16] {
            // A store that has the layer as a plain blob and has compressed nothing yet.
            let (_dir, other) = store();
            let digest = other.put_blob(&tar).unwrap();
            let stored = Descriptor::new(media_type::OCI_LAYER, digest, tar.len() as u64);
            let lease = other.lease().unwrap();
            let packed = other.compress_layer_with(&made.diff_id, &stored, coding, &lease, &GO, threads);
            found.push(packed.unwrap());
        }
        let lease = first.lease().unwrap();
        found.push(
            first
                .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
                .unwrap(),
        );
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        assert_eq!(found[0].media_type, coding.media_type());
        assert!(coding.is_format_of(&found[0].media_type));
        assert_eq!(bytes(&first, &found[0].digest).len() as u64, found[0].size);

        // From the compressed form alone: recoded, and made plain again.
        let (_dir, other) = store();
        other.put_blob(&bytes(&first, &found[0].digest)).unwrap();
        assert!(read(other.open_layer(&made.diff_id, &found[0]).unwrap()) == tar);
        let lease = other.lease().unwrap();
        let best = Coding::gzip(Some(1)).unwrap();
        let again = other
            .compress_layer(&made.diff_id, &found[0], best, &lease, &GO)
            .unwrap();
        let (_dir, third) = store();
        third.put_blob(&bytes(&other, &again.digest)).unwrap();
        let plain = third
            .plain_layer(&made.diff_id, &again, &third.lease().unwrap())
            .unwrap();
        assert_eq!(
            (plain.digest, plain.size),
            (made.diff_id.digest().clone(), made.size)
        );
    }
}

/// Paid once; a blob lives as long as something names it, and its row no longer.
#[test]
fn remembered_and_collected() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let (made, plain) = layer(&store, FILES);
    let coding = Coding::zstd(None).unwrap();
    let lease = store.lease().unwrap();
    lease.layer(&made.diff_id).unwrap();
    let packed = store
        .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
        .unwrap();
    let path = match store.blob_info(&packed.digest).unwrap().unwrap().backing {
        Backing::File(path) => path,
        other => panic!("{other:?}"),
    };
    let modified = || path.metadata().unwrap().modified().unwrap();
    let before = modified();
    store
        .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
        .unwrap();
    assert_eq!(modified(), before, "found, not made again");

    // A manifest keeps it when the lease has ended, and the layer's tree too.
    let image = store
        .put_image(
            &config(std::slice::from_ref(&made.diff_id)),
            std::slice::from_ref(&packed),
            &["a".parse().unwrap()],
        )
        .unwrap();
    drop(lease);
    store.gc(&GcOptions::default(), &|_| true).unwrap();
    assert!(path.exists());
    let usage = store.usage().unwrap();
    let du: u64 = sh(dir.path(), "sync; du -s -B1 store | cut -f1")
        .trim()
        .parse()
        .unwrap();
    assert_eq!(usage.total_bytes, du);
    let loaded = store.image("a").unwrap();
    assert_eq!(
        store.unpack_image(&loaded).unwrap(),
        std::slice::from_ref(&made.tree),
        "the tree that is there already"
    );
    store.delete_image(&image).unwrap();
    assert!(!path.exists());

    // The row went with it: the layer is compressed anew.
    let (made, plain) = layer(&store, FILES.split(';').next().unwrap());
    let lease = store.lease().unwrap();
    let packed = store
        .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
        .unwrap();
    assert!(store.blob_info(&packed.digest).unwrap().is_some());
    assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
}

/// Whatever stops it, nothing is left that looks like a result.
#[test]
fn broken_sources_leave_nothing() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let (made, plain) = layer(&store, FILES);
    let coding = Coding::gzip(None).unwrap();
    let lease = store.lease().unwrap();
    // The tree changes under the store: what comes out is not the layer.
    sh(&made.tree, "echo changed > d/x");
    let error = store
        .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    sh(&made.tree, "rm noise");
    assert!(
        store
            .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
            .is_err()
    );
    let left = sh(
        dir.path(),
        "ls store/ingest store/blobs/sha256 | grep -v : | grep . || true",
    );
    assert_eq!(left, "");
    let stopped = AtomicBool::new(true);
    let error = store
        .compress_layer(&layer(&store, FILES).0.diff_id, &plain, coding, &lease, &stopped)
        .unwrap_err();
    assert!(error.to_string().contains("cancelled"), "{error}");
    assert_eq!(sh(dir.path(), "ls store/ingest"), "");
    // A compressed blob that is another layer.
    let other = store
        .put_blob(&[
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ])
        .unwrap();
    let wrong = Descriptor::new(media_type::OCI_LAYER_GZIP, other, 20);
    let absent = cooper_registry::digest::DiffId(Digest::sha256(b"no such layer"));
    let error = store
        .compress_layer(&absent, &wrong, coding, &lease, &GO)
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    let nothing = Descriptor::new(media_type::OCI_LAYER, Digest::sha256(b"nothing"), 1);
    let error = store
        .compress_layer(&absent, &nothing, coding, &lease, &GO)
        .unwrap_err();
    assert!(matches!(error, Error::NoSuchBlob(_)), "{error}");
}

/// An index of version 1 is brought up to date when it is opened.
#[test]
fn older_index() {
    if !root() {
        return;
    }
    let (dir, first) = store();
    let (made, plain) = layer(&first, "echo x > x");
    let root = first.root().to_owned();
    drop(first);
    sh(
        dir.path(),
        "python3 -c \"import sqlite3; c = sqlite3.connect('store/index.db'); \
         c.execute('DROP TABLE compressed'); \
         c.execute('ALTER TABLE cache DROP COLUMN uses'); c.execute('PRAGMA user_version = 1'); c.commit()\"",
    );
    let store = Store::open(&root).unwrap();
    let lease = store.lease().unwrap();
    let coding = Coding::gzip(None).unwrap();
    store
        .compress_layer(&made.diff_id, &plain, coding, &lease, &GO)
        .unwrap();
}

/// Layers over each other as one.
#[test]
fn merged() {
    if !root() {
        return;
    }
    let (dir, store) = store();
    let marks = "xattr() { python3 -c 'import os,sys; os.setxattr(sys.argv[1],\"trusted.overlay.opaque\",b\"y\")' $1; };";
    let scripts = [
        "mkdir a b keep; echo 1 > a/f; echo 1 > b/f; echo 1 > file; ln file hard; echo 1 > gone; ln -s a link".to_owned(),
        format!("{marks} mkdir a link; xattr a; echo 2 > a/g; mknod gone c 0 0; mknod below c 0 0; echo 2 > link/x; chmod 700 link"),
        "mkdir keep; chown 5:6 keep; mknod b c 0 0; echo 3 > gone".to_owned(),
        "mkdir b; echo 4 > b/h".to_owned(),
    ];
    let layers: Vec<_> = scripts
        .iter()
        .map(|script| layer(&store, script).0.diff_id)
        .collect();
    let shown = |layer: &Layer| {
        sh(
            dir.path(),
            &format!(
                "cd {}; find . -mindepth 1 -printf '%P %y %m %U:%G %n\\n' | LC_ALL=C sort; \
                 find . -type d | LC_ALL=C sort | while read -r d; do xa list $d; done",
                layer.tree.display()
            ),
        )
    };
    let merged = store.merge_layers(&layers, false).unwrap();
    let all = "a d 755 0:0 2\na/g f 644 0:0 1\nb d 755 0:0 2\nb/h f 644 0:0 1\nbelow c 0 0:0 1\nfile f 644 0:0 2\n\
        gone f 644 0:0 1\nhard f 644 0:0 2\nkeep d 755 5:6 2\nlink d 700 0:0 2\nlink/x f 644 0:0 1\n";
    let opaque = ["a", "b", "link"]
        .map(|name| format!("b'./{name}' trusted.overlay.opaque b'y'\n"))
        .concat();
    assert_eq!(shown(&merged), format!("{all}{opaque}"));
    let bottom = store.merge_layers(&layers, true).unwrap();
    assert_eq!(shown(&bottom), all.replace("below c 0 0:0 1\n", ""));
    assert_eq!(store.merge_layers(&layers, false).unwrap(), merged);
}

/// Not a test: throughput of compressing `COOPER_MEASURE_TAR` (`cargo test … -- --ignored --nocapture measure`).
#[test]
#[ignore = "a measurement"]
fn measure() {
    let path = std::env::var("COOPER_MEASURE_TAR").unwrap();
    let (_dir, store) = store();
    let imported = store
        .import_layer(&mut std::fs::File::open(&path).unwrap())
        .unwrap();
    let plain = store.layer_descriptor(&imported);
    let lease = store.lease().unwrap();
    let start = std::time::Instant::now();
    std::io::copy(
        &mut store.open_layer(&imported.diff_id, &plain).unwrap(),
        &mut std::io::sink(),
    )
    .unwrap();
    println!("read and verify only: {:.2} s", start.elapsed().as_secs_f64());
    for coding in [
        Coding::zstd(None),
        Coding::zstd(Some(1)),
        Coding::gzip(None),
        Coding::gzip(Some(1)),
    ] {
        let coding = coding.unwrap();
        for threads in [1, 2] {
            let start = std::time::Instant::now();
            let (_dir, other) = common::store();
            let made = other
                .import_layer(&mut std::fs::File::open(&path).unwrap())
                .unwrap();
            let imported_in = start.elapsed();
            let lease = other.lease().unwrap();
            let start = std::time::Instant::now();
            let packed = other
                .compress_layer_with(&made.diff_id, &plain, coding, &lease, &GO, threads)
                .unwrap();
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{coding:?} {threads} threads: {seconds:.2} s, {:.0} MB/s, {} of {} bytes (import {imported_in:?})",
                made.size as f64 / 1e6 / seconds,
                packed.size,
                made.size
            );
        }
    }
    drop(lease);
}
