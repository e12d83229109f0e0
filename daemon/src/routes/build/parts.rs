//! The directories that come with a build.

use std::fs::DirBuilder;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_builder::build::{Context, NamedContext, Request};
use cooper_builder::context::{UnpackLimits, untar};

use super::archive::decompressed;
use crate::api::{CONTEXT_PART, MAX_BUILD_CHUNK};
use crate::error::{ApiError, ApiResult};

/// More named contexts are refused.
const MAX_PARTS: usize = 256;

/// One part of the body: chunks up to an empty one.
struct Part<'r> {
    body: &'r mut dyn Read,
    cancelled: &'r AtomicBool,
    left: usize,
    ended: bool,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() || self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("build cancelled"));
            }
            let mut length = [0; 4];
            self.body.read_exact(&mut length)?;
            self.left = u32::from_be_bytes(length) as usize;
            if self.left > MAX_BUILD_CHUNK {
                let text = format!(
                    "a chunk of {} bytes, at most {MAX_BUILD_CHUNK} are allowed",
                    self.left
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let room = buffer.len().min(self.left);
        let count = self.body.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

/// Whether these are names that parts may have, each once.
pub(super) fn check_names(names: &[String]) -> ApiResult<()> {
    let valid = |name: &str| {
        name == CONTEXT_PART
            || name
                .strip_prefix("named/")
                .is_some_and(|number| number.parse::<u16>().is_ok_and(|read| read.to_string() == number))
    };
    let wrong = names
        .iter()
        .enumerate()
        .find(|(index, name)| !valid(name) || names[..*index].contains(name));
    match wrong {
        Some((_, name)) => Err(ApiError::bad(format!("invalid part {name:?} of a build"))),
        None if names.len() > MAX_PARTS => {
            Err(ApiError::bad(format!("a build has more than {MAX_PARTS} parts")))
        }
        None => Ok(()),
    }
}

/// Unpacks the parts of these names into directories below `scratch`.
pub(super) fn unpack(
    body: &mut dyn Read,
    names: &[String],
    scratch: &Path,
    cancelled: &AtomicBool,
) -> ApiResult<()> {
    for name in names {
        let dir = scratch.join(name);
        // Made here and not by the archive: an archive cannot put a link in its place.
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&dir);
        made.map_err(|error| ApiError::internal(format!("mkdir {}: {error}", dir.display())))?;
        let mut part = Part {
            body,
            cancelled,
            left: 0,
            ended: false,
        };
        let failed = |error: &dyn std::fmt::Display| {
            ApiError::bad(format!("failed to read the build context: {error}"))
        };
        let mut plain = decompressed(&mut part).map_err(|error| failed(&error))?;
        untar(plain.as_mut(), &dir, UnpackLimits::default()).map_err(|error| failed(&error))?;
        drop(plain);
        // An archive may end before its part does.
        io::copy(&mut part, &mut io::sink()).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Puts the places of the parts into the request, and refuses directories that this client must not name.
pub(super) fn settle(
    request: &mut Request,
    parts: &[String],
    scratch: Option<&Path>,
    shares_files: bool,
) -> ApiResult<()> {
    let settle = |path: &mut PathBuf| -> ApiResult<()> {
        if path.is_absolute() {
            return if shares_files {
                Ok(())
            } else {
                Err(ApiError::bad(format!(
                    "directory {} cannot be named on this connection: it must be sent",
                    path.display()
                )))
            };
        }
        let sent = path.to_str().filter(|name| parts.iter().any(|part| part == name));
        match (sent, scratch) {
            (Some(name), Some(scratch)) => {
                *path = scratch.join(name);
                Ok(())
            }
            _ => Err(ApiError::bad(format!(
                "directory {:?} is neither absolute nor a part of the request",
                path.display()
            ))),
        }
    };
    if let Context::Directory(path) = &mut request.context {
        settle(path)?;
    }
    for named in request.named_contexts.values_mut() {
        match named {
            NamedContext::Directory(path) | NamedContext::OciLayout { path, .. } => settle(path)?,
            NamedContext::Remote(_) | NamedContext::Image(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let check = |names: &[&str], ok: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(check_names(&names).is_ok(), ok, "{names:?}");
        };
        check(&[], true);
        check(&["context", "named/0", "named/17"], true);
        check(&["context", "context"], false);
        for name in [
            "",
            "/etc",
            "..",
            "named/",
            "named/01",
            "named/-1",
            "named/../x",
            "named/99999",
        ] {
            check(&[name], false);
        }
    }

    #[test]
    fn chunks_end_where_they_say() {
        let read = |bytes: &[u8]| {
            let mut body = bytes;
            let cancelled = AtomicBool::new(false);
            let mut part = Part {
                body: &mut body,
                cancelled: &cancelled,
                left: 0,
                ended: false,
            };
            let mut got = Vec::new();
            part.read_to_end(&mut got).ok().map(|_| (got, body.to_vec()))
        };
        let whole = b"\0\0\0\x02ab\0\0\0\x01c\0\0\0\0rest";
        assert_eq!(read(whole), Some((b"abc".to_vec(), b"rest".to_vec())));
        assert_eq!(read(b"\0\0\0\0"), Some((Vec::new(), Vec::new())));
        for cut in [&b"\0\0\0\x02a"[..], b"\0\0\0\x01a", b"\0\0", b"\xff\xff\xff\xffa"] {
            assert_eq!(read(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn directories_of_a_request() {
        let check = |path: &str, shares_files: bool, expected: Option<&str>| {
            let mut request = Request {
                context: Context::Directory(path.into()),
                ..Request::default()
            };
            let parts = ["context".to_owned()];
            let settled = settle(&mut request, &parts, Some(Path::new("/scratch")), shares_files);
            let got = settled.is_ok().then_some(request.context);
            let expected = expected.map(|path| Context::Directory(path.into()));
            assert_eq!(got, expected, "{path}");
        };
        check("/etc", true, Some("/etc"));
        check("/etc", false, None);
        check("context", false, Some("/scratch/context"));
        check("named/0", true, None);
        check("../etc", true, None);
        check("", true, None);
    }
}
