//! The client against our own server and against a scripted registry that misbehaves.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod client_support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use client_support::{
    Parts, assert_stored, client, image, ingests, layer_tar, name, new_store, noise, put, put_blobs, serve,
    small_image, stored,
};
use cooper_registry::client::{Client, ClientConfig, Credentials, Error, Progress};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, ImageConfig, Platform, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::server;
use cooper_registry::store::{Backing, Store};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

fn basic() -> Credentials {
    Credentials::Basic {
        username: "ann".to_owned(),
        password: "s3cret".to_owned(),
    }
}

async fn pull(client: &Client, name: &ImageRef, credentials: Credentials) -> Result<Descriptor, Error> {
    client.pull(name, &Platform::host(), credentials, &|_| {}).await
}

/// Serves `router` on a loopback port.
async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    address
}

type Log = Arc<Mutex<Vec<String>>>;

/// A registry over `store` whose answers `script` may replace or spoil. Gives its address and what was asked.
async fn scripted<F>(store: &Store, script: F) -> (String, Log)
where
    F: Fn(&Request, usize) -> Option<Scripted> + Clone + Send + Sync + 'static,
{
    let log = Log::default();
    let honest = server::router(store.clone());
    let record = Arc::clone(&log);
    let router = Router::new().fallback(move |request: Request| {
        let (honest, script, record) = (honest.clone(), script.clone(), Arc::clone(&record));
        async move {
            let line = format!("{} {}", request.method(), request.uri().path());
            let authorization = request
                .headers()
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned());
            let range = request
                .headers()
                .get("range")
                .map(|value| value.to_str().unwrap().to_owned());
            let before = {
                let mut log = record.lock().unwrap();
                let before = log.iter().filter(|entry| entry.starts_with(&line)).count();
                log.push(format!(
                    "{line} {} {}",
                    range.unwrap_or_default(),
                    authorization.unwrap_or_default()
                ));
                before
            };
            match script(&request, before) {
                None => honest.oneshot(request).await.unwrap(),
                Some(Scripted::Answer(response)) => response,
                Some(Scripted::Truncate(keep)) => {
                    let (parts, body) = honest.oneshot(request).await.unwrap().into_parts();
                    let bytes = axum::body::to_bytes(body, 1 << 30).await.unwrap();
                    let mut chunks = [Ok(bytes.slice(..keep)), Err(std::io::Error::other("cut"))].into_iter();
                    // Between the two hyper must find nothing to do, so that it sends what it has.
                    let stream = futures_util::stream::unfold(true, move |first| {
                        let chunk = chunks.next();
                        async move {
                            if !first {
                                tokio::task::yield_now().await;
                            }
                            Some((chunk?, false))
                        }
                    });
                    Response::from_parts(parts, Body::from_stream(stream))
                }
                Some(Scripted::WithoutRange) => {
                    let mut request = request;
                    request.headers_mut().remove("range");
                    honest.oneshot(request).await.unwrap()
                }
            }
        }
    });
    (listen(router).await, log)
}

enum Scripted {
    Answer(Response),
    /// The honest answer, cut after so many bytes.
    Truncate(usize),
    /// The honest answer of a server that does not know Range.
    WithoutRange,
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Option<Scripted> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    Some(Scripted::Answer(response.body(body.into()).unwrap()))
}

fn is_blob(request: &Request, parts_blob: &Digest) -> bool {
    request.method() == "GET" && request.uri().path().ends_with(&parts_blob.to_string())
}

fn upstream() -> (tempfile::TempDir, Store, Parts, Digest) {
    let (dir, store) = new_store();
    let parts = small_image(11);
    put(&store, &parts, &name("demo"));
    let big = Digest::sha256(&parts.layers[1]);
    (dir, store, parts, big)
}

