//! `cp`.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use bytes::{Buf as _, Bytes};
use cooper_daemon::api::PathStat;
use cooper_daemon::files::{Extract, Owner, extract, pack_directory, pack_entry};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::sync::mpsc;

use super::import::upload;
use super::save::to_stdout;
use crate::args::data::CpArgs;
use crate::client::{Client, Payload, escape, query};
use crate::failure::{Failure, Result};

/// Bytes sent at once.
const CHUNK: usize = 256 << 10;
/// Chunks under way.
const CHUNKS: usize = 4;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    In(&'a str, &'a str),
}

/// `CONTAINER:PATH`, unless a slash or dot begins it, which only a path here can have.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        Some((container, path)) if !text.starts_with(['/', '.']) && !container.is_empty() => {
            Side::In(container, path)
        }
        _ => Side::Here(text),
    }
}

/// `cp`.
pub(super) async fn run(client: &Client, args: &CpArgs) -> Result {
    match (side(&args.source), side(&args.destination)) {
        (Side::In(container, source), Side::Here(to)) => out(client, args, container, source, to).await,
        (Side::Here(from), Side::In(container, target)) => into(client, args, from, container, target).await,
        (Side::In(..), Side::In(..)) => Err(Failure::new("copying between containers is not supported")),
        (Side::Here(_), Side::Here(_)) => Err(Failure::new("must specify at least one container source")),
    }
}

/// What a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Other,
}

/// Where an archive is unpacked and what its entry `base` becomes there, with `cp`'s rules.
fn place<'a>(
    directory: bool,
    base: &'a str,
    to: &'a str,
    found: Found,
) -> std::result::Result<(&'a str, &'a str), &'static str> {
    match found {
        Found::Directory => return Ok((to, base)),
        Found::Other if directory => return Err("cannot copy directory"),
        Found::Nothing if to.ends_with('/') && !directory => return Err("no such directory"),
        Found::Other | Found::Nothing => {}
    }
    let trimmed = match to.trim_end_matches("/.").trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed,
    };
    match trimmed.rsplit_once('/') {
        Some(("", name)) => Ok(("/", name)),
        Some((parent, name)) => Ok((parent, name)),
        None => Ok((".", trimmed)),
    }
}

/// Name of the archive's first entry: Go's `filepath.Base`, with a final `/.` kept.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn archive_path(container: &str, pairs: &[(&str, &str)]) -> String {
    query(&format!("/containers/{}/archive", escape(container)), pairs)
}

async fn stat(client: &Client, container: &str, path: &str) -> Result<PathStat> {
    let url = archive_path(container, &[("path", path)]);
    let response = client.send(Method::HEAD, &url, Payload::Empty, &[]).await?;
    let invalid = || Failure::new("the engine did not describe the path");
    let header = response
        .headers()
        .get("x-docker-container-path-stat")
        .ok_or_else(invalid)?;
    let json = base64::engine::general_purpose::STANDARD
        .decode(header.as_bytes())
        .map_err(|_| invalid())?;
    serde_json::from_slice(&json).map_err(|_| invalid())
}

/// Out of a container.
async fn out(client: &Client, args: &CpArgs, container: &str, source: &str, to: &str) -> Result {
    let mut source = source.to_owned();
    let name = base(&source).to_owned();
    let mut info = match stat(client, container, &source).await {
        Ok(info) => info,
        // The answer to HEAD has no text that says why.
        Err(failure) => {
            let url = archive_path(container, &[("path", &source)]);
            client.send(Method::GET, &url, Payload::Empty, &[]).await?;
            return Err(failure);
        }
    };
    if args.follow_link && info.mode & PathStat::SYMLINK != 0 {
        source.clone_from(&info.link_target);
        info = stat(client, container, &source).await?;
    }
    let url = archive_path(container, &[("path", &source)]);
    if to == "-" {
        let (body, _) = client.download(&url).await?;
        return to_stdout(body).await;
    }
    let found = match std::fs::metadata(to) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::Other,
        Err(_) => Found::Nothing,
    };
    let (directory, new) = place(info.is_dir(), &name, to, found).map_err(Failure::new)?;
    let directory: OwnedFd = match std::fs::File::open(directory) {
        Ok(directory) => directory.into(),
        Err(error) => {
            return Err(Failure::new(format!(
                "invalid output path: directory \"{directory}\": {error}"
            )));
        }
    };
    let entry = base(&source);
    let (from, new) = (entry.as_bytes().to_vec(), new.as_bytes().to_vec());
    // What the root holds has no first part in its names.
    let from = if from == b"/" { b".".to_vec() } else { from };
    let new = if new == b"/" { b".".to_vec() } else { new };
    let options = Extract {
        keep_kinds: true,
        owner: if args.archive {
            Owner::Archive
        } else {
            Owner::Caller
        },
        rename: (from != new).then_some((from, new)),
    };
    let (mut body, _) = client.download(&url).await?;
    let (send, chunks) = mpsc::channel(CHUNKS);
    let work = tokio::task::spawn_blocking(move || {
        let mut reader = Chunks {
            chunks,
            current: Bytes::new(),
        };
        extract(&mut reader, directory, &options)
    });
    while let Some(frame) = body.frame().await {
        let chunk = frame
            .map(|frame| frame.into_data().unwrap_or_default())
            .map_err(io::Error::other);
        if send.send(chunk).await.is_err() {
            break;
        }
    }
    drop(send);
    work.await
        .map_err(|error| Failure::new(error.to_string()))?
        .map_err(|error| Failure::new(error.to_string()))
}

