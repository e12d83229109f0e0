//! Against Debian's docker-registry (distribution 2.8) and skopeo, over loopback. Each test says why it skips when the
//! program is not installed.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]
#![expect(clippy::print_stdout, reason = "tests say why they skip")]

#[expect(dead_code, reason = "each test binary uses its own part")]
mod client_support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use client_support::{
    assert_stored, client, image, layer_tar, name, new_store, noise, put, serve, small_image, stored,
};
use cooper_registry::client::{Credentials, Progress};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform, media_type};
use cooper_registry::store::Store;
use tempfile::TempDir;

/// A docker-registry with its storage in a directory that goes when it ends.
struct Registry {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }
}

fn installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

async fn docker_registry() -> Option<Registry> {
    if !installed("docker-registry") {
        return None;
    }
    let dir = TempDir::new().unwrap();
    // A port that was free a moment ago: the program cannot be handed a socket.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = dir.path().join("config.yml");
    let storage = dir.path().join("storage");
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    std::fs::write(&config, text).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let registry = Registry {
        child,
        address,
        _dir: dir,
    };
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Some(registry);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("docker-registry does not listen on {address}");
}

async fn skopeo(arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new("skopeo");
    let output = command
        .args(["--insecure-policy"])
        .args(arguments)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "skopeo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_registry_both_ways() {
    let Some(registry) = docker_registry().await else {
        return;
    };
    let (_dir, store) = new_store();
    // A blob of 0, of 1 byte beyond the small limit, and of several buffers.
    let tars = [
        layer_tar("a", &noise(1, 100)),
        layer_tar("b", &noise(2, 1 << 20)),
        layer_tar("c", &noise(3, 7 << 20)),
    ];
    let parts = image(&Platform::host().architecture, &tars);
    let there = name(&format!("{}/team/demo:v1", registry.address));
    put(&store, &parts, &there);
    client(&store)
        .push(&there, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();

    let (_dir, other) = new_store();
    let pulled = client(&other)
        .pull(&there, &Platform::host(), Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_eq!(pulled.digest, parts.digest());
    assert_stored(&other, &parts, &there);

    // To a second repository there the blobs are mounted.
    let second = name(&format!("{}/team/other:v1", registry.address));
    store
        .put_manifest(
            Some(&second.repo),
            media_type::OCI_MANIFEST,
            &parts.manifest,
            None,
            second.tag.as_slice(),
        )
        .unwrap();
    let mounted = std::sync::atomic::AtomicUsize::new(0);
    let report = |progress: Progress| {
        if matches!(progress, Progress::Mounted(_)) {
            mounted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    };
    client(&store)
        .push(&second, Credentials::Anonymous, &report)
        .await
        .unwrap();
    assert_eq!(mounted.into_inner(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_index_becomes_its_image_where_it_is_refused() {
    let Some(registry) = docker_registry().await else {
        return;
    };
    let (_dir, store) = new_store();
    let parts = small_image(41);
    let there = name(&format!("{}/sparse:v1", registry.address));
    put(
        &store,
        &parts,
        &name(&format!("{}/sparse:image", registry.address)),
    );
    let child = |digest, size| {
        let mut child = Descriptor::new(media_type::OCI_MANIFEST, digest, size);
        child.platform = Some(Platform::host());
        child
    };
    let children = [
        child(parts.digest(), parts.manifest.len() as u64),
        child(Digest::sha256(b"absent"), 6),
    ];
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
    let index = index.to_string().into_bytes();
    store
        .put_manifest(
            Some(&there.repo),
            media_type::OCI_INDEX,
            &index,
            None,
            there.tag.as_slice(),
        )
        .unwrap();
    let pushed = client(&store)
        .push(&there, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_eq!(pushed.digest, parts.digest());
}

fn push_locally(store: &Store) -> client_support::Parts {
    let parts = small_image(51);
    put(store, &parts, &name("demo:v1"));
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_in_and_out_of_our_registry() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = new_store();
    let parts = push_locally(&store);
    let address = serve(&store).await;
    let ours = format!("docker://{address}/demo:v1");
    let inspected: serde_json::Value =
        serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &ours]).await).unwrap();
    assert_eq!(inspected["Digest"], parts.digest().to_string());
    assert_eq!(inspected["RepoTags"], serde_json::json!(["v1"]));
    assert_eq!(inspected["Layers"].as_array().unwrap().len(), 2);
    assert_eq!(
        skopeo(&["inspect", "--raw", "--tls-verify=false", &ours])
            .await
            .into_bytes(),
        parts.manifest
    );

    let out = format!("oci:{}", dir.path().join("out").display());
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--preserve-digests",
        &ours,
        &out,
    ])
    .await;
    let (_dir, second) = new_store();
    let address = serve(&second).await;
    let there = format!("docker://{address}/copied/demo:v2");
    skopeo(&[
        "copy",
        "--dest-tls-verify=false",
        "--preserve-digests",
        &out,
        &there,
    ])
    .await;
    assert_stored(&second, &parts, &name("copied/demo:v2"));
    skopeo(&["delete", "--tls-verify=false", &there]).await;
    assert_eq!(
        second
            .resolve_tag(&name("copied/demo").repo, &"v2".parse().unwrap())
            .unwrap(),
        None
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_between_docker_registry_and_ours() {
    let Some(registry) = docker_registry().await else {
        return;
    };
    if !installed("skopeo") {
        return;
    }
    let (_dir, store) = new_store();
    let parts = push_locally(&store);
    let address = serve(&store).await;
    let theirs = format!("docker://{}/demo:v1", registry.address);
    let tls = [
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--preserve-digests",
    ];
    let copy = async |from: &str, to: &str| skopeo(&["copy", tls[0], tls[1], tls[2], from, to]).await;
    copy(&format!("docker://{address}/demo:v1"), &theirs).await;
    copy(&theirs, &format!("docker://{address}/back:v1")).await;
    assert_eq!(stored(&store, &name("back:v1")), parts.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reads_and_writes_archives() {
    if !installed("skopeo") {
        return;
    }
    let (dir, store) = new_store();
    let parts = push_locally(&store);
    let saved = dir.path().join("saved.tar");
    let file = |path: &Path| path.display().to_string();
    let image = store.image("demo:v1").unwrap();
    let mut out = std::fs::File::create(&saved).unwrap();
    cooper_registry::archive::save(&store, &[(image, vec![name("demo:v1")])], &mut out).unwrap();
    let address = serve(&store).await;
    for (from, to) in [
        (
            format!("docker-archive:{}:demo:v1", file(&saved)),
            "docker-archive",
        ),
        (format!("oci-archive:{}:v1", file(&saved)), "oci-archive"),
    ] {
        let there = format!("docker://{address}/from/{to}:v1");
        skopeo(&["copy", "--dest-tls-verify=false", &from, &there]).await;
        let again = dir.path().join(format!("{to}.tar"));
        let target = format!("{to}:{}:again:v1", file(&again));
        skopeo(&["copy", "--src-tls-verify=false", &there, &target]).await;
        let (_dir, fresh) = new_store();
        let mut tar = std::fs::File::open(&again).unwrap();
        let loaded = cooper_registry::archive::load(&fresh, &mut tar).unwrap();
        assert_eq!(
            loaded,
            [cooper_registry::archive::Loaded::Name(name("again:v1"))],
            "{to}"
        );
        let config = fresh.image("again:v1").unwrap().config_bytes;
        assert_eq!(config, parts.config, "{to}");
    }
}