#[tokio::test]
async fn pulls_and_pushes_byte_identical() {
    let (_dir, source, parts, _) = upstream();
    let address = serve(&source).await;
    let (_dir, middle) = new_store();
    let local = name(&format!("{address}/demo:latest"));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let report = move |progress: Progress| record.lock().unwrap().push(format!("{progress:?}"));
    let pulled = client(&middle)
        .pull(&local, &Platform::host(), Credentials::Anonymous, &report)
        .await
        .unwrap();
    assert_eq!(
        (pulled.digest, pulled.size),
        (parts.digest(), parts.manifest.len() as u64)
    );
    assert_stored(&middle, &parts, &local);
    let count = |what: &str| {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|line| line.starts_with(what))
            .count()
    };
    assert_eq!((count("Resolving"), count("Waiting"), count("Done")), (1, 3, 3));
    assert!(count("Downloading") >= 3);

    // Again: everything is there, nothing is fetched.
    seen.lock().unwrap().clear();
    client(&middle)
        .pull(&local, &Platform::host(), Credentials::Anonymous, &report)
        .await
        .unwrap();
    assert_eq!((count("Exists"), count("Downloading")), (3, 0));

    let (_dir, target) = new_store();
    let there = name(&format!("{}/deep/er/demo:v1", serve(&target).await));
    middle
        .put_manifest(
            Some(&there.repo),
            media_type::OCI_MANIFEST,
            &parts.manifest,
            None,
            there.tag.as_slice(),
        )
        .unwrap();
    seen.lock().unwrap().clear();
    let pushed = client(&middle)
        .push(&there, Credentials::Anonymous, &report)
        .await
        .unwrap();
    assert_eq!(pushed.digest, parts.digest());
    assert_stored(&target, &parts, &name("deep/er/demo:v1"));
    assert_eq!(count("Pushed"), 4);
    assert_eq!((ingests(&middle), ingests(&target)), (0, 0));
}

#[tokio::test]
async fn pushing_to_the_same_store_moves_no_layer() {
    let (_dir, store) = new_store();
    let (address, log) = scripted(&store, |_, _| None).await;
    let parts = small_image(5);
    let local = name(&format!("{address}/team/demo:1"));
    put(&store, &parts, &local);
    client(&store)
        .push(&local, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_eq!(stored(&store, &name("team/demo:1")), parts.manifest);
    let log = log.lock().unwrap();
    assert!(
        !log.iter()
            .any(|line| line.starts_with("PATCH") || line.starts_with("PUT /v2/team/demo/blobs")),
        "{log:?}"
    );
}

#[tokio::test]
async fn a_broken_blob_is_continued() {
    let (_dir, upstream, parts, big) = upstream();
    let digest = big.clone();
    let (address, log) = scripted(&upstream, move |request, before| {
        (is_blob(request, &digest) && before < 2).then_some(Scripted::Truncate(30_000))
    })
    .await;
    let (_dir, store) = new_store();
    let local = name(&format!("{address}/demo"));
    pull(&client(&store), &local, Credentials::Anonymous)
        .await
        .unwrap();
    assert_stored(&store, &parts, &local);
    let log = log.lock().unwrap();
    let ranges: Vec<_> = log.iter().filter(|line| line.contains(big.hex())).collect();
    assert!(
        ranges[1].contains("bytes=30000-") && ranges[2].contains("bytes=60000-"),
        "{ranges:?}"
    );
    assert_eq!(ingests(&store), 0);
}

#[tokio::test]
async fn a_broken_blob_without_range_support_starts_again() {
    let (_dir, upstream, parts, big) = upstream();
    let digest = big.clone();
    let (address, _) = scripted(&upstream, move |request, before| match before {
        0 if is_blob(request, &digest) => Some(Scripted::Truncate(30_000)),
        _ => Some(Scripted::WithoutRange),
    })
    .await;
    let (_dir, store) = new_store();
    let local = name(&format!("{address}/demo"));
    pull(&client(&store), &local, Credentials::Anonymous)
        .await
        .unwrap();
    assert_stored(&store, &parts, &local);
    assert_eq!(ingests(&store), 0);
}

#[tokio::test]
async fn a_pull_that_failed_is_continued_by_the_next() {
    let (_dir, upstream, parts, big) = upstream();
    let digest = big.clone();
    let (address, log) = scripted(&upstream, move |request, before| match before {
        0 if is_blob(request, &digest) => Some(Scripted::Truncate(30_000)),
        1 if is_blob(request, &digest) => {
            answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"no more"}]}"#)
        }
        _ => None,
    })
    .await;
    let (_dir, store) = new_store();
    let local = name(&format!("{address}/demo"));
    let client = client(&store);
    let error = pull(&client, &local, Credentials::Anonymous).await.unwrap_err();
    assert!(
        matches!(&error, Error::Denied { detail, .. } if detail == "DENIED: no more"),
        "{error}"
    );
    assert_eq!(
        store
            .resolve_tag(&local.repo, &"latest".parse().unwrap())
            .unwrap(),
        None
    );
    pull(&client, &local, Credentials::Anonymous).await.unwrap();
    assert_stored(&store, &parts, &local);
    let log = log.lock().unwrap();
    let asked: Vec<_> = log.iter().filter(|line| line.contains(big.hex())).collect();
    assert!(asked.len() == 3 && asked[2].contains("bytes=30000-"), "{asked:?}");
}

