//! The one table from the rooms' errors to HTTP statuses and Docker's wording.
//!
//! Clients compute exit codes from these texts (docker's CLI: 127 for "executable file not found", 126 for "permission
//! denied"), so they are part of the interface.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use cooper_registry::reference::ReferenceError;
use cooper_registry::{client, store};
use cooper_runner::container::{self, StartErrorKind};

use crate::api;
use crate::engine::EngineError;

/// A failed request: status and the text after "Error response from daemon:".
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

pub(crate) type ApiResult<T = Response> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Something Docker can do and this engine cannot yet; `what` is a subject with its verb's complement missing.
    pub(crate) fn unavailable(what: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not implemented by this engine yet"),
        )
    }

    pub(crate) fn no_such_container(name: &str) -> Self {
        Self::not_found(format!("No such container: {name}"))
    }

    pub(crate) fn no_such_image(name: &str) -> Self {
        Self::not_found(format!("No such image: {name}"))
    }

    pub(crate) fn not_running(id: &str) -> Self {
        Self::conflict(format!("container {id} is not running"))
    }

    /// `context: message`, same status.
    pub(crate) fn context(mut self, context: impl std::fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        json(
            self.status,
            &api::ErrorResponse {
                message: self.message,
            },
        )
    }
}

/// A JSON answer as Go's encoder writes it: with a newline at the end.
pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let mut bytes = match serde_json::to_vec(value) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "cannot encode an answer");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    bytes.push(b'\n');
    (
        status,
        [(header::CONTENT_TYPE, "application/json")],
        Body::from(bytes),
    )
        .into_response()
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<ReferenceError> for ApiError {
    fn from(error: ReferenceError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::NoSuchImage(name) => Self::no_such_image(name),
            store::Error::Ambiguous(_) => Self::bad(error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }
}

impl From<client::Error> for ApiError {
    fn from(error: client::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<container::Error> for ApiError {
    fn from(error: container::Error) -> Self {
        match &error {
            container::Error::NotFound(id) => Self::no_such_container(id),
            container::Error::State { .. } => Self::conflict(error.to_string()),
            container::Error::NameInUse { name, holder } => Self::conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            )),
            container::Error::Start { kind, message } => {
                let status = match kind {
                    StartErrorKind::NotFound | StartErrorKind::NotExecutable => StatusCode::BAD_REQUEST,
                    StartErrorKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
                };
                Self::new(status, start_message(*kind, message))
            }
            container::Error::Ambiguous(_) | container::Error::InvalidId(_) => Self::bad(error.to_string()),
            container::Error::InvalidName(name) => Self::bad(format!(
                "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            )),
            _ => Self::internal(error.to_string()),
        }
    }
}

/// The runner's message with the words that clients look for.
pub(crate) fn start_message(kind: StartErrorKind, message: &str) -> String {
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match kind {
        StartErrorKind::NotFound if !has(&["executable file not found", "no such file or directory"]) => {
            format!("{message}: executable file not found in $PATH")
        }
        StartErrorKind::NotExecutable if !has(&["permission denied"]) => {
            format!("{message}: permission denied")
        }
        _ => message.to_owned(),
    }
}
