//! Why a process could not be set up.

use std::fmt::Display;
use std::io;

use serde::{Deserialize, Serialize};

use crate::container::StartErrorKind;

/// A set-up step that failed, as it travels from the child to the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SetupError {
    pub(crate) kind: StartErrorKind,
    pub(crate) message: String,
}

/// Result of a set-up step.
pub(crate) type Result<T> = std::result::Result<T, SetupError>;

impl SetupError {
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self {
            kind: StartErrorKind::Other,
            message: message.into(),
        }
    }
}

/// The text of an errno as C's strerror and so Docker prints it: lowercase, without Rust's "(os error N)".
pub(crate) fn errno_text(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Says what was being done when a system call failed.
pub(crate) trait Doing<T> {
    /// `action` reads after "failed to": `mount proc on /proc`.
    fn doing(self, action: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, action: impl Display) -> Result<T> {
        self.map_err(|error| SetupError::other(format!("{action}: {}", errno_text(&error.into()))))
    }
}
