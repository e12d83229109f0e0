//! What can go wrong in the store.

use std::path::{Path, PathBuf};

use crate::digest::{DiffId, Digest};
use crate::reference::{ReferenceError, RepoName, Tag};

/// Error of the store. Texts read well after "failed to …: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No name, digest or id prefix matches.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// More than one image id starts with the given prefix.
    #[error("ambiguous id prefix {0}")]
    Ambiguous(String),
    /// The bytes are not what their digest says.
    #[error("digest mismatch: expected {expected}, got {got}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        got: Digest,
    },
    /// The blob is not in the store.
    #[error("no such blob: {0}")]
    NoSuchBlob(Digest),
    /// The manifest is not in the repository.
    #[error("no such manifest: {0}")]
    NoSuchManifest(Digest),
    /// The layer is not in the store.
    #[error("no such layer: {0}")]
    NoSuchLayer(DiffId),
    /// The tag is not in the repository.
    #[error("no such tag: {0}:{1}")]
    NoSuchTag(RepoName, Tag),
    /// The text is neither an image name nor an id.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A blob is larger than the caller allows it to be in memory.
    #[error("blob {digest} has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest or config does not have the form its media type asks for.
    #[error("invalid manifest: {0}")]
    InvalidManifest(String),
    /// An image cannot be run here: no config, wrong kind, or no child for this platform.
    #[error("image {id} is not runnable here: {reason}")]
    NotRunnable {
        /// What the name points to.
        id: Digest,
        /// Why.
        reason: String,
    },
    /// An entry of a layer archive is refused.
    #[error("invalid archive: entry {entry:?}: {reason}")]
    Entry {
        /// Name of the entry, lossily decoded.
        entry: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A layer archive is broken as a whole: truncated, no tar, unknown compression, over a limit.
    #[error("invalid archive: {0}")]
    Archive(String),
    /// A tree cannot be written as a layer archive.
    #[error("cannot make a layer of {path}: {reason}")]
    Tree {
        /// Path inside the tree.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something that the store wrote is not as it was written.
    #[error("store is damaged: {0}")]
    Damaged(String),
    /// The directory holds a store of another format.
    #[error("{root}: unsupported store format {found:?}: this version reads {expected:?}")]
    Format {
        /// The store directory.
        root: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The directory holds a store whose files belong to other ids than this process has.
    #[error(
        "{root}: the store was made with the ids {found:?} of a user namespace, but here they are {here:?}"
    )]
    Ids {
        /// The store directory.
        root: PathBuf,
        /// What its `ids` file says; empty for a store of root's.
        found: String,
        /// What it would say here.
        here: String,
    },
    /// The index failed.
    #[error("{path}: {source}")]
    Index {
        /// The database file.
        path: PathBuf,
        /// SQLite's error.
        source: rusqlite::Error,
    },
    /// A system call failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Result with the store's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: impl AsRef<Path>, source: impl Into<std::io::Error>) -> Self {
        Self::Io {
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn entry(name: &[u8], reason: impl Into<String>) -> Self {
        Self::Entry {
            entry: String::from_utf8_lossy(name).into_owned(),
            reason: reason.into(),
        }
    }

    /// Whether the cause is a full disk (or quota).
    pub fn is_no_space(&self) -> bool {
        let Self::Io { source, .. } = self else {
            return false;
        };
        matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { path, source } => Self::new(source.kind(), format!("{}: {source}", path.display())),
            other => Self::new(std::io::ErrorKind::InvalidData, other),
        }
    }
}

/// Adds the path to a system error.
pub(crate) trait IoContext<T> {
    fn at(self, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> IoContext<T> for std::result::Result<T, E> {
    fn at(self, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::io(path, source))
    }
}
