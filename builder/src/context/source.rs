//! Contexts as trees of files: directories read in place, and what was fetched.

use std::io::Read as _;
use std::path::Path;

use rustix::io::Errno;

use crate::build::{Context, Error, NamedContext, Request, reason};
use crate::dockerfile::MAX_SOURCE;
use crate::fetch::{FILE, Fetcher, Remote};
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
    /// The context is one file, which is the Dockerfile: its name.
    dockerfile: Option<&'static str>,
}

impl ContextFiles {
    /// Opens a context, fetches it if need be; none for [`Context::Empty`].
    ///
    /// The ignore file is `<Dockerfile>.dockerignore` beside the Dockerfile, or `.dockerignore` at the root; those of
    /// remote contexts are not looked at, as in BuildKit.
    pub(crate) fn open(request: &Request, fetcher: &Fetcher<'_>) -> Result<Option<Self>, Error> {
        match &request.context {
            Context::Empty => Ok(None),
            Context::Remote(text) => Self::fetch(text, fetcher).map(Some),
            Context::Directory(path) => {
                let root = RootHandle::open_host(path)?;
                let ignore = read_ignore(&root, Some(&request.dockerfile_name))?;
                Ok(Some(Self {
                    root,
                    ignore,
                    dockerfile: None,
                }))
            }
        }
    }

    /// Opens a named context that is a tree of files; none for images. Its own `.dockerignore` counts, and no other.
    pub(super) fn open_named(context: &NamedContext, fetcher: &Fetcher<'_>) -> Result<Option<Self>, Error> {
        match context {
            NamedContext::Directory(path) => {
                let root = RootHandle::open_host(path)?;
                let ignore = read_ignore(&root, None)?;
                Ok(Some(Self {
                    root,
                    ignore,
                    dockerfile: None,
                }))
            }
            NamedContext::Remote(text) => Self::fetch(text, fetcher).map(Some),
            NamedContext::Image(_) | NamedContext::OciLayout { .. } => Ok(None),
        }
    }

    /// A repository's files, the files of an archive, or a Dockerfile alone.
    fn fetch(text: &str, fetcher: &Fetcher<'_>) -> Result<Self, Error> {
        let remote = Remote::of_context(text).map_err(Error::Source)?;
        let fetched = fetcher.fetch(&remote)?;
        let (tree, dockerfile) = match remote {
            Remote::Git(_) => (fetched.layer.tree, None),
            Remote::Http(_) => match fetcher.unpack(&fetched.layer)? {
                Some(unpacked) => (unpacked.tree, None),
                None => (fetched.layer.tree, Some(FILE)),
            },
        };
        Ok(Self {
            root: RootHandle::open_host(&tree)?,
            ignore: None,
            dockerfile,
        })
    }

    pub(crate) fn filter(&self) -> Filter<'_> {
        Filter {
            ignore: self.ignore.as_ref(),
            ..Filter::default()
        }
    }
}

/// The patterns of `<dockerfile>.dockerignore` if a Dockerfile is given and has one, otherwise those of `.dockerignore`.
pub(super) fn read_ignore(root: &RootHandle, dockerfile: Option<&str>) -> Result<Option<Patterns>, Error> {
    let beside = dockerfile.map(|dockerfile| format!("{dockerfile}.dockerignore"));
    for name in beside.into_iter().chain([".dockerignore".to_owned()]) {
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
    let path = Path::new(context.dockerfile.unwrap_or(name));
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use cooper_registry::digest::Digest;
    use cooper_registry::oci::{Descriptor, Platform};
    use cooper_registry::reference::ImageRef;
    use cooper_registry::store::{Image, Store};

    use super::*;
    use crate::build::{BaseImages, Registries, Secrets, Services, Web, WebRequest, WebResponse};

    /// An engine that has nothing.
    struct Nothing;

    impl BaseImages for Nothing {
        fn resolve(&self, _: &ImageRef, _: &Platform, _: bool, _: &AtomicBool) -> Result<Image, String> {
            Err("no images".to_owned())
        }
    }

    impl Secrets for Nothing {
        fn secret(&self, _: &str) -> Result<Option<Vec<u8>>, String> {
            Ok(None)
        }

        fn ssh_agent(&self, _: &str) -> Result<Option<std::path::PathBuf>, String> {
            Ok(None)
        }
    }

    impl Web for Nothing {
        fn get(
            &self,
            _: &WebRequest<'_>,
            _: &mut dyn FnMut(&WebResponse) -> bool,
            _: &mut dyn FnMut(&[u8]) -> bool,
        ) -> Result<(), String> {
            Err("no network".to_owned())
        }
    }

    impl Registries for Nothing {
        fn manifest(&self, _: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
            Err("no network".to_owned())
        }

        fn blob(&self, _: &ImageRef, _: &Descriptor) -> Result<(), String> {
            Err("no network".to_owned())
        }

        fn push(&self, _: &ImageRef, _: &Digest, _: &(dyn Fn(String) + Sync)) -> Result<(), String> {
            Err("no network".to_owned())
        }
    }

    /// A named directory has its own `.dockerignore`, and not the Dockerfile's.
    #[test]
    fn named_contexts() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let services = Services {
            bases: &Nothing,
            secrets: &Nothing,
            web: &Nothing,
            registries: &Nothing,
        };
        let lease = store.lease().unwrap();
        let fetcher = Fetcher {
            store: &store,
            services: &services,
            lease: &lease,
            stop: &AtomicBool::new(false),
        };
        let named = dir.path().join("named");
        std::fs::create_dir(&named).unwrap();
        for (name, text) in [
            ("a", ""),
            ("b", ""),
            (".dockerignore", "a\n"),
            ("Dockerfile.dockerignore", "b\n"),
        ] {
            std::fs::write(named.join(name), text).unwrap();
        }
        let files = ContextFiles::open_named(&NamedContext::Directory(named), &fetcher)
            .unwrap()
            .unwrap();
        let found = |name: &str| crate::tree::select(&files.root, name, files.filter()).is_ok();
        assert_eq!((found("a"), found("b")), (false, true));
        let image = NamedContext::Image("busybox".parse().unwrap());
        assert!(ContextFiles::open_named(&image, &fetcher).unwrap().is_none());
        let remote = NamedContext::Remote("http://host/x".to_owned());
        let error = ContextFiles::open_named(&remote, &fetcher)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "failed to fetch http://host/x: no network");
    }
}