#[tokio::test]
async fn wrong_content_is_refused() {
    let (_dir, upstream, parts, big) = upstream();
    let wrong = noise(99, parts.layers[1].len());
    let cases: [(&str, Vec<u8>); 3] = [
        ("digest mismatch", wrong.clone()),
        ("size mismatch", wrong[1..].to_vec()),
        ("size mismatch", [&wrong[..], b"x"].concat()),
    ];
    for (expected, body) in cases {
        let (digest, sent) = (big.clone(), body.clone());
        let (address, _) = scripted(&upstream, move |request, _| {
            is_blob(request, &digest)
                .then(|| answer(200, &[], sent.clone()))
                .flatten()
        })
        .await;
        let (_dir, store) = new_store();
        let local = name(&format!("{address}/demo"));
        let error = pull(&client(&store), &local, Credentials::Anonymous)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.contains(&address) && error.contains(big.hex()),
            "{error}"
        );
        assert_eq!(store.blob_info(&big).unwrap(), None);
        assert_eq!(
            store
                .resolve_tag(&local.repo, &"latest".parse().unwrap())
                .unwrap(),
            None
        );
        // Writes of other blobs that were under way end on their own.
        let deadline = Instant::now() + Duration::from_secs(10);
        while ingests(&store) > 0 {
            assert!(Instant::now() < deadline, "unfinished downloads are left");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn manifests_are_checked() {
    let (_dir, upstream, parts, _) = upstream();
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let other = Digest::sha256(b"other").to_string();
    let huge = vec![b' '; (4 << 20) + 1];
    let cases: [(&str, &str, &str, Vec<u8>); 5] = [
        ("schema 1", schema1, "", br#"{"schemaVersion":1}"#.to_vec()),
        (
            "schema 1",
            "application/json",
            "",
            br#"{"schemaVersion":1}"#.to_vec(),
        ),
        ("larger than", media_type::OCI_MANIFEST, "", huge),
        (
            "digest mismatch",
            media_type::OCI_MANIFEST,
            &other,
            parts.manifest.clone(),
        ),
        ("is invalid", media_type::OCI_MANIFEST, "", b"<html>".to_vec()),
    ];
    for (expected, kind, digest, body) in cases {
        let (kind, digest, sent) = (kind.to_owned(), digest.to_owned(), body.clone());
        let (address, _) = scripted(&upstream, move |request, _| {
            if !request.uri().path().contains("/manifests/") {
                return None;
            }
            let headers = [
                ("content-type", kind.as_str()),
                ("docker-content-digest", digest.as_str()),
            ];
            let count = if digest.is_empty() { 1 } else { 2 };
            answer(200, &headers[..count], sent.clone())
        })
        .await;
        let (_dir, store) = new_store();
        let error = pull(
            &client(&store),
            &name(&format!("{address}/demo")),
            Credentials::Anonymous,
        )
        .await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn patience_has_bounds() {
    let (_dir, upstream, parts, big) = upstream();
    let digest = big.clone();
    let (address, log) = scripted(&upstream, move |request, before| match before {
        0 if is_blob(request, &digest) => answer(429, &[("retry-after", "1")], "<html>slow down</html>"),
        1 if is_blob(request, &digest) => answer(503, &[("retry-after", "0")], ""),
        _ => None,
    })
    .await;
    let (_dir, store) = new_store();
    let local = name(&format!("{address}/demo"));
    let start = Instant::now();
    pull(&client(&store), &local, Credentials::Anonymous)
        .await
        .unwrap();
    assert!(
        start.elapsed() >= Duration::from_secs(1),
        "Retry-After is honoured"
    );
    assert_stored(&store, &parts, &local);
    assert_eq!(
        log.lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(big.hex()))
            .count(),
        3
    );

    let (address, log) = scripted(&upstream, |request, _| {
        request
            .uri()
            .path()
            .contains("/manifests/")
            .then(|| answer(500, &[("retry-after", "0")], ""))
            .flatten()
    })
    .await;
    let error = pull(
        &client(&store),
        &name(&format!("{address}/demo")),
        Credentials::Anonymous,
    )
    .await
    .unwrap_err();
    assert!(matches!(error, Error::Status { status: 500, .. }), "{error}");
    assert_eq!(
        log.lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains("/manifests/"))
            .count(),
        5
    );
}

#[tokio::test]
async fn a_registry_that_is_down_is_one_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (_dir, store) = new_store();
    let error = pull(
        &client(&store),
        &name(&format!("{address}/demo")),
        Credentials::Anonymous,
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach registry {address}: Connection refused (os error 111)")
    );
    let error = client(&store)
        .push(&name("nothing"), Credentials::Anonymous, &|_| {})
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotLocal(_)), "{error}");
}

