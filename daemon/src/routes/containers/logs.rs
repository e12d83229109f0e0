//! `GET /containers/{id}/logs`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path as FilePath;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::log_file::{Entry, LogReader};
use crate::engine::{Engine, is_running};
use crate::error::{ApiError, ApiResult};
use crate::http::body::receiver_stream;
use crate::http::hijack::{frame, stream_content_type};
use crate::http::query::Query;
use crate::http::version::ApiVersion;

/// How long to wait for a file event before looking anyway: a supervisor that was killed writes none.
const RECHECK: Duration = Duration::from_secs(1);
/// Chunks in flight to a slow reader.
const CHUNKS: usize = 8;

/// What part of the log is wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct LogQuery {
    pub(super) follow: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) timestamps: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
    pub(super) tail: Option<usize>,
}

impl LogQuery {
    fn parse(query: &Query) -> ApiResult<Self> {
        let parsed = Self {
            follow: query.flag("follow"),
            stdout: query.flag("stdout"),
            stderr: query.flag("stderr"),
            timestamps: query.flag("timestamps"),
            since: query.time("since")?,
            until: query.time("until")?,
            // Docker takes anything that is no number for "all".
            tail: query.get("tail").parse().ok(),
        };
        if !parsed.stdout && !parsed.stderr {
            return Err(ApiError::bad(
                "Bad parameters: you must choose at least one stream",
            ));
        }
        Ok(parsed)
    }
}

pub(super) async fn logs(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> ApiResult {
    if query.flag("details") {
        return Err(ApiError::unavailable("logs with details"));
    }
    let query = LogQuery::parse(&query)?;
    respond(engine, name, query, version).await
}

/// Streams the log as `query` says.
pub(super) async fn respond(engine: Engine, name: String, query: LogQuery, version: ApiVersion) -> ApiResult {
    let tail = query.tail;
    let (id, tty, path, reader, watch) = engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            let containers = engine.containers()?;
            let spec = containers.spec(&id)?;
            if !spec.log.enabled {
                return Err(ApiError::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "configured logging driver does not support reading",
                ));
            }
            let path = containers.log_path(&id);
            let failed = |error: io::Error| ApiError::internal(format!("failed to read the log: {error}"));
            let watch = watch(path.parent().unwrap_or(&path)).map_err(failed)?;
            let reader = LogReader::open(&path, tail).map_err(failed)?;
            Ok((id, spec.process.tty, path, reader, watch))
        })
        .await?;
    let (send, receive) = mpsc::channel(CHUNKS);
    tokio::spawn(async move {
        let mut stream = Stream {
            engine,
            id,
            query,
            render: Render {
                tty,
                ..Render::default()
            },
            send,
        };
        if let Err(error) = stream.run(reader, watch).await {
            tracing::debug!(path = %path.display(), %error, "log stream ended");
            // Cuts the connection, so that the client cannot take the log for whole.
            let _ = stream.send.send(Err(error)).await;
        }
    });
    let content_type = stream_content_type(version, tty);
    let body = Body::from_stream(receiver_stream(receive));
    Ok((StatusCode::OK, [(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// Wakes on writes, renames and the end of the container's directory.
fn watch(dir: &FilePath) -> io::Result<OwnedFd> {
    use inotify::WatchFlags;
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let events = WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE_SELF;
    inotify::add_watch(&fd, dir, events | WatchFlags::ONLYDIR)?;
    Ok(fd)
}

struct Stream {
    engine: Engine,
    id: String,
    query: LogQuery,
    render: Render,
    send: mpsc::Sender<io::Result<Bytes>>,
}

impl Stream {
    async fn run(&mut self, mut reader: LogReader, watch: OwnedFd) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "an owned descriptor stays what it is; the newer call needs unsafe code"
        )]
        let watch = AsyncFd::new(watch)?;
        let mut last_round = !self.query.follow;
        loop {
            // Asked before reading, so that what was written before the end is still read after it is known.
            let running = if last_round {
                false
            } else {
                self.is_running().await
            };
            loop {
                let entries;
                (reader, entries) = tokio::task::spawn_blocking(move || {
                    let entries = reader.read();
                    (reader, entries)
                })
                .await
                .map_err(io::Error::other)?;
                let entries = entries?;
                if entries.is_empty() {
                    break;
                }
                let mut chunk = Vec::new();
                for entry in &entries {
                    match self.wants(entry) {
                        Wanted::Yes => self.render.entry(entry, self.query.timestamps, &mut chunk),
                        Wanted::No => {}
                        Wanted::NoMore => last_round = true,
                    }
                }
                if !chunk.is_empty() && self.send.send(Ok(chunk.into())).await.is_err() {
                    return Ok(());
                }
            }
            if last_round || !running {
                return Ok(());
            }
            tokio::select! {
                () = self.send.closed() => return Ok(()),
                ready = tokio::time::timeout(RECHECK, watch.readable()) => {
                    if let Ok(ready) = ready {
                        drain(&mut ready?)?;
                    }
                }
            }
        }
    }

    async fn is_running(&self) -> bool {
        let id = self.id.clone();
        let state = self
            .engine
            .blocking(move |engine| Ok(engine.containers()?.state(&id)?))
            .await;
        state.is_ok_and(|state| is_running(&state))
    }

    fn wants(&self, entry: &Entry) -> Wanted {
        let stream = if entry.stream == "stderr" {
            self.query.stderr
        } else {
            self.query.stdout
        };
        let time = entry.time.parse::<Timestamp>().ok();
        match time {
            Some(time) if self.query.until.is_some_and(|until| time > until) => Wanted::NoMore,
            Some(time) if self.query.since.is_some_and(|since| time < since) => Wanted::No,
            _ if stream => Wanted::Yes,
            _ => Wanted::No,
        }
    }
}

enum Wanted {
    Yes,
    No,
    /// Later than `until`, like everything after it.
    NoMore,
}

/// Takes the events off the queue; only that there were some matters.
fn drain(ready: &mut tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut buffer)?)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_would_block) => return Ok(()),
        }
    }
}

