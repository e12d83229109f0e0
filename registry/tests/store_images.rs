//! Images, repositories, the build cache, leases, collection, crashes and company.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{config, e, foreign, root, sh, store, tar};
use cooper_registry::digest::{DiffId, Digest};
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::reference::{ImageRef, RepoName, Tag};
use cooper_registry::store::{Error, GcOptions, Store};

fn name(text: &str) -> ImageRef {
    text.parse().unwrap()
}

fn repo(text: &str) -> RepoName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// An image with one built layer that holds `content`.
fn image(store: &Store, content: &str, names: &[&str]) -> Digest {
    let snapshot = store.new_snapshot().unwrap();
    std::fs::write(snapshot.upper().join("f"), content).unwrap();
    let layer = store.commit_snapshot(snapshot, Some(0)).unwrap();
    let names: Vec<ImageRef> = names.iter().map(|text| name(text)).collect();
    store
        .put_image(
            &config(std::slice::from_ref(&layer.diff_id)),
            &[store.layer_descriptor(&layer)],
            &names,
        )
        .unwrap()
}

fn sound(store: &Store) {
    assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
}

#[test]
fn a_newer_format_is_refused() {
    let (dir, store) = store();
    drop(store);
    std::fs::write(dir.path().join("store/format"), "cooper-store 2\n").unwrap();
    let error = Store::open(&dir.path().join("store")).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("unsupported store format \"cooper-store 2\": this version reads \"cooper-store 1\""),
        "{error}"
    );
}

#[test]
fn blobs_are_visible_only_when_verified() {
    let (_dir, store) = store();
    let right = Digest::sha256(b"hello");
    let mut ingest = store.ingest().unwrap();
    ingest.write(b"hell").unwrap();
    let id = ingest.suspend().unwrap();
    assert!(store.blob_info(&right).unwrap().is_none());
    // Another process knows no hash state.
    let other = Store::open(store.root()).unwrap();
    let mut resumed = other.resume_ingest(&id).unwrap().unwrap();
    assert!(
        store.resume_ingest(&id).unwrap().is_none(),
        "one writer at a time"
    );
    assert_eq!(resumed.len(), 4);
    resumed.write(b"o").unwrap();
    assert_eq!(resumed.commit(Some(&right)).unwrap(), (right.clone(), 5));
    assert_eq!(store.read_blob(&right, 5).unwrap(), b"hello");
    assert!(matches!(store.read_blob(&right, 4), Err(Error::TooLarge { .. })));
    let mut wrong = store.ingest().unwrap();
    wrong.write(b"other").unwrap();
    assert!(matches!(
        wrong.commit(Some(&right)),
        Err(Error::DigestMismatch { .. })
    ));
    let mut hasher = cooper_registry::digest::Algorithm::Sha512.hasher();
    hasher.update(b"hello");
    let long = hasher.finish();
    let mut ingest = store.ingest().unwrap();
    ingest.write(b"hello").unwrap();
    ingest.commit(Some(&long)).unwrap();
    assert_eq!(store.read_blob(&long, 5).unwrap(), b"hello");
    drop(store.ingest().unwrap());
    assert!(store.resume_ingest("../../../etc/passwd").unwrap().is_none());
    assert_eq!(std::fs::read_dir(store.root().join("ingest")).unwrap().count(), 0);
    sound(&store);
}

