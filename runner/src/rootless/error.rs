//! Why an unprivileged user cannot be served.

use std::io;
use std::path::PathBuf;

/// What is missing for a user namespace, or broken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootlessError {
    /// The kernel makes no user namespaces, for a reason that it tells.
    #[error("create a user namespace: {}: {reason}", crate::init::errno_text(source))]
    Forbidden {
        /// The setting that forbids it, with its value.
        reason: String,
        /// What unshare(2) says.
        source: io::Error,
    },
    /// A program that writes mappings is not installed.
    #[error("map the ids that /etc/subuid gives: {program} is not in PATH")]
    NoMapper {
        /// `newuidmap` or `newgidmap`.
        program: &'static str,
    },
    /// A program that writes mappings has refused.
    #[error("{command}: {message}")]
    Mapper {
        /// What was run.
        command: String,
        /// What it printed, or how it ended.
        message: String,
    },
    /// A run-time directory that others could have prepared.
    #[error("use {}: {problem}", path.display())]
    RuntimeDir {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// There is no place for the user's images.
    #[error("find the home directory of user {0}: HOME is not set and /etc/passwd has no entry")]
    NoHome(u32),
    /// A system call on the way failed.
    #[error("{action}: {}", crate::init::errno_text(source))]
    System {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl RootlessError {
    /// For `map_err`: what was tried when a system call failed.
    pub(super) fn system<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Self {
        let action = action.into();
        move |error| Self::System {
            action,
            source: error.into(),
        }
    }

    /// Whether the program that is missing comes with the package `uidmap`.
    pub fn lacks_uidmap(&self) -> bool {
        matches!(self, Self::NoMapper { .. })
    }
}
