//! A small HTTP client over the in-process door.

use std::path::Path;

use bytes::Bytes;
use cooper_daemon::{Engine, EngineConfig, in_process};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// One engine in a directory of its own and a runtime to talk to it.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    engine: Engine,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        serde_json::Deserializer::from_slice(&self.body)
            .into_iter()
            .map(|line| line.expect("a JSON line"))
            .collect()
    }
}

impl Client {
    /// The data root is `dir/data`.
    pub(crate) fn new(dir: &Path) -> Self {
        // The flavour of the command line, where a blocked thread would be a dead engine.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let config = EngineConfig {
            data_root: dir.join("data"),
            exec_root: dir.join("exec"),
            config_file: Some(dir.join("daemon.json")),
        };
        Self {
            runtime,
            engine: Engine::open(config).expect("an engine"),
        }
    }

    pub(crate) fn send(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.runtime.block_on(async {
            let body = body.into();
            let mut request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "docker");
            if !body.is_empty() {
                request = request.header("content-type", "application/json");
            }
            let response = self.open(request.body(Full::new(body)).expect("a request")).await;
            read(response).await
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Bytes::new())
    }

    pub(crate) fn post(&self, path: &str, body: Value) -> Answer {
        let bytes = if body.is_null() {
            Bytes::new()
        } else {
            body.to_string().into()
        };
        self.send("POST", path, bytes)
    }

    /// Runs a future next to the engine.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Sends on a connection of its own; the answer's headers are here, its body is not.
    pub(crate) async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(in_process(self.engine.clone())))
            .await
            .expect("a connection");
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.expect("an answer")
    }
}

pub(crate) async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes().to_vec();
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// The tests that need root say why they do not run.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        say("skipped: needs root");
    }
    root
}

/// A tar with a busybox root file system, made from the static `/bin/busybox`.
pub(crate) fn busybox_tar() -> Option<Vec<u8>> {
    let Ok(busybox) = std::fs::read("/bin/busybox") else {
        say("skipped: needs /bin/busybox (package busybox-static)");
        return None;
    };
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, mode: u32, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(1);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    for dir in ["bin/", "etc/", "tmp/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        tar.append_data(&mut header, dir, std::io::empty())
            .expect("an entry");
    }
    let mut file = header(tar::EntryType::Regular, 0o755, busybox.len());
    tar.append_data(&mut file, "bin/busybox", busybox.as_slice())
        .expect("an entry");
    for applet in [
        "sh", "cat", "echo", "sleep", "true", "seq", "id", "ls", "stty", "hostname", "head",
    ] {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox")
            .expect("an entry");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\n";
    let mut file = header(tar::EntryType::Regular, 0o644, passwd.len());
    tar.append_data(&mut file, "etc/passwd", passwd.as_slice())
        .expect("an entry");
    Some(tar.into_inner().expect("a tar"))
}

/// Tells why a test does not run.
#[expect(clippy::print_stdout, reason = "the output of a test is read by people")]
pub(crate) fn say(text: &str) {
    println!("{text}");
}
