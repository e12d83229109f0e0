//! Why a build failed.

use std::path::{Path, PathBuf};

use cooper_registry::store;
use rustix::io::Errno;

/// Why there is no image. What a step had made is removed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Dockerfile is wrong or asks for something that is not supported; rendered with file, line, excerpt and caret.
    #[error("{0}")]
    Dockerfile(String),
    /// There is no Dockerfile, or it cannot be read.
    #[error("failed to read dockerfile: open {name}: {reason}")]
    NoDockerfile {
        /// Its path in the context.
        name: String,
        /// The system's reason.
        reason: String,
    },
    /// The `.dockerignore` file is malformed.
    #[error("read {name}: {reason}")]
    Ignore {
        /// The file.
        name: String,
        /// Line and fault.
        reason: String,
    },
    /// A base image is not to be had.
    #[error("{excerpt}")]
    Base {
        /// The image.
        name: String,
        /// What [`super::BaseImages::resolve`] said.
        message: String,
        /// The message with the place in the Dockerfile.
        excerpt: String,
    },
    /// The process of a RUN failed.
    #[error("process {command:?} did not complete successfully: exit code: {code}")]
    Run {
        /// Its command line, joined by blanks.
        command: String,
        /// Its exit code.
        code: i32,
        /// The last lines of its output, and its place in the Dockerfile.
        excerpt: String,
    },
    /// A step other than a process failed; rendered with file, line and caret.
    #[error("{excerpt}")]
    Step {
        /// The message with the place in the Dockerfile.
        excerpt: String,
        /// What went wrong.
        #[source]
        source: Box<Self>,
    },
    /// A source of COPY or ADD does not exist.
    #[error("{0:?}: not found")]
    SourceNotFound(String),
    /// Something about the files to copy.
    #[error("{0}")]
    Source(String),
    /// A file of the context, of an image or of a step's root file system.
    #[error("/{path}: {}", reason(*errno))]
    File {
        /// Its path in its root.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// A system call that is not about one file.
    #[error("{doing}: {}", reason(*errno))]
    System {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// The sandbox could not run a process.
    #[error(transparent)]
    Sandbox(#[from] cooper_runner::container::Error),
    /// The layers of a root file system could not be mounted.
    #[error(transparent)]
    Overlay(#[from] cooper_runner::overlay::OverlayError),
    /// The image is in the store, and a registry did not take it.
    #[error("{0}")]
    Push(String),
    /// A cache from elsewhere did not give what it promised; the build begins again without it.
    #[error("a cache did not give what it promised")]
    CacheLost,
    /// The cache could not be written to where the request wants it.
    #[error("failed to export the cache to {place}: {reason}")]
    CacheExport {
        /// Where to.
        place: String,
        /// Why not.
        reason: String,
    },
    /// Cancelled by the caller.
    #[error("build cancelled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Something that cannot happen did.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::Internal(message.into())
    }

    pub(crate) fn io(path: &Path, error: &std::io::Error) -> Self {
        let path = path.strip_prefix("/").unwrap_or(path).to_owned();
        Self::File {
            path,
            errno: Errno::from_io_error(error).unwrap_or(Errno::IO),
        }
    }
}

/// The system's text for an error number, in Go's lower-case spelling.
pub(crate) fn reason(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_lowercase().chain(chars).collect())
        .unwrap_or_default()
}

/// Says what a failed system call was about.
pub(crate) trait IoContext<T> {
    /// A file.
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error>;
    /// An action.
    fn doing(self, what: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<Errno>> IoContext<T> for Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> Result<T, Error> {
        self.map_err(|errno| {
            let path = path.as_ref();
            Error::File {
                path: path.strip_prefix("/").unwrap_or(path).to_owned(),
                errno: errno.into(),
            }
        })
    }

    fn doing(self, what: &'static str) -> Result<T, Error> {
        self.map_err(|errno| Error::System {
            doing: what,
            errno: errno.into(),
        })
    }
}