#[test]
fn names_ids_and_prefixes() {
    let (_dir, store) = store();
    let first = image(&store, "1", &["demo", "localhost:5000/team/demo:v1"]);
    let second = image(&store, "2", &["demo:two"]);
    let check = |text: &str, expected: &Digest| {
        assert_eq!(
            &store
                .image(text)
                .unwrap_or_else(|error| panic!("{text}: {error}"))
                .id,
            expected,
            "{text}"
        );
    };
    for text in [
        "demo",
        "demo:latest",
        "docker.io/library/demo",
        "localhost:5000/team/demo:v1",
    ] {
        check(text, &first);
    }
    check(&format!("demo@{second}"), &second);
    check(&format!("demo:latest@{second}"), &second);
    for text in [
        second.to_string(),
        second.hex().to_owned(),
        second.short().to_owned(),
        format!("sha256:{}", &second.hex()[..20]),
    ] {
        check(&text, &second);
    }
    assert!(
        matches!(
            store.image(&format!("localhost:5000/team/demo@{second}")),
            Err(Error::NoSuchImage(_))
        ),
        "not in that repository"
    );
    for text in ["nothing", "demo:nothing", &"0".repeat(64), "sha256:0000"] {
        assert!(matches!(store.image(text), Err(Error::NoSuchImage(_))), "{text}");
    }
    assert!(matches!(store.image("Demo"), Err(Error::Reference(_))));
    // A name wins over an id prefix.
    store.tag_image(&first, &name(&second.hex()[..8])).unwrap();
    check(&second.hex()[..8], &first);
    // Enough images for two to share their first digit.
    for n in 0..16 {
        image(&store, &format!("many {n}"), &[]);
    }
    let ids: Vec<String> = store
        .images()
        .unwrap()
        .iter()
        .map(|image| image.id.hex()[..1].to_owned())
        .collect();
    let shared = ids
        .iter()
        .find(|one| ids.iter().filter(|other| other == one).count() > 1)
        .unwrap();
    assert!(matches!(store.image(shared), Err(Error::Ambiguous(_))));
    assert_eq!(store.image("demo").unwrap().names.len(), 3);
    sound(&store);
}

#[test]
fn an_index_gives_the_child_for_this_host() {
    let (_dir, store) = store();
    let child = image(&store, "child", &["multi:child"]);
    let bytes = store
        .manifest(&repo("multi"), &child)
        .unwrap()
        .unwrap()
        .descriptor;
    let host = cooper_registry::oci::Platform::host();
    let entry = |architecture: &str, digest: &Digest| {
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":{},"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#,
            media_type::OCI_MANIFEST,
            bytes.size
        )
    };
    let index = |entries: &str| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entries}]}}"#,
            media_type::OCI_INDEX
        )
    };
    let both = index(&format!(
        "{},{}",
        entry("s390x", &Digest::sha256(b"absent")),
        entry(&host.architecture, &child)
    ));
    let id = store
        .put_manifest(
            Some(&repo("multi")),
            media_type::OCI_INDEX,
            both.as_bytes(),
            None,
            &[tag("latest")],
        )
        .unwrap()
        .digest;
    store.delete_tag(&repo("multi"), &tag("child")).unwrap();
    let got = store.image("multi").unwrap();
    assert_eq!((&got.id, &got.manifest_digest), (&id, &child));
    assert_eq!(store.images().unwrap().len(), 1, "a child is no image of its own");
    let foreign = index(&entry("s390x", &child));
    store
        .put_manifest(
            Some(&repo("foreign")),
            media_type::OCI_INDEX,
            foreign.as_bytes(),
            None,
            &[tag("latest")],
        )
        .unwrap();
    assert!(matches!(store.image("foreign"), Err(Error::NotRunnable { .. })));
    let report = store.delete_image(&id).unwrap();
    assert_eq!(report.untagged, [name("multi:latest")]);
    sound(&store);
}

