//! The distribution API, request by request, against a router without sockets.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[expect(dead_code, reason = "each test binary uses its own part")]
mod client_support;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use client_support::{Parts, ingests, new_store, noise, small_image};
use cooper_registry::digest::{Algorithm, Digest};
use cooper_registry::oci::media_type;
use cooper_registry::server::{self, Options};
use cooper_registry::store::Store;
use http_body_util::BodyExt as _;
use tempfile::TempDir;
use tower::ServiceExt as _;

struct Api {
    _dir: TempDir,
    store: Store,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

impl Api {
    fn new() -> Self {
        let (dir, store) = new_store();
        let router = server::router(store.clone());
        Self {
            _dir: dir,
            store,
            router,
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(
            parts.headers["docker-distribution-api-version"], "registry/2.0",
            "{method} {path}"
        );
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], Body::empty()).await
    }

    async fn upload(&self, repo: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
        let answer = self.call("POST", &path, &[], bytes.to_vec()).await;
        assert_eq!(answer.status, StatusCode::CREATED);
        digest
    }

    async fn session(&self, repo: &str) -> String {
        let answer = self
            .call("POST", &format!("/v2/{repo}/blobs/uploads/"), &[], Body::empty())
            .await;
        assert_eq!(
            (answer.status, answer.header("range")),
            (StatusCode::ACCEPTED, "0-0")
        );
        answer.header("location").to_owned()
    }

    async fn put_manifest(&self, repo: &str, reference: &str, kind: &str, bytes: &[u8]) -> Answer {
        let path = format!("/v2/{repo}/manifests/{reference}");
        self.call("PUT", &path, &[("content-type", kind)], bytes.to_vec())
            .await
    }