/// Entries as clients read them.
#[derive(Debug, Default)]
struct Render {
    tty: bool,
    /// Whether the last piece of stdout and of stderr lacked its newline: the next one continues the line.
    partial: [bool; 2],
}

impl Render {
    fn entry(&mut self, entry: &Entry, timestamps: bool, out: &mut Vec<u8>) {
        let stderr = entry.stream == "stderr";
        let continues = std::mem::replace(&mut self.partial[usize::from(stderr)], !entry.log.ends_with('\n'));
        let mut text = String::new();
        if timestamps && !continues {
            text.push_str(&entry.time);
            text.push(' ');
        }
        text.push_str(&entry.log);
        if self.tty {
            out.extend_from_slice(text.as_bytes());
        } else {
            out.extend_from_slice(&frame(stderr, text.as_bytes()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_joined_under_one_timestamp() {
        let entry = |log: &str| Entry {
            log: log.to_owned(),
            stream: "stdout".to_owned(),
            time: "T".to_owned(),
        };
        let mut render = Render {
            tty: true,
            ..Render::default()
        };
        let mut out = Vec::new();
        for log in ["a", "b\n", "c\n"] {
            render.entry(&entry(log), true, &mut out);
        }
        assert_eq!(out, b"T ab\nT c\n");
        let mut out = Vec::new();
        Render::default().entry(&entry("x\n"), false, &mut out);
        assert_eq!(out, b"\x01\0\0\0\0\0\0\x02x\n");
    }

    #[test]
    fn times_are_unix_seconds_with_fraction() {
        let parse = |text: &str| Query::parse(&format!("since={text}")).time("since");
        assert_eq!(parse("0").unwrap(), None);
        assert_eq!(parse("12").unwrap(), Some(Timestamp::new(12, 0).unwrap()));
        assert_eq!(
            parse("12.5").unwrap(),
            Some(Timestamp::new(12, 500_000_000).unwrap())
        );
        for bad in ["x", "1.0000000001", "1.-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