#[test]
fn repositories_do_not_see_each_other() {
    let (_dir, store) = store();
    let (a, b) = (repo("a"), repo("b"));
    let id = image(&store, "x", &["a:1", "a:1.0", "a:1-rc"]);
    assert!(store.manifest(&a, &id).unwrap().is_some());
    assert!(store.manifest(&b, &id).unwrap().is_none());
    let stored = store.image("a:1").unwrap();
    let layer = stored.manifest.layers[0].digest.clone();
    assert!(store.repo_has_blob(&a, &layer).unwrap() && !store.repo_has_blob(&b, &layer).unwrap());
    assert!(matches!(
        store.set_tag(&b, &tag("t"), &id),
        Err(Error::NoSuchManifest(_))
    ));
    store.link_blob(&b, &layer).unwrap();
    assert!(store.repo_has_blob(&b, &layer).unwrap());
    assert!(store.unlink_blob(&b, &layer).unwrap() && !store.unlink_blob(&b, &layer).unwrap());
    assert!(matches!(
        store.link_blob(&b, &Digest::sha256(b"absent")),
        Err(Error::NoSuchBlob(_))
    ));
    let tags = |last, limit| {
        store
            .tags(&a, last, limit)
            .unwrap()
            .unwrap()
            .iter()
            .map(|t| t.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(tags(None, None), ["1", "1-rc", "1.0"]);
    assert_eq!(tags(Some("1"), Some(1)), ["1-rc"]);
    assert_eq!(tags(None, Some(0)), [""; 0]);
    assert!(store.tags(&repo("unknown"), None, None).unwrap().is_none());
    assert_eq!(store.repositories(None, None).unwrap(), std::slice::from_ref(&a));
    assert!(store.delete_manifest(&a, &id).unwrap() && !store.delete_manifest(&a, &id).unwrap());
    assert!(store.resolve_tag(&a, &tag("1")).unwrap().is_none());
    sound(&store);
}

#[test]
fn referrers_as_the_spec_says() {
    let (_dir, store) = store();
    let (r, subject) = (repo("r"), Digest::sha256(b"missing subject"));
    let descriptor =
        |kind: &str, digest: &Digest| format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":2}}"#);
    let empty = store.put_blob(b"{}").unwrap();
    let artifact = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[],"subject":{},"annotations":{{"k":"v"}}}}"#,
        descriptor("application/x.config", &empty),
        descriptor(media_type::OCI_MANIFEST, &subject)
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[],"subject":{}}}"#,
        descriptor(media_type::OCI_MANIFEST, &subject)
    );
    let put = |kind: &str, body: &str| {
        store
            .put_manifest(Some(&r), kind, body.as_bytes(), None, &[])
            .unwrap()
            .digest
    };
    let (one, two) = (
        put(media_type::OCI_MANIFEST, &artifact),
        put(media_type::OCI_INDEX, &index),
    );
    let got = store.referrers(&r, &subject).unwrap();
    let of = |digest: &Digest| got.iter().find(|d| d.digest == *digest).unwrap();
    assert_eq!(of(&one).artifact_type.as_deref(), Some("application/x.config"));
    assert_eq!(of(&one).annotations["k"], "v");
    assert_eq!(
        (of(&two).artifact_type.as_deref(), of(&two).size),
        (None, index.len() as u64)
    );
    assert!(store.referrers(&repo("elsewhere"), &subject).unwrap().is_empty());
    store.delete_manifest(&r, &one).unwrap();
    assert_eq!(store.referrers(&r, &subject).unwrap().len(), 1);
    assert_eq!(store.manifest(&r, &two).unwrap().unwrap().bytes, index.as_bytes());
}