/// A body as a blocking reader.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Into a container.
async fn into(client: &Client, args: &CpArgs, from: &str, container: &str, target: &str) -> Result {
    let mut target = target.to_owned();
    let mut info = stat(client, container, &target).await;
    if let Ok(PathStat {
        mode, link_target, ..
    }) = &info
        && mode & PathStat::SYMLINK != 0
    {
        target.clone_from(link_target);
        info = stat(client, container, &target).await;
    }
    let found = match &info {
        Ok(info) if info.is_dir() => Found::Directory,
        Ok(_) => Found::Other,
        // The directory that it is to be in may be there; if not, the engine says so.
        Err(_) => Found::Nothing,
    };
    let (directory, content) = if from == "-" {
        if found != Found::Directory {
            return Err(Failure::new(format!(
                "destination \"{container}:{target}\" must be a directory"
            )));
        }
        (target.as_str(), upload(None)?)
    } else {
        let source = Source::open(from, args.follow_link)?;
        let (directory, name) =
            place(source.is_directory(), base(from), &target, found).map_err(Failure::new)?;
        let content = pack(source, name.as_bytes().to_vec())?;
        (directory, content)
    };
    let mut pairs = vec![("path", directory), ("noOverwriteDirNonDir", "true")];
    if args.archive {
        pairs.push(("copyUIDGID", "true"));
    }
    let payload = Payload::Stream("application/x-tar", content);
    let url = archive_path(container, &pairs);
    let response = client.send(Method::PUT, &url, payload, &[]).await?;
    drop(response);
    Ok(())
}

/// What is copied from here.
enum Source {
    Directory(OwnedFd),
    Entry(OwnedFd, Vec<u8>),
}

impl Source {
    fn open(path: &str, follow: bool) -> Result<Self> {
        let fail = |error: io::Error| Failure::new(format!("{path}: {error}"));
        let metadata = if follow || path.ends_with('/') || path.ends_with("/.") {
            std::fs::metadata(path)
        } else {
            std::fs::symlink_metadata(path)
        };
        let metadata = metadata.map_err(fail)?;
        if metadata.is_dir() {
            return Ok(Self::Directory(std::fs::File::open(path).map_err(fail)?.into()));
        }
        let real = if follow && Path::new(path).is_symlink() {
            std::fs::canonicalize(path).map_err(fail)?
        } else {
            Path::new(path).to_path_buf()
        };
        let parent = match real.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let name = real.file_name().unwrap_or(OsStr::new("")).as_bytes().to_vec();
        Ok(Self::Entry(
            std::fs::File::open(parent).map_err(fail)?.into(),
            name,
        ))
    }

    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// The archive of a source, written on a thread of its own.
fn pack(source: Source, name: Vec<u8>) -> Result<BoxStream<'static, io::Result<Bytes>>> {
    let (send, receiver) = mpsc::channel(CHUNKS);
    std::thread::Builder::new()
        .name("pack".to_owned())
        .spawn(move || {
            let mut writer = io::BufWriter::with_capacity(CHUNK, Sender(send.clone()));
            let packed = match source {
                Source::Directory(directory) => pack_directory(directory, Some(&name), &mut writer),
                Source::Entry(parent, file) => pack_entry(parent.as_fd(), &file, &name, &mut writer),
            };
            let ended = packed.map_err(io::Error::other).and_then(|()| writer.flush());
            drop(writer.into_parts());
            if let Err(error) = ended {
                // Nobody receives when the engine has refused; its answer is what counts.
                let _ = send.blocking_send(Err(error));
            }
        })?;
    Ok(futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    })
    .boxed())
}

struct Sender(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sender {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.0.blocking_send(Ok(Bytes::copy_from_slice(buffer))) {
            Ok(()) => Ok(buffer.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(side("c:/a:b"), Side::In("c", "/a:b"));
        assert_eq!(side("c:"), Side::In("c", ""));
        for here in ["/a:b", "./a:b", "a", "-", ":b"] {
            assert_eq!(side(here), Side::Here(here));
        }
    }

    #[test]
    fn places() {
        use Found::{Directory, Nothing, Other};
        let check = |directory, source, to, found, expected| {
            assert_eq!(
                place(directory, base(source), to, found),
                expected,
                "{source} {to}"
            );
        };
        check(false, "/a/f", "/t", Directory, Ok(("/t", "f")));
        check(true, "/a/d/.", "/t", Directory, Ok(("/t", ".")));
        check(false, "/a/f", "/t/new", Nothing, Ok(("/t", "new")));
        check(true, "/a/d", "new", Nothing, Ok((".", "new")));
        check(true, "/a/d/.", "/new/", Nothing, Ok(("/", "new")));
        check(false, "f", "/new/", Nothing, Err("no such directory"));
        check(true, "d", "/file", Other, Err("cannot copy directory"));
        check(false, "f", "/x/file", Other, Ok(("/x", "file")));
        assert_eq!((base("/"), base("a/"), base("a/.")), ("/", "a", "."));
    }
}