    async fn push(&self, repo: &str, reference: &str, parts: &Parts) {
        for blob in parts.layers.iter().chain([&parts.config]) {
            self.upload(repo, blob).await;
        }
        let answer = self
            .put_manifest(repo, reference, media_type::OCI_MANIFEST, &parts.manifest)
            .await;
        assert_eq!(
            answer.status,
            StatusCode::CREATED,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }
}

#[tokio::test]
async fn endpoints_and_names() {
    let api = Api::new();
    let long = format!("{}/{}", "a".repeat(120), "b".repeat(124));
    let digest = Digest::sha256(b"");
    for (method, path, status, code) in [
        ("GET", "/v2/".to_owned(), 200, ""),
        ("GET", "/v2".to_owned(), 200, ""),
        ("GET", "/v2/nothing".to_owned(), 404, "NAME_UNKNOWN"),
        ("POST", "/v2/".to_owned(), 405, "UNSUPPORTED"),
        ("GET", "/v2/a/blobs/uploads/".to_owned(), 405, "UNSUPPORTED"),
        ("GET", "/v2/Upper/tags/list".to_owned(), 400, "NAME_INVALID"),
        ("GET", format!("/v2/{long}x/tags/list"), 400, "NAME_INVALID"),
        ("GET", format!("/v2/{long}/tags/list"), 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/blobs/sha256:bad".to_owned(), 400, "DIGEST_INVALID"),
        ("GET", format!("/v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        (
            "GET",
            "/v2/a/manifests/sha256:bad".to_owned(),
            400,
            "DIGEST_INVALID",
        ),
        (
            "GET",
            "/v2/a/manifests/latest".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("GET", "/v2/a/manifests/-x".to_owned(), 400, "TAG_INVALID"),
        (
            "DELETE",
            "/v2/a/manifests/latest".to_owned(),
            404,
            "MANIFEST_UNKNOWN",
        ),
        ("DELETE", format!("/v2/a/blobs/{digest}"), 404, "BLOB_UNKNOWN"),
        (
            "GET",
            "/v2/a/blobs/uploads/x".to_owned(),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
        (
            "PATCH",
            "/v2/a/blobs/uploads/../x".to_owned(),
            404,
            "NAME_UNKNOWN",
        ),
        (
            "PUT",
            format!("/v2/a/blobs/uploads/x.y?digest={digest}"),
            404,
            "BLOB_UPLOAD_UNKNOWN",
        ),
    ] {
        let answer = api.call(method, &path, &[], Body::empty()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{method} {path}");
            assert_eq!(answer.header("content-type"), "application/json");
        }
    }
}

#[tokio::test]
async fn repositories_named_like_endpoints() {
    let api = Api::new();
    let parts = small_image(1);
    for repo in ["a/blobs/b", "x/manifests", "tags/list", "blobs/uploads/x"] {
        api.push(repo, "v1", &parts).await;
        assert_eq!(
            api.get(&format!("/v2/{repo}/manifests/v1")).await.body,
            parts.manifest,
            "{repo}"
        );
        assert_eq!(
            api.get(&format!("/v2/{repo}/tags/list")).await.json()["tags"][0],
            "v1",
            "{repo}"
        );
    }
    // A repository is the image name: short forms are docker.io's.
    assert_eq!(
        api.get("/v2/docker.io/tags/list/manifests/v1").await.body,
        parts.manifest
    );
}

#[tokio::test]
async fn blobs_by_every_way() {
    let api = Api::new();
    for blob in [Vec::new(), b"x".to_vec(), noise(3, 3 << 20)] {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut hasher = algorithm.hasher();
            hasher.update(&blob);
            let digest = hasher.finish();
            for (way, repo) in ["single", "put", "stream", "chunks"]
                .into_iter()
                .zip(["a", "b", "c", "d"])
            {
                let repo = format!("{repo}{}", algorithm.as_str());
                let put = match way {
                    "single" => {
                        let path = format!("/v2/{repo}/blobs/uploads/?digest={digest}");
                        api.call("POST", &path, &[], blob.clone()).await
                    }
                    "put" => {
                        let path = format!("{}?digest={digest}", api.session(&repo).await);
                        api.call("PUT", &path, &[], blob.clone()).await
                    }
                    "stream" => {
                        let location = api.session(&repo).await;
                        let patch = api.call("PATCH", &location, &[], blob.clone()).await;
                        assert_eq!(patch.status, StatusCode::ACCEPTED);
                        let path = format!("{}?digest={digest}", patch.header("location"));
                        api.call("PUT", &path, &[], Body::empty()).await
                    }
                    _ => {
                        let mut location = api.session(&repo).await;
                        let half = blob.len() / 2;
                        if half > 0 {
                            let range = format!("0-{}", half - 1);
                            let headers = [("content-range", range.as_str())];
                            let patch = api
                                .call("PATCH", &location, &headers, blob[..half].to_vec())
                                .await;
                            assert_eq!(
                                (patch.status, patch.header("range")),
                                (StatusCode::ACCEPTED, range.as_str())
                            );
                            location = patch.header("location").to_owned();
                        }
                        let path = format!("{location}?digest={digest}");
                        api.call("PUT", &path, &[], blob[half..].to_vec()).await
                    }
                };
                let what = format!("{way} of {} bytes, {}", blob.len(), algorithm.as_str());
                assert_eq!(put.status, StatusCode::CREATED, "{what}");
                assert_eq!(put.header("docker-content-digest"), digest.to_string(), "{what}");
                let location = put.header("location").to_owned();
                let got = api.get(&location).await;
                assert_eq!((got.status, &got.body), (StatusCode::OK, &blob), "{what}");
                assert_eq!(got.header("docker-content-digest"), digest.to_string(), "{what}");
                let head = api
                    .call("HEAD", &location, &[("accept-encoding", "gzip")], Body::empty())
                    .await;
                assert_eq!(head.header("content-length"), blob.len().to_string(), "{what}");
                assert!(
                    head.body.is_empty() && head.headers.get("content-encoding").is_none(),
                    "{what}"
                );
            }
        }
    }
    assert_eq!(ingests(&api.store), 0);
}

#[tokio::test]
async fn sessions_keep_order() {
    let api = Api::new();
    let location = api.session("a").await;
    let patch = async |range: &str, body: &'static str| {
        let headers: Vec<_> = [("content-range", range)]
            .into_iter()
            .filter(|(_, range)| !range.is_empty())
            .collect();
        let answer = api.call("PATCH", &location, &headers, body).await;
        (answer.status.as_u16(), answer.header("range").to_owned())
    };
    let offset = |last: &str| last.to_owned();
    assert_eq!(patch("0-3", "abcd").await, (202, offset("0-3")));
    // Gaps, repeats and malformed ranges change nothing.
    assert_eq!(patch("5-6", "xy").await, (416, offset("0-3")));
    assert_eq!(patch("0-3", "abcd").await, (416, offset("0-3")));
    assert_eq!(patch("x", "abcd").await, (400, offset("")));
    assert_eq!(patch("7-4", "abcd").await, (400, offset("")));
    assert_eq!(patch("", "ef").await, (202, offset("0-5")));

    let digest = Digest::sha256(b"abcdefgh");
    let url = format!("{location}?digest={digest}");
    let put = api.call("PUT", &url, &[("content-range", "9-10")], "gh").await;
    assert_eq!(
        (put.status.as_u16(), put.code().as_str()),
        (416, "BLOB_UPLOAD_INVALID")
    );
    // The very URL with its parameter tells where the session stands.
    let status = api.get(&url).await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-5"));
    assert_eq!(
        api.call("PUT", &location, &[], Body::empty()).await.code(),
        "DIGEST_INVALID"
    );
    assert_eq!(
        api.call("PUT", &format!("{location}?digest=sha256:x"), &[], Body::empty())
            .await
            .status,
        400
    );
    // Sessions belong to their repository.
    assert_eq!(api.get(&location.replace("/v2/a/", "/v2/b/")).await.status, 404);
    assert_eq!(
        api.call("PUT", &url, &[("content-range", "6-7")], "gh")
            .await
            .status,
        201
    );
    assert_eq!(api.get(&location).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(api.get(&format!("/v2/a/blobs/{digest}")).await.body, b"abcdefgh");
}

#[tokio::test]
async fn wrong_digests_and_cancelled_sessions_leave_nothing() {
    let api = Api::new();
    let wrong = Digest::sha256(b"something else");
    let location = api.session("a").await;
    assert_eq!(api.call("PATCH", &location, &[], "abc").await.status, 202);
    let put = api
        .call("PUT", &format!("{location}?digest={wrong}"), &[], "def")
        .await;
    assert_eq!(
        (put.status.as_u16(), put.code().as_str()),
        (400, "DIGEST_INVALID")
    );
    assert_eq!(
        put.json()["errors"][0]["detail"]["got"],
        Digest::sha256(b"abcdef").to_string()
    );
    assert_eq!(api.get(&location).await.status, 404);
    let post = api
        .call(
            "POST",
            &format!("/v2/a/blobs/uploads/?digest={wrong}"),
            &[],
            "abc",
        )
        .await;
    assert_eq!(post.code(), "DIGEST_INVALID");
    let unknown = api
        .call(
            "POST",
            "/v2/a/blobs/uploads/?digest-algorithm=md5",
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(unknown.status, 400);

    let location = api.session("a").await;
    assert_eq!(api.call("PATCH", &location, &[], "abc").await.status, 202);
    assert_eq!(
        api.call("DELETE", &location, &[], Body::empty()).await.status,
        204
    );
    assert_eq!(
        api.call("PATCH", &location, &[], "abc").await.code(),
        "BLOB_UPLOAD_UNKNOWN"
    );
    assert_eq!(ingests(&api.store), 0);
}

#[tokio::test]
async fn a_second_writer_is_turned_away() {
    let api = Api::new();
    let location = api.session("a").await;
    let (send, receive) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let stream = futures_util::stream::unfold(receive, async |mut receive| {
        Some((receive.recv().await?, receive))
    });
    let slow = api.call("PATCH", &location, &[], Body::from_stream(stream));
    // Another process on the same store knows only what is on disk.
    let root = api.store.root().to_owned();
    let (other_dir, _) = new_store();
    let store = Store::open(&root).unwrap();
    let other = Api {
        _dir: other_dir,
        router: server::router(store.clone()),
        store,
    };
    let second = async {
        send.send(Ok("abc".into())).await.unwrap();
        // The channel holds one: when this is taken, the first request holds the session.
        send.send(Ok("def".into())).await.unwrap();
        for process in [&api, &other] {
            let second = process.call("PATCH", &location, &[], "XYZ").await;
            assert_eq!(second.status.as_u16(), 416);
            assert_eq!(process.get(&location).await.status, 204);
            assert_eq!(
                process.call("DELETE", &location, &[], Body::empty()).await.status,
                409
            );
        }
        drop(send);
    };
    let (slow, ()) = tokio::join!(slow, second);
    assert_eq!((slow.status.as_u16(), slow.header("range")), (202, "0-5"));
    let digest = Digest::sha256(b"abcdef");
    assert_eq!(
        other
            .call("PUT", &format!("{location}?digest={digest}"), &[], Body::empty())
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn a_broken_body_keeps_its_offset() {
    let api = Api::new();
    let location = api.session("a").await;
    let chunks = [Ok("abcdef"), Err(std::io::Error::other("gone"))];
    let broken = Body::from_stream(futures_util::stream::iter(chunks));
    assert_eq!(api.call("PATCH", &location, &[], broken).await.status, 400);
    let status = api.get(&location).await;
    assert_eq!((status.status.as_u16(), status.header("range")), (204, "0-5"));
    let digest = Digest::sha256(b"abcdefgh");
    let url = format!("{location}?digest={digest}");
    assert_eq!(
        api.call("PUT", &url, &[("content-range", "6-7")], "gh")
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn ranges_and_conditions() {
    let api = Api::new();
    let digest = api.upload("a", b"0123456789").await;
    let path = format!("/v2/a/blobs/{digest}");
    let etag = format!("\"{digest}\"");
    for (headers, status, range, body) in [
        (vec![("range", "bytes=0-0")], 206, "bytes 0-0/10", "0"),
        (vec![("range", "bytes=-2")], 206, "bytes 8-9/10", "89"),
        (vec![("range", "bytes=5-")], 206, "bytes 5-9/10", "56789"),
        (vec![("range", "bytes=8-100")], 206, "bytes 8-9/10", "89"),
        (
            vec![("range", "bytes=5-"), ("if-range", etag.as_str())],
            206,
            "bytes 5-9/10",
            "56789",
        ),
        (
            vec![("range", "bytes=5-"), ("if-range", "\"other\"")],
            200,
            "",
            "0123456789",
        ),
        (vec![("if-none-match", etag.as_str())], 304, "", ""),
        (vec![("if-none-match", &etag[1..etag.len() - 1])], 304, "", ""),
        (vec![("if-none-match", "\"x\", *")], 304, "", ""),
        (vec![("if-none-match", "\"x\"")], 200, "", "0123456789"),
    ] {
        let answer = api.call("GET", &path, &headers, Body::empty()).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert_eq!(answer.header("content-range"), range, "{headers:?}");
        assert_eq!(answer.body, body.as_bytes(), "{headers:?}");
        assert_eq!(answer.header("etag"), etag, "{headers:?}");
    }
    for range in ["bytes=10-", "bytes=5-0", "bytes=-0"] {
        let answer = api.call("GET", &path, &[("range", range)], Body::empty()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-range")),
            (416, "bytes */10"),
            "{range}"
        );
    }
    let answer = api
        .call("GET", &path, &[("range", "bytes=0-1,5-6")], Body::empty())
        .await;
    assert_eq!(answer.status, 206);
    let boundary = answer
        .header("content-type")
        .strip_prefix("multipart/byteranges; boundary=")
        .unwrap();
    let part = |range: &str, data: &str| {
        let kind = "Content-Type: application/octet-stream";
        format!("--{boundary}\r\n{kind}\r\nContent-Range: bytes {range}/10\r\n\r\n{data}\r\n")
    };
    let expected = format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("5-6", "56"));
    assert_eq!(String::from_utf8(answer.body.clone()).unwrap(), expected);
    assert_eq!(answer.header("content-length"), expected.len().to_string());
}

#[tokio::test]
async fn mounts_and_deletes_are_per_repository() {
    let api = Api::new();
    let digest = api.upload("a", b"shared").await;
    assert_eq!(api.get(&format!("/v2/b/blobs/{digest}")).await.status, 404);
    for (repo, query) in [("b", "&from=a"), ("c", ""), ("d", "&from=nowhere")] {
        let path = format!("/v2/{repo}/blobs/uploads/?mount={digest}{query}");
        let answer = api.call("POST", &path, &[], Body::empty()).await;
        assert_eq!(answer.status, 201, "{path}");
        assert_eq!(answer.header("location"), format!("/v2/{repo}/blobs/{digest}"));
    }
    let missing = Digest::sha256(b"missing");
    let answer = api
        .call(
            "POST",
            &format!("/v2/b/blobs/uploads/?mount={missing}&from=a"),
            &[],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.status, 202);
    let url = format!("{}?digest={missing}", answer.header("location"));
    assert_eq!(api.call("PUT", &url, &[], "missing").await.status, 201);

    assert_eq!(
        api.call("DELETE", &format!("/v2/a/blobs/{digest}"), &[], Body::empty())
            .await
            .status,
        202
    );
    assert_eq!(
        api.call("HEAD", &format!("/v2/a/blobs/{digest}"), &[], Body::empty())
            .await
            .status,
        404
    );
    assert_eq!(api.get(&format!("/v2/b/blobs/{digest}")).await.body, b"shared");
}

#[tokio::test]
async fn manifests_are_kept_as_they_are() {
    let api = Api::new();
    let parts = small_image(7);
    let unknown = api
        .put_manifest("a", "v1", media_type::OCI_MANIFEST, &parts.manifest)
        .await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.code().as_str()),
        (400, "MANIFEST_BLOB_UNKNOWN")
    );
    assert_eq!(unknown.json()["errors"].as_array().unwrap().len(), 3);
    api.push("a", "v1", &parts).await;

    let digest = parts.digest();
    for reference in ["v1", &digest.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        let got = api.get(&path).await;
        assert_eq!(got.body, parts.manifest);
        assert_eq!(got.header("content-type"), media_type::OCI_MANIFEST);
        assert_eq!(got.header("docker-content-digest"), digest.to_string());
        let head = api.call("HEAD", &path, &[], Body::empty()).await;
        assert_eq!(head.header("content-length"), parts.manifest.len().to_string());
        let etag = got.header("etag");
        assert_eq!(
            api.call("GET", &path, &[("if-none-match", etag)], Body::empty())
                .await
                .status,
            304
        );
    }
    let text = String::from_utf8(parts.manifest.clone()).unwrap();
    for (reference, kind, body, status) in [
        (
            "v2",
            "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
            text.clone(),
            201,
        ),
        ("v2", "", text.clone(), 201),
        ("v2", media_type::DOCKER_MANIFEST, text.clone(), 400),
        ("v2", "application/json", text.clone(), 400),
        ("v2", "", "{".to_owned(), 400),
        ("v2", "", "[]".to_owned(), 400),
        (
            "v2",
            media_type::OCI_INDEX,
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
            201,
        ),
        ("v2", "", r#"{"schemaVersion":1,"manifests":[]}"#.to_owned(), 400),
        (
            "v2",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            r#"{"schemaVersion":1}"#.to_owned(),
            400,
        ),
        (&Digest::sha256(b"x").to_string(), "", text.clone(), 400),
        ("sha256:bad", "", text.clone(), 400),
    ] {
        let answer = api.put_manifest("a", reference, kind, body.as_bytes()).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{reference} {kind} {}",
            &body[..body.len().min(40)]
        );
    }
    let mut hasher = Algorithm::Sha512.hasher();
    hasher.update(&parts.manifest);
    let sha512 = hasher.finish().to_string();
    let put = api
        .put_manifest(
            "a",
            &format!("{sha512}?tag=long"),
            media_type::OCI_MANIFEST,
            &parts.manifest,
        )
        .await;
    assert_eq!(
        (put.status.as_u16(), put.header("docker-content-digest")),
        (201, sha512.as_str())
    );
    assert_eq!(
        api.get("/v2/a/manifests/long")
            .await
            .header("docker-content-digest"),
        sha512
    );
}

#[tokio::test]
async fn many_tags_in_one_request_all_or_none() {
    let api = Api::new();
    let parts = small_image(7);
    api.push("a", "v0", &parts).await;
    let tags: Vec<_> = (1..=12).map(|n| format!("t{n:02}")).collect();
    let query: Vec<_> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reference = format!("{}?{}", parts.digest(), query.join("&"));
    let put = api
        .put_manifest("a", &reference, media_type::OCI_MANIFEST, &parts.manifest)
        .await;
    let answered: Vec<_> = put
        .headers
        .get_all("oci-tag")
        .iter()
        .map(|tag| tag.to_str().unwrap())
        .collect();
    assert_eq!(
        (put.status.as_u16(), answered),
        (201, tags.iter().map(String::as_str).collect())
    );
    let reference = format!("{}?tag=good&tag=-bad", parts.digest());
    let put = api
        .put_manifest("a", &reference, media_type::OCI_MANIFEST, &parts.manifest)
        .await;
    assert_eq!(put.code(), "TAG_INVALID");
    assert_eq!(api.get("/v2/a/manifests/good").await.status, 404);

    assert_eq!(
        api.call("DELETE", "/v2/a/manifests/t01", &[], Body::empty())
            .await
            .status,
        202
    );
    assert_eq!(api.get("/v2/a/manifests/t01").await.status, 404);
    assert_eq!(api.get("/v2/a/manifests/t02").await.status, 200);
    let path = format!("/v2/a/manifests/{}", parts.digest());
    assert_eq!(api.call("DELETE", &path, &[], Body::empty()).await.status, 202);
    for reference in ["t02", "v0", &parts.digest().to_string()] {
        assert_eq!(
            api.get(&format!("/v2/a/manifests/{reference}")).await.status,
            404,
            "{reference}"
        );
    }
    assert_eq!(
        api.get("/v2/a/tags/list").await.json()["tags"],
        serde_json::json!([])
    );
}

#[tokio::test]
async fn manifest_size_limit() {
    let api = Api::new();
    let limit = Options::default().max_manifest_bytes;
    for (size, status) in [(limit, 201), (limit + 1, 413)] {
        let empty = r#"{"schemaVersion":2,"manifests":[],"annotations":{"a":""}}"#;
        let fill = "x".repeat(size - empty.len());
        let body = empty.replace(r#""a":"""#, &format!(r#""a":"{fill}""#));
        assert_eq!(body.len(), size);
        let answer = api
            .put_manifest("a", "big", media_type::OCI_INDEX, body.as_bytes())
            .await;
        assert_eq!(answer.status.as_u16(), status);
    }
}

#[tokio::test]
async fn deletes_can_be_disabled() {
    let (_dir, store) = new_store();
    let router = server::router_with(
        store,
        Options {
            allow_delete: false,
            ..Options::default()
        },
    );
    for path in [
        "/v2/a/manifests/x".to_owned(),
        format!("/v2/a/blobs/{}", Digest::sha256(b"")),
    ] {
        let request = Request::delete(&path).body(Body::empty()).unwrap();
        assert_eq!(
            router.clone().oneshot(request).await.unwrap().status(),
            405,
            "{path}"
        );
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let api = Api::new();
    let parts = small_image(1);
    for tag in ["v1", "v1-rc", "v1.0", "v2"] {
        api.push("a", tag, &parts).await;
    }
    api.push("b/c", "v1", &parts).await;
    for (path, status, expected, link) in [
        ("/v2/a/tags/list", 200, "v1 v1-rc v1.0 v2", ""),
        (
            "/v2/a/tags/list?n=2",
            200,
            "v1 v1-rc",
            "</v2/a/tags/list?n=2&last=v1%2Drc>; rel=\"next\"",
        ),
        ("/v2/a/tags/list?n=2&last=v1%2Drc", 200, "v1.0 v2", ""),
        ("/v2/a/tags/list?last=v1.zzz", 200, "v2", ""),
        ("/v2/a/tags/list?n=0", 200, "", ""),
        ("/v2/a/tags/list?n=1000000000", 200, "v1 v1-rc v1.0 v2", ""),
        ("/v2/a/tags/list?n=-1", 400, "", ""),
        ("/v2/a/tags/list?n=abc", 400, "", ""),
        ("/v2/_catalog", 200, "b/c a", ""),
        // In the order of the full names, docker.io/b/c and docker.io/library/a.
        (
            "/v2/_catalog?n=1",
            200,
            "b/c",
            "</v2/_catalog?n=1&last=b%2Fc>; rel=\"next\"",
        ),
        ("/v2/_catalog?n=1&last=b%2Fc", 200, "a", ""),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.header("link"), link, "{path}");
        if status == 200 {
            let json = answer.json();
            let list = json
                .get("tags")
                .or(json.get("repositories"))
                .unwrap()
                .as_array()
                .unwrap();
            let list: Vec<_> = list.iter().map(|entry| entry.as_str().unwrap()).collect();
            assert_eq!(list.join(" "), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn referrers() {
    let api = Api::new();
    let subject = Digest::sha256(b"never pushed");
    let path = format!("/v2/fresh/referrers/{subject}");
    let answer = api.get(&path).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, media_type::OCI_INDEX)
    );
    assert_eq!(answer.json()["manifests"], serde_json::json!([]));
    assert_eq!(api.get("/v2/fresh/referrers/sha256:x").await.status, 400);

    let config = api.upload("fresh", b"{}").await;
    let subject_json = format!(
        r#""subject":{{"mediaType":"{}","digest":"{subject}","size":5}},"annotations":{{"k":"v"}}"#,
        media_type::OCI_MANIFEST
    );
    let artifact = format!(
        r#"{{"schemaVersion":2,"artifactType":"application/x.sbom+json","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[],{subject_json}}}"#
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[],{subject_json}}}"#);
    for (kind, body) in [
        (media_type::OCI_MANIFEST, &artifact),
        (media_type::OCI_INDEX, &index),
    ] {
        let reference = Digest::sha256(body.as_bytes()).to_string();
        let put = api.put_manifest("fresh", &reference, kind, body.as_bytes()).await;
        assert_eq!(
            (put.status.as_u16(), put.header("oci-subject")),
            (201, subject.to_string().as_str())
        );
    }
    let all = api.get(&path).await;
    assert_eq!(all.header("oci-filters-applied"), "");
    let list = all.json()["manifests"].as_array().unwrap().clone();
    assert_eq!(list.len(), 2);
    for entry in &list {
        let expected = (entry["mediaType"] == media_type::OCI_MANIFEST).then_some("application/x.sbom+json");
        assert_eq!(entry.get("artifactType").and_then(|kind| kind.as_str()), expected);
        assert_eq!(entry["annotations"]["k"], "v");
    }
    let filtered = api
        .get(&format!("{path}?artifactType=application/x.sbom%2Bjson"))
        .await;
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    assert_eq!(filtered.json()["manifests"].as_array().unwrap().len(), 1);
    let delete = format!("/v2/fresh/manifests/{}", Digest::sha256(artifact.as_bytes()));
    assert_eq!(api.call("DELETE", &delete, &[], Body::empty()).await.status, 202);
    assert_eq!(
        api.get(&path).await.json()["manifests"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_client_that_dies_keeps_what_it_sent() {
    use tokio::io::AsyncWriteExt as _;
    let api = Api::new();
    let address = client_support::serve(&api.store).await;
    let location = api.session("a").await;
    let blob = noise(9, 2 << 20);
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        blob.len() * 2
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&blob).await.unwrap();
    stream.shutdown().await.unwrap();
    drop(stream);
    // Another process than the one that writes knows only what is on disk.
    let mut offset = 0;
    for _ in 0..200 {
        let status = api.get(&location).await;
        if status.status == StatusCode::NO_CONTENT {
            offset = status
                .header("range")
                .strip_prefix("0-")
                .unwrap()
                .parse::<usize>()
                .unwrap()
                + 1;
        }
        if offset == blob.len() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(offset, blob.len());
    let digest = Digest::sha256(&blob);
    let put = api
        .call("PUT", &format!("{location}?digest={digest}"), &[], Body::empty())
        .await;
    assert_eq!(put.status, StatusCode::CREATED);
    assert_eq!(put.headers.get(header::CONTENT_ENCODING), None);
}