#[test]
fn collection_keeps_what_is_needed() {
    let (_dir, store) = store();
    let kept = image(&store, "kept", &["kept"]);
    let dangling = image(&store, "dangling", &["moves"]);
    let moved = image(&store, "moved", &["moves"]);
    let layer_of = |id: &Digest| {
        DiffId(
            store.image(&id.to_string()).unwrap().manifest.layers[0]
                .digest
                .clone(),
        )
    };
    let (kept_layer, dangling_layer, moved_layer) = (layer_of(&kept), layer_of(&dangling), layer_of(&moved));
    let gc = |options: GcOptions| store.gc(&options, &|lease| lease == "container/alive").unwrap();
    assert!(gc(GcOptions::default()).deleted.is_empty());
    assert_eq!(store.images().unwrap().len(), 3);

    store
        .cache_put("key", "RUN x", b"value", std::slice::from_ref(&dangling_layer))
        .unwrap();
    let dry = gc(GcOptions {
        dangling: true,
        dry_run: true,
        ..GcOptions::default()
    });
    assert!(dry.deleted.contains(&dangling) && store.image(&dangling.to_string()).is_ok());
    let real = gc(GcOptions {
        dangling: true,
        ..GcOptions::default()
    });
    assert_eq!((real.deleted, real.freed_bytes), (dry.deleted, dry.freed_bytes));
    assert!(
        store.layer(&dangling_layer).unwrap().is_some(),
        "the build cache has it"
    );
    assert_eq!(
        store.cache_get("key").unwrap().unwrap().layers,
        std::slice::from_ref(&dangling_layer)
    );
    assert_eq!(
        gc(GcOptions {
            cache: true,
            ..GcOptions::default()
        })
        .cache_deleted,
        ["key"]
    );
    assert!(store.layer(&dangling_layer).unwrap().is_none() && store.cache_get("key").unwrap().is_none());

    store
        .lease_named("container/alive")
        .unwrap()
        .manifest(&kept)
        .unwrap();
    store
        .lease_named("container/dead")
        .unwrap()
        .manifest(&moved)
        .unwrap();
    let unused = gc(GcOptions {
        unused_images: true,
        ..GcOptions::default()
    });
    assert_eq!(unused.untagged, [name("moves:latest")]);
    assert!(store.layer(&moved_layer).unwrap().is_none());
    // Deleted by force while a container runs: the lease keeps the layers.
    store.delete_image(&kept).unwrap();
    assert!(store.image("kept").is_err() && store.layer(&kept_layer).unwrap().is_some());
    store.release_named("container/alive").unwrap();
    gc(GcOptions::default());
    assert!(store.layer(&kept_layer).unwrap().is_none());
    assert_eq!(
        sh(store.root(), "ls blobs/sha256 layers/sha256 trash"),
        "blobs/sha256:\n\nlayers/sha256:\n\ntrash:\n"
    );
    sound(&store);
    let leases = store.root().join("leases");
    drop(store);
    assert_eq!(std::fs::read_dir(leases).unwrap().count(), 0);
}

#[test]
fn a_lease_ends_with_its_owner() {
    let (_dir, store) = store();
    let id = image(&store, "x", &["x"]);
    let lease = store.lease().unwrap();
    lease.manifest(&id).unwrap();
    let other = Store::open(store.root()).unwrap();
    other.delete_image(&id).unwrap();
    let manifest_is_there = || store.blob_info(&id).unwrap().is_some();
    assert!(manifest_is_there());
    drop(lease);
    other.gc(&GcOptions::default(), &|_| true).unwrap();
    assert!(!manifest_is_there());
}

#[test]
fn usage_equals_du() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let id = image(&store, &"x".repeat(100_000), &["x"]);
    image(&store, "y", &["y"]);
    let (diff_id, descriptor) = foreign(
        &store,
        &tar(&[
            e(b'5', "d"),
            e(b'0', "d/f").data(vec![1; 70_000]),
            e(b'1', "d/h").link("d/f"),
        ]),
    );
    let foreign = store
        .put_image(&config(&[diff_id]), &[descriptor], &[name("foreign")])
        .unwrap();
    store
        .unpack_image(&store.image(&foreign.to_string()).unwrap())
        .unwrap();
    let usage = store.usage().unwrap();
    let du = |what: &str| {
        sh(
            store.root(),
            &format!("du -sc --block-size=1 {what} | tail -1 | cut -f1"),
        )
        .trim()
        .parse::<u64>()
        .unwrap()
    };
    assert_eq!(
        (usage.layers_bytes, usage.blobs_bytes, usage.total_bytes),
        (du("layers/*/*"), du("blobs/*/*"), du("."))
    );
    assert_eq!(
        usage.total_bytes,
        usage.layers_bytes + usage.blobs_bytes + usage.other_bytes
    );
    let (_, total, unique) = usage.images.iter().find(|(image, ..)| *image == id).unwrap();
    assert!(*total >= 100_000 && total == unique);
}