#[tokio::test]
async fn authorization_stays_with_its_registry() {
    let (_dir, upstream, parts, _) = upstream();
    let (elsewhere, elsewhere_log) = scripted(&upstream, |_, _| None).await;
    let (address, log) = scripted(&upstream, move |request, _| {
        if request.headers().get("authorization").is_none() {
            return answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
        }
        let blob = request.method() == "GET" && request.uri().path().contains("/blobs/");
        let target = format!("http://{elsewhere}{}", request.uri().path());
        blob.then(|| answer(307, &[("location", &target)], "")).flatten()
    })
    .await;
    let (_dir, store) = new_store();
    let local = name(&format!("{address}/demo"));
    pull(&client(&store), &local, basic()).await.unwrap();
    assert_stored(&store, &parts, &local);
    assert!(
        log.lock()
            .unwrap()
            .iter()
            .any(|line| line.contains("/blobs/") && line.contains("Basic YW5uOnMzY3JldA=="))
    );
    let elsewhere_log = elsewhere_log.lock().unwrap().clone();
    assert_eq!(elsewhere_log.len(), 3);
    assert!(
        !elsewhere_log.iter().any(|line| line.contains("Basic")),
        "{elsewhere_log:?}"
    );

    let error = pull(&client(&store), &local, Credentials::Anonymous)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test]
