//! `HEAD`, `GET` and `PUT /containers/{id}/archive`: `docker cp`.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path as FilePath, PathBuf};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use cooper_registry::store::live::{self, Extract, Owner};
use cooper_runner::container::{Files, PathInfo, ReadOnly};
use jiff::Timestamp;

use super::stream;
use crate::api::PathStat;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::body::BodyReader;
use crate::http::query::Query;

const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// A path in a container, as it was asked for.
struct Asked {
    container: String,
    /// For messages, without a cleaned form.
    text: String,
    /// Absolute, with what stood at its end: a slash or `/.`.
    path: Vec<u8>,
}

impl Asked {
    fn new(container: String, query: &Query) -> ApiResult<Self> {
        let Some(given) = query.bytes("path").filter(|path| !path.is_empty()) else {
            return Err(ApiError::bad("bad parameter: pathcannot be empty"));
        };
        if given.contains(&0) {
            return Err(ApiError::bad("bad parameter: path contains NUL"));
        }
        Ok(Self {
            container,
            text: String::from_utf8_lossy(&given).into_owned(),
            path: clean(&given),
        })
    }

    fn as_path(&self) -> &FilePath {
        FilePath::new(OsStr::from_bytes(&self.path))
    }

    /// Go's `filepath.Base`.
    fn base(&self) -> &[u8] {
        let end = self.path.iter().rposition(|&byte| byte != b'/');
        let Some(end) = end else { return b"/" };
        let path = &self.path[..=end];
        path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
    }

    fn error(&self, error: &std::io::Error) -> ApiError {
        match error.kind() {
            ErrorKind::NotFound => ApiError::not_found(format!(
                "Could not find the file {} in container {}",
                self.text, self.container
            )),
            _ => ApiError::internal(format!("{}: {error}", self.text)),
        }
    }
}

/// Absolute and without empty parts, `.` and `..` (Go's `filepath.Join("/", path)`); a slash or `/.` at the end stays, since it
/// asks for a directory.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = vec![b'/'];
    clean.extend_from_slice(&parts.join(&b'/'));
    if path.ends_with(b"/.") || path == b"." {
        if !parts.is_empty() {
            clean.push(b'/');
        }
        clean.push(b'.');
    } else if path.ends_with(b"/") && !parts.is_empty() {
        clean.push(b'/');
    }
    clean
}

fn path_stat(asked: &Asked, info: &PathInfo) -> PathStat {
    let modified = i32::try_from(info.modified.1)
        .ok()
        .and_then(|nanoseconds| Timestamp::new(info.modified.0, nanoseconds).ok())
        .unwrap_or_default();
    let target = info.target.as_deref().unwrap_or(FilePath::new(""));
    PathStat {
        name: String::from_utf8_lossy(asked.base()).into_owned(),
        size: info.size,
        mode: go_mode(info.mode),
        mtime: modified.to_string(),
        link_target: target.to_string_lossy().into_owned(),
    }
}

/// `st_mode` as Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    const DEVICE: u32 = 1 << 26;
    let kind = match mode & 0o170_000 {
        0o040_000 => PathStat::DIRECTORY,
        0o120_000 => PathStat::SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0);
    special.fold(kind | (mode & 0o777), |all, (_, go)| all | go)
}

fn header(stat: &PathStat) -> ApiResult<String> {
    let json = serde_json::to_vec(stat).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(json))
}

fn look(engine: &Engine, asked: &Asked) -> ApiResult<(String, Files, PathStat)> {
    let id = engine.resolve_container(&asked.container)?;
    let files = engine.containers()?.files(&id)?;
    let info = files.info(asked.as_path()).map_err(|error| asked.error(&error))?;
    let stat = path_stat(asked, &info);
    Ok((id, files, stat))
}

pub(super) async fn head(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    let asked = Asked::new(name, &query)?;
    let stat = engine
        .waiting(move |engine| header(&look(engine, &asked)?.2))
        .await?;
    Ok((StatusCode::OK, [(STAT, stat)]).into_response())
}

/// What is packed: a directory, or a name in one.
enum Source {
    Directory(OwnedFd),
    Entry(OwnedFd, Vec<u8>),
}