#[test]
fn a_layer_from_before_a_reboot_is_hashed_again() {
    if !root() {
        return;
    }
    let (_dir, store) = store();
    let make = |content: &str| {
        let snapshot = store.new_snapshot().unwrap();
        std::fs::write(snapshot.upper().join("f"), content).unwrap();
        store.commit_snapshot(snapshot, Some(0)).unwrap()
    };
    let (whole, torn, synced) = (make("whole"), make("torn"), make("synced"));
    let dir = |layer: &cooper_registry::store::Layer| layer.tree.parent().unwrap().to_owned();
    for layer in [&whole, &torn] {
        sh(
            &dir(layer),
            r#"sed -i 's/"boot":"[^"]*"/"boot":"an earlier one"/' layer.json"#,
        );
    }
    sh(&torn.tree, ": > f");
    store.sync().unwrap();
    assert!(dir(&synced).join("durable").exists());
    std::fs::remove_file(dir(&torn).join("durable")).unwrap();
    std::fs::remove_file(dir(&whole).join("durable")).unwrap();
    let after = Store::open(store.root()).unwrap();
    assert_eq!(after.layer(&whole.diff_id).unwrap(), Some(whole.clone()));
    assert!(dir(&whole).join("durable").exists());
    assert_eq!(after.layer(&torn.diff_id).unwrap(), None);
    assert!(!dir(&torn).exists());
    sound(&store);
}

/// Not a test of its own: what the children of the tests below run.
#[test]
fn child() {
    let Ok(dir) = std::env::var("COOPER_STORE_CHILD") else {
        return;
    };
    let store = Store::open(Path::new(&dir)).unwrap();
    let seed: u64 = std::env::var("COOPER_STORE_SEED").unwrap().parse().unwrap();
    let rounds: u64 = std::env::var("COOPER_STORE_ROUNDS").unwrap().parse().unwrap();
    let archive = tar(&[
        e(b'5', "d"),
        e(b'0', "d/f").data(vec![5; 200_000]),
        e(b'0', "g").data("g"),
    ]);
    for round in 0..rounds {
        let n = (seed + round) % 7;
        image(
            &store,
            &format!("content {n}"),
            &[&format!("img{n}"), "latest-one"],
        );
        let (diff_id, descriptor) = foreign(&store, &archive);
        let id = store
            .put_image(&config(&[diff_id]), &[descriptor], &[name("pulled")])
            .unwrap();
        let lease = store.lease().unwrap();
        lease.manifest(&id).unwrap();
        if let Ok(image) = store.image(&id.to_string()) {
            for tree in store.unpack_image(&image).unwrap() {
                assert!(tree.join("d/f").exists());
            }
        }
        drop(lease);
        let mut ingest = store.ingest().unwrap();
        ingest.write(&vec![u8::try_from(n).unwrap(); 50_000]).unwrap();
        if n == 3 {
            drop(ingest.suspend().unwrap());
        } else {
            drop(ingest.commit(None).unwrap());
        }
        match n {
            1 => drop(
                store
                    .gc(
                        &GcOptions {
                            dangling: true,
                            ..GcOptions::default()
                        },
                        &|_| true,
                    )
                    .unwrap(),
            ),
            2 => drop(
                store
                    .image(&format!("img{}", n + 1))
                    .map(|image| store.delete_image(&image.id)),
            ),
            4 => drop(store.gc(&GcOptions::default(), &|_| true).unwrap()),
            _ => {}
        }
    }
}

fn spawn(dir: &Path, seed: u64, rounds: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("COOPER_STORE_CHILD", dir)
        .env("COOPER_STORE_SEED", seed.to_string())
        .env("COOPER_STORE_ROUNDS", rounds.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_kill_at_any_point_leaves_a_sound_store() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("store");
    for round in 0..40u64 {
        let mut child = spawn(&path, round, u64::MAX);
        // Spread over the whole of a first run, then over steady work.
        std::thread::sleep(Duration::from_micros(3_000 + round * round * 170));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.check(true).unwrap(), Vec::<String>::new(), "round {round}");
        for image in store.images().unwrap() {
            for layer in &image.manifest.layers {
                store
                    .open_blob(&layer.digest, 0)
                    .unwrap()
                    .read_to_end(&mut Vec::new())
                    .unwrap();
            }
        }
    }
    let store = Store::open(&path).unwrap();
    let everything = GcOptions {
        dangling: true,
        unused_images: true,
        cache: true,
        dry_run: false,
        ..GcOptions::default()
    };
    store.gc(&everything, &|_| false).unwrap();
    assert_eq!(
        sh(store.root(), "ls snapshots leases trash; ls locks"),
        "leases:\n\nsnapshots:\n\ntrash:\ngc\n"
    );
    assert!(store.images().unwrap().is_empty());
    sound(&store);
}