async fn bearer_tokens() {
    // (credentials, what the token service must see)
    let token = Credentials::IdentityToken("refresh+me".to_owned());
    for (credentials, method, expected) in [
        (
            Credentials::Anonymous,
            "GET",
            "service=reg&scope=repository%3Ademo%3Apull",
        ),
        (
            basic(),
            "GET",
            "service=reg&scope=repository%3Ademo%3Apull&account=ann",
        ),
        (
            token,
            "POST",
            "grant_type=refresh%5Ftoken&client_id=cooper&refresh_token=refresh%2Bme",
        ),
    ] {
        let (_dir, upstream, parts, _) = upstream();
        let asked = Log::default();
        let record = Arc::clone(&asked);
        let service = Router::new().fallback(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 16).await.unwrap();
            let text = String::from_utf8(body.to_vec())
                .unwrap()
                .replace("refresh_token&", "refresh%5Ftoken&");
            let authorization = parts
                .headers
                .get("authorization")
                .map(|value| value.to_str().unwrap().to_owned());
            let line = format!(
                "{} {}{text} {}",
                parts.method,
                parts.uri.query().unwrap_or(""),
                authorization.unwrap_or_default()
            );
            record.lock().unwrap().push(line);
            r#"{"access_token":"tok","expires_in":300}"#
        });
        let realm = format!("http://{}/token", listen(service).await);
        let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"repository:demo:pull\"");
        let (address, _) = scripted(&upstream, move |request, _| {
            let authorization = request
                .headers()
                .get("authorization")
                .map(|value| value.to_str().unwrap());
            if authorization == Some("Bearer tok") {
                return None;
            }
            let both = format!("Basic realm=\"y\", {challenge}");
            answer(401, &[("www-authenticate", &both)], "")
        })
        .await;
        let (_dir, store) = new_store();
        let local = name(&format!("{address}/demo"));
        let client = client(&store);
        pull(&client, &local, credentials.clone()).await.unwrap();
        assert_stored(&store, &parts, &local);
        pull(&client, &local, credentials.clone()).await.unwrap();
        let asked = asked.lock().unwrap();
        // One token for two pulls: the scope is the same.
        assert_eq!(asked.len(), 1, "{asked:?}");
        assert!(
            asked[0].starts_with(method) && asked[0].contains(expected),
            "{asked:?}"
        );
        let with_password = matches!(credentials, Credentials::Basic { .. });
        assert_eq!(
            asked[0].contains("Basic YW5uOnMzY3JldA=="),
            with_password,
            "{asked:?}"
        );
    }
}