pub(super) async fn get(State(engine): State<Engine>, Path(name): Path<String>, query: Query) -> ApiResult {
    let asked = Asked::new(name, &query)?;
    let (files, source, entry, stat) = engine
        .waiting(move |engine| {
            let (id, files, stat) = look(engine, &asked)?;
            let open = |path: &FilePath| files.directory(path).map_err(|error| asked.error(&error));
            let source = if stat.is_dir() {
                Source::Directory(open(asked.as_path())?)
            } else {
                let parent = asked.as_path().parent().unwrap_or(FilePath::new("/"));
                Source::Entry(open(parent)?, asked.base().to_vec())
            };
            // The root's own entry is a slash.
            let entry = match asked.base() {
                b"/" => Vec::new(),
                base => base.to_vec(),
            };
            engine.containers()?.tell(&id, "archive-path", &[]);
            Ok((files, source, entry, header(&stat)?))
        })
        .await?;
    Ok(stream::archive(
        engine,
        "application/x-tar",
        Some((STAT, stat)),
        move |to| {
            use std::os::fd::AsFd as _;
            let packed = match source {
                Source::Directory(directory) => live::pack_directory(directory, Some(&entry), to),
                Source::Entry(parent, file) => live::pack_entry(parent.as_fd(), &file, &entry, to),
            };
            // Its mounts are there until everything is read.
            drop(files);
            packed
        },
    ))
}

pub(super) async fn put(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
    body: Body,
) -> ApiResult {
    let asked = Asked::new(name, &query)?;
    let (keep_kinds, own) = (query.flag("noOverwriteDirNonDir"), query.flag("copyUIDGID"));
    let mut reader = BodyReader::new(body);
    engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&asked.container)?;
            let files = engine.containers()?.files(&id)?;
            let directory = files
                .directory(asked.as_path())
                .map_err(|error| match error.kind() {
                    ErrorKind::NotADirectory => ApiError::bad("extraction point is not a directory"),
                    _ => asked.error(&error),
                })?;
            let read_only = files.read_only(&directory).map_err(|error| asked.error(&error))?;
            match read_only {
                Some(ReadOnly::Root) => return Err(ApiError::bad("container rootfs is marked read-only")),
                Some(ReadOnly::Mount) => return Err(ApiError::bad("mounted volume is marked read-only")),
                None => {}
            }
            let user = engine.metadata(&id)?.config.user;
            let owner = match own && !user.is_empty() {
                true => owner(&files, &user)?,
                false => Owner::Archive,
            };
            let options = Extract {
                keep_kinds,
                owner,
                rename: None,
            };
            live::extract(&mut reader, directory, &options)?;
            engine.containers()?.tell(&id, "extract-to-dir", &[]);
            Ok(())
        })
        .await?;
    Ok(StatusCode::OK.into_response())
}

/// The ids of the container's user, by its own files.
fn owner(files: &Files, user: &str) -> ApiResult<Owner> {
    const LIMIT: u64 = 8 << 20;
    let read = |path: &str| {
        files
            .read(&PathBuf::from(path), LIMIT)
            .map_err(|error| ApiError::internal(format!("{path}: {error}")))
    };
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let ids = cooper_runner::user::resolve(user, &[], passwd.as_deref(), group.as_deref())
        .map_err(|error| ApiError::bad(error.to_string()))?;
    Ok(Owner::Ids(ids.uid, ids.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_what_asks_for_a_directory() {
        let check = |path: &str, expected: &str, base: &str| {
            let query = Query::parse(&format!("path={path}"));
            let asked = Asked::new("c".to_owned(), &query).unwrap();
            assert_eq!(asked.as_path().to_str(), Some(expected), "{path}");
            assert_eq!(asked.base(), base.as_bytes(), "{path}");
        };
        check("/a/b", "/a/b", "b");
        check("a", "/a", "a");
        check("/a//b/", "/a/b/", "b");
        check("/a/.", "/a/.", ".");
        check("/", "/", "/");
        check(".", "/.", ".");
        check("..", "/", "/");
        check("../../etc/passwd", "/etc/passwd", "passwd");
        check("/a/../../b", "/b", "b");
        check("/a+b%2Bc", "/a b+c", "a b+c");
        assert!(Asked::new("c".to_owned(), &Query::parse("path=")).is_err());
        assert!(Asked::new("c".to_owned(), &Query::parse("path=a%00b")).is_err());
    }

    #[test]
    fn modes_are_gos() {
        for (mode, expected) in [
            (0o100_644, 0o644),
            (0o040_755, 2_147_484_141),
            (0o120_777, 134_218_239),
            (0o041_777, 2_148_532_735),
            (0o104_755, 1 << 23 | 0o755),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
