//! A context directory read in place.

use std::io::Read as _;
use std::path::Path;

use rustix::io::Errno;

use crate::build::{Context, Error, NamedContext, Request, reason};
use crate::dockerfile::MAX_SOURCE;
use crate::ignore::Patterns;
use crate::tree::{Filter, RootHandle, resolve};

const DEFAULT_NAME: &str = "Dockerfile";
/// A longer `.dockerignore` is refused.
const MAX_IGNORE: u64 = 16 << 20;

/// The context with what hides parts of it.
#[derive(Debug)]
pub(crate) struct ContextFiles {
    pub(crate) root: RootHandle,
    ignore: Option<Patterns>,
}

impl ContextFiles {
    /// Opens a context; none for [`Context::Empty`].
    ///
    /// The ignore file is the one of the request, else `<Dockerfile>.dockerignore` beside a Dockerfile of the context, else
    /// `.dockerignore` at the root.
    pub(crate) fn open(request: &Request) -> Result<Option<Self>, Error> {
        let Context::Directory(path) = &request.context else {
            return Ok(None);
        };
        let root = RootHandle::open_host(path)?;
        let inside = request.dockerfile.is_none();
        let dockerfile = inside.then_some(request.dockerfile_name.as_str());
        let ignore = match &request.ignore {
            Some(text) => parse_ignore(format!("{}.dockerignore", request.dockerfile_name), text)?,
            None => read_ignore(&root, dockerfile)?,
        };
        Ok(Some(Self { root, ignore }))
    }

    /// Opens the named context `key`; its `.dockerignore` applies, whatever the Dockerfile is called.
    pub(super) fn open_named(key: &str, context: &NamedContext) -> Result<Self, Error> {
        match context {
            NamedContext::Directory(path) => {
                let root = RootHandle::open_host(path)?;
                let ignore = read_first_ignore(&root, [".dockerignore".to_owned()])?;
                Ok(Self { root, ignore })
            }
            NamedContext::Remote(_) => Err(Error::Source(format!(
                "named context {key}: remote contexts are not supported yet"
            ))),
            NamedContext::Image(_) | NamedContext::OciLayout { .. } => {
                Err(Error::internal("an image is no directory"))
            }
        }
    }

    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            ignore: self.ignore.as_ref(),
        }
    }
}

/// The patterns of `<dockerfile>.dockerignore`, or of `.dockerignore`.
pub(super) fn read_ignore(root: &RootHandle, dockerfile: Option<&str>) -> Result<Option<Patterns>, Error> {
    let beside = dockerfile.map(|name| format!("{name}.dockerignore"));
    read_first_ignore(root, beside.into_iter().chain([".dockerignore".to_owned()]))
}

/// The patterns of the first of these files that is there.
fn read_first_ignore(
    root: &RootHandle,
    names: impl IntoIterator<Item = String>,
) -> Result<Option<Patterns>, Error> {
    for name in names {
        match read(root, Path::new(&name), MAX_IGNORE) {
            Ok(text) => return parse_ignore(name, &text),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => {
                let reason = why(errno);
                return Err(Error::Ignore { name, reason });
            }
        }
    }
    Ok(None)
}

pub(super) fn parse_ignore(name: String, text: &[u8]) -> Result<Option<Patterns>, Error> {
    let patterns = Patterns::parse(text).map_err(|error| Error::Ignore {
        name,
        reason: error.to_string(),
    })?;
    Ok(Some(patterns).filter(|patterns| !patterns.is_empty()))
}

/// Name and bytes of the Dockerfile. Where the default name is asked for and missing, `dockerfile` is taken, as BuildKit
/// does.
pub(crate) fn read_dockerfile(
    request: &Request,
    context: Option<&ContextFiles>,
) -> Result<(String, Vec<u8>), Error> {
    let name = &request.dockerfile_name;
    if let Some(bytes) = &request.dockerfile {
        return Ok((name.clone(), bytes.clone()));
    }
    let missing = |errno: Errno| Error::NoDockerfile {
        name: name.clone(),
        reason: why(errno),
    };
    let Some(context) = context else {
        return Err(missing(Errno::NOENT));
    };
    let path = Path::new(name);
    let mut candidates = vec![path.to_owned()];
    if path.file_name().is_some_and(|file| file == DEFAULT_NAME) {
        candidates.push(path.with_file_name(DEFAULT_NAME.to_lowercase()));
    }
    for path in candidates {
        match read(&context.root, &path, MAX_SOURCE as u64) {
            Ok(bytes) => return Ok((path.to_string_lossy().into_owned(), bytes)),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(missing(errno)),
        }
    }
    Err(missing(Errno::NOENT))
}

/// What kept [`read`] from its file.
fn why(errno: Errno) -> String {
    match errno {
        Errno::INVAL => "not a regular file".to_owned(),
        other => reason(other),
    }
}

/// Reads a whole file, links resolved inside the root; longer than `limit` is `EFBIG`.
fn read(root: &RootHandle, path: &Path, limit: u64) -> Result<Vec<u8>, Errno> {
    let found = resolve(root, path)?;
    let file = root.open_file(&found.real)?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if bytes.len() as u64 > limit {
        Err(Errno::FBIG)
    } else {
        Ok(bytes)
    }
}