#[tokio::test]
async fn an_upload_that_breaks_is_continued() {
    let (_dir, target) = new_store();
    let broken_once = Arc::new(Mutex::new(false));
    let honest = server::router(target.clone());
    let log = Log::default();
    let record = Arc::clone(&log);
    // Takes 600 kB of the first PATCH and answers 502, as a proxy does whose registry restarts.
    let router = Router::new().fallback(move |request: Request| {
        let (honest, broken_once, record) = (honest.clone(), Arc::clone(&broken_once), Arc::clone(&record));
        async move {
            let range = request
                .headers()
                .get("content-range")
                .map(|value| value.to_str().unwrap().to_owned());
            record
                .lock()
                .unwrap()
                .push(format!("{} {}", request.method(), range.unwrap_or_default()));
            let first =
                request.method() == "PATCH" && !std::mem::replace(&mut *broken_once.lock().unwrap(), true);
            if !first {
                return honest.oneshot(request).await.unwrap();
            }
            let (mut parts, body) = request.into_parts();
            parts.headers.remove("content-length");
            let bytes = axum::body::to_bytes(body, 1 << 30)
                .await
                .unwrap()
                .slice(..600_000);
            assert_eq!(
                honest
                    .oneshot(Request::from_parts(parts, Body::from(bytes)))
                    .await
                    .unwrap()
                    .status(),
                202
            );
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    });
    let address = listen(router).await;
    let (_dir, store) = new_store();
    let parts = small_image(21);
    let local = name(&format!("{address}/demo"));
    put(&store, &parts, &local);
    client(&store)
        .push(&local, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_stored(&target, &parts, &name("demo"));
    let log = log.lock().unwrap();
    let last = parts.layers[1].len() - 1;
    assert!(log.contains(&format!("PATCH 600000-{last}")), "{log:?}");
}

#[tokio::test]
async fn indexes() {
    let (_dir, upstream) = new_store();
    let host = Platform::host();
    let (ours, other) = (small_image(31), image("mips", &[layer_tar("x", b"y")]));
    let child = |parts: &Parts, platform: Platform| {
        let mut child = Descriptor::new(
            media_type::OCI_MANIFEST,
            parts.digest(),
            parts.manifest.len() as u64,
        );
        child.platform = Some(platform);
        serde_json::to_value(child).unwrap()
    };
    let mips = Platform {
        architecture: "mips".to_owned(),
        ..host.clone()
    };
    let repo = name("multi").repo;
    for parts in [&ours, &other] {
        put_blobs(&upstream, parts);
        upstream
            .put_manifest(Some(&repo), media_type::OCI_MANIFEST, &parts.manifest, None, &[])
            .unwrap();
    }
    let children = [child(&other, mips), child(&ours, host)];
    let index =
        serde_json::json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children });
    let index = serde_json::to_vec_pretty(&index).unwrap();
    upstream
        .put_manifest(
            Some(&repo),
            media_type::OCI_INDEX,
            &index,
            None,
            &["latest".parse().unwrap()],
        )
        .unwrap();
    let (address, log) = scripted(&upstream, |_, _| None).await;

    let (_dir, store) = new_store();
    let local = name(&format!("{address}/multi"));
    let pulled = pull(&client(&store), &local, Credentials::Anonymous)
        .await
        .unwrap();
    assert_eq!(pulled.digest, Digest::sha256(&index));
    assert_eq!(stored(&store, &local), index);
    assert_eq!(
        store
            .manifest(&local.repo, &ours.digest())
            .unwrap()
            .unwrap()
            .bytes,
        ours.manifest
    );
    assert!(store.manifest(&local.repo, &other.digest()).unwrap().is_none());
    assert!(
        !log.lock()
            .unwrap()
            .iter()
            .any(|line| line.contains(other.digest().hex()))
    );

    let sparc = Platform {
        os: "linux".into(),
        architecture: "sparc".into(),
        variant: None,
        os_version: None,
    };
    let error = client(&store)
        .pull(&local, &sparc, Credentials::Anonymous, &|_| {})
        .await
        .unwrap_err();
    let expected = format!(
        "no image for platform linux/sparc; available: linux/{}, linux/mips",
        Platform::host().architecture
    );
    assert!(error.to_string().ends_with(&expected), "{error}");

    // By digest, without a tag; and a sparse index goes on to a registry that takes it.
    let by_digest = name(&format!("{address}/multi@{}", ours.digest()));
    assert_eq!(
        pull(&client(&store), &by_digest, Credentials::Anonymous)
            .await
            .unwrap()
            .digest,
        ours.digest()
    );
    let (_dir, target) = new_store();
    let there = name(&format!("{}/multi", serve(&target).await));
    store
        .put_manifest(
            Some(&there.repo),
            media_type::OCI_MANIFEST,
            &ours.manifest,
            None,
            &[],
        )
        .unwrap();
    store
        .put_manifest(
            Some(&there.repo),
            media_type::OCI_INDEX,
            &index,
            None,
            &["latest".parse().unwrap()],
        )
        .unwrap();
    client(&store)
        .push(&there, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_eq!(stored(&target, &name("multi")), index);
}

#[tokio::test]
async fn mirrors_come_first_and_may_fail() {
    let (_dir, upstream, parts, _) = upstream();
    let (good, log) = scripted(&upstream, |_, _| None).await;
    let (bad, _) = scripted(&upstream, |_, _| answer(500, &[("retry-after", "0")], "")).await;
    let (_dir, store) = new_store();
    let mirrors = vec![format!("http://{bad}"), format!("http://{good}/")];
    let client = Client::new(
        store.clone(),
        ClientConfig {
            mirrors,
            ..ClientConfig::default()
        },
    );
    pull(&client, &name("demo"), basic()).await.unwrap();
    assert_stored(&store, &parts, &name("demo"));
    assert!(
        log.lock().unwrap().iter().all(|line| !line.contains("Basic")),
        "credentials stay away from mirrors"
    );
}

#[tokio::test]
async fn layers_that_are_no_files_are_served_and_pushed() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: unpacking a layer as it is needs root");
        return;
    }
    let (_dir, store) = new_store();
    let tars = [layer_tar("a", &noise(61, 3 << 20)), layer_tar("b", b"small")];
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| store.import_layer(&mut &tar[..]).unwrap())
        .collect();
    let parts = image(&Platform::host().architecture, &tars);
    let mut config: ImageConfig = serde_json::from_slice(&parts.config).unwrap();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let descriptors: Vec<_> = layers.iter().map(|layer| store.layer_descriptor(layer)).collect();
    for descriptor in &descriptors {
        let backing = store.blob_info(&descriptor.digest).unwrap().unwrap().backing;
        assert!(matches!(backing, Backing::Layer(_)), "{backing:?}");
    }
    store.put_image(&config, &descriptors, &[name("built")]).unwrap();

    let local = name(&format!("{}/built", serve(&store).await));
    let (_dir, other) = new_store();
    let pulled = pull(&client(&other), &local, Credentials::Anonymous)
        .await
        .unwrap();
    let url = format!(
        "http://{}/v2/built/blobs/{}",
        local.repo.domain(),
        descriptors[0].digest
    );
    let range = reqwest::Client::new()
        .get(url)
        .header("range", "bytes=1000000-1999999")
        .send()
        .await
        .unwrap();
    assert_eq!(range.status(), 206);
    let whole = other.read_blob(&descriptors[0].digest, 1 << 30).unwrap();
    assert_eq!(range.bytes().await.unwrap(), whole[1_000_000..2_000_000]);

    let (_dir, target) = new_store();
    let there = name(&format!("{}/built", serve(&target).await));
    store.tag_image(&pulled.digest, &there).unwrap();
    client(&store)
        .push(&there, Credentials::Anonymous, &|_| {})
        .await
        .unwrap();
    assert_eq!(target.read_blob(&descriptors[0].digest, 1 << 30).unwrap(), whole);
}