#[test]
fn several_processes_at_once() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let children: Vec<Child> = (0..4).map(|seed| spawn(&path, seed * 3, 20)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    sound(&Store::open(&path).unwrap());
}

#[test]
fn opening_is_cheap() {
    let (_dir, store) = store();
    image(&store, "x", &["x"]);
    let start = std::time::Instant::now();
    for _ in 0..100 {
        Store::open(store.root()).unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_millis(200),
        "{:?} for 100",
        start.elapsed()
    );
}

#[test]
fn descriptor_of_a_layer_is_its_blob() {
    let (_dir, store) = store();
    let layer = store
        .commit_snapshot(store.new_snapshot().unwrap(), None)
        .unwrap();
    let descriptor: Descriptor = store.layer_descriptor(&layer);
    assert_eq!(
        (descriptor.media_type.as_str(), descriptor.size),
        (media_type::OCI_LAYER, 1024)
    );
    assert_eq!(store.read_blob(&descriptor.digest, 1024).unwrap(), [0; 1024]);
}

/// What du counts below the store, apart from what an empty store has.
fn names_below(dir: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names_below(&entry.path(), out);
        } else {
            out.push(entry.file_name().into_string().unwrap());
        }
    }
    out.sort();
}

#[test]
fn what_a_dead_process_made_goes_at_once() {
    let (dir, store) = store();
    let options = GcOptions {
        unused_images: true,
        cache: true,
        ..GcOptions::default()
    };
    let maker = Store::open(&dir.path().join("store")).unwrap();
    let snapshot = maker.new_snapshot().unwrap();
    std::fs::write(snapshot.upper().join("f"), "x").unwrap();
    let layer = maker.commit_snapshot(snapshot, None).unwrap();
    let blob = maker.put_blob(b"config").unwrap();
    store.gc(&options, &|_| true).unwrap();
    assert!(store.layer(&layer.diff_id).unwrap().is_some(), "its maker lives");
    assert!(store.blob_info(&blob).unwrap().is_some(), "its maker lives");
    drop(maker);
    store.gc(&options, &|_| true).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.layers_bytes, usage.blobs_bytes), (0, 0));
    let root = store.root().to_owned();
    drop(store);
    let mut names = Vec::new();
    names_below(&root, &mut names);
    // SQLite's log and its index stay between processes: see store::index.
    names.retain(|name| !name.starts_with("index.db-"));
    assert_eq!(names, ["format", "gc", "index.db", "reserve"]);
}

#[test]
fn a_full_disk_can_be_emptied() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = Mounted::tmpfs(dir.path(), "16m");
    let store = Store::open(&dir.path().join("store")).unwrap();
    let id = image(&store, &"x".repeat(4 << 20), &["a:1"]);
    store.cache_put("k", "d", &vec![b'x'; 100_000], &[]).unwrap();
    fill(&dir.path().join("fill"));
    drop(store);
    let store = Store::open(&dir.path().join("store")).unwrap();
    let snapshot = store.new_snapshot();
    let error = snapshot.and_then(|s| store.commit_snapshot(s, None)).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    sound(&store);
    let report = store.delete_image(&id).unwrap();
    assert!(report.freed_bytes > 4 << 20, "{report:?}");
    sound(&store);
    image(&store, "y", &["b:1"]);
    assert!(store.root().join("reserve").exists(), "made again");
    drop(store);
    drop(mount);
}

/// Takes all the space that is left.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for block in [vec![0u8; 64 << 10], vec![0u8; 512]] {
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}

/// Unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(at: &Path, size: &str) -> Self {
        let options = format!("size={size}");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(at)
            .status();
        assert!(status.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()));
    }
}
