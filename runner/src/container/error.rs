//! What can go wrong with containers.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::init::SetupError;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container (or exec) has this id or name.
    #[error("no such container: {0}")]
    NotFound(String),
    /// Several containers' ids start with this.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The operation needs another state.
    #[error("container {id} is {state}")]
    State {
        /// The container or exec.
        id: String,
        /// Its state, in Docker's words.
        state: String,
    },
    /// Name taken.
    #[error("name {name} is in use by container {holder}")]
    NameInUse {
        /// The name.
        name: String,
        /// Id of the container that has it.
        holder: String,
    },
    /// Not a name by Docker's rule.
    #[error("invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// Not 64 hex digits.
    #[error("invalid container id {0:?}")]
    InvalidId(String),
    /// The process could not be started; kind drives Docker's exit codes 126/127.
    #[error("{message}")]
    Start {
        /// Why.
        kind: StartErrorKind,
        /// In runc's words.
        message: String,
    },
    /// The supervisor refused a request or could not do it.
    #[error("{0}")]
    Supervisor(String),
    /// A file or system call failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A file holds something else than what its format says.
    #[error("parse {}: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl From<SetupError> for Error {
    fn from(error: SetupError) -> Self {
        Self::Start {
            kind: error.kind,
            message: error.message,
        }
    }
}

/// Why a process did not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartErrorKind {
    /// The program does not exist.
    NotFound,
    /// It exists and cannot be executed.
    NotExecutable,
    /// Anything else.
    Other,
}

impl StartErrorKind {
    /// The exit code Docker gives a container that did not start: 127, 126 or 128.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            Self::Other => 128,
        }
    }
}

/// Says what failed on which file.
pub(super) trait Context<T> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|error| Error::Io {
            action,
            path: path.into(),
            source: error.into(),
        })
    }
}