#[tokio::test]
async fn serving_ends_when_told() {
    let (_dir, store) = new_store();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v2/", listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server::serve(listener, store, async { stopped.await.unwrap() }));
    // The connection stays open and idle; it must not hold the end up.
    let client = reqwest::Client::new();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(client.get(&url).send().await.is_err());
}

/// A layer that is there already does not make a manifest true that lies about its size.
#[tokio::test]
async fn sizes_of_known_blobs_are_checked() {
    let (_dir, upstream, parts, _) = upstream();
    let mut manifest: serde_json::Value = serde_json::from_slice(&parts.manifest).unwrap();
    manifest["layers"][0]["size"] = (1u64 << 60).into();
    let lie = serde_json::to_vec(&manifest).unwrap();
    let (address, _) = scripted(&upstream, move |request, _| {
        request
            .uri()
            .path()
            .contains("/lie/manifests/")
            .then(|| answer(200, &[("content-type", media_type::OCI_MANIFEST)], lie.clone()))
            .flatten()
    })
    .await;
    let (_dir, store) = new_store();
    let client = client(&store);
    pull(&client, &name(&format!("{address}/demo")), Credentials::Anonymous)
        .await
        .unwrap();
    let error = pull(&client, &name(&format!("{address}/lie")), Credentials::Anonymous).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("size mismatch"), "{error}");
    assert_eq!(store.images().unwrap().len(), 1);
}
