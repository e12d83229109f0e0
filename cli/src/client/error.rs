//! What can go wrong between this process and the engine.

use std::path::PathBuf;

use thiserror::Error;

/// Error of a request.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// The engine answered with an error; its own words.
    #[error("{message}")]
    Api {
        /// HTTP status.
        status: u16,
        /// `message` of the body.
        message: String,
    },
    /// Nobody answers there.
    #[error("cannot connect to the engine at {host}: {source}")]
    Connect {
        /// As given by the user.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot be opened in process.
    #[error("cannot open the store {}: {message}", path.display())]
    Open {
        /// Data root.
        path: PathBuf,
        /// The engine's error with its causes.
        message: String,
    },
    /// The connection broke or the peer does not speak HTTP.
    #[error("connection to the engine failed: {0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be expressed (a wrong host or path).
    #[error("invalid request: {0}")]
    Request(#[from] hyper::http::Error),
    /// The answer is not what the API promises.
    #[error("unexpected answer of the engine: {0}")]
    Answer(String),
}

impl ClientError {
    /// Whether the engine said that the thing does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { status: 404, .. })
    }
}

impl From<serde_json::Error> for ClientError {
    fn from(error: serde_json::Error) -> Self {
        Self::Answer(error.to_string())
    }
}
