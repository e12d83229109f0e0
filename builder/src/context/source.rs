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
    /// The ignore file is `<Dockerfile>.dockerignore` beside the Dockerfile, or `.dockerignore` at the root.
    pub(crate) fn open(request: &Request) -> Result<Option<Self>, Error> {
        let Context::Directory(path) = &request.context else {
            return Ok(None);
        };
        let root = RootHandle::open_host(path)?;
        let ignore = read_ignore(&root, &request.dockerfile_name)?;
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

pub(super) fn read_ignore(root: &RootHandle, dockerfile: &str) -> Result<Option<Patterns>, Error> {
    let names = [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()];
    read_first_ignore(root, names)
}

/// The patterns of the first of these files that is there.
fn read_first_ignore(
    root: &RootHandle,
    names: impl IntoIterator<Item = String>,
) -> Result<Option<Patterns>, Error> {
    for name in names {
        match read(root, Path::new(&name), MAX_IGNORE) {
            Ok(text) => {
                let patterns = Patterns::parse(&text);
                let patterns = patterns.map_err(|error| Error::Ignore {
                    name,
                    reason: error.to_string(),
                })?;
                return Ok(Some(patterns).filter(|patterns| !patterns.is_empty()));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => {
                let reason = why(errno);
                return Err(Error::Ignore { name, reason });
            }
        }
    }
    Ok(None)
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
