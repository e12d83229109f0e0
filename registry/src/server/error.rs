//! Error answers (distribution-spec, "Error Codes").

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::digest::{Digest, DigestError};
use crate::reference::ReferenceError;
use crate::store;

/// The spec's error codes and the three that Docker's registry adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unsupported,
    TagInvalid,
    PaginationNumberInvalid,
    Unknown,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unsupported => "UNSUPPORTED",
            Self::TagInvalid => "TAG_INVALID",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// One entry of `errors`.
#[derive(Debug)]
struct Entry {
    code: Code,
    message: String,
    detail: Value,
}

/// An error answer: a status, at least one entry, and headers that go with it.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    entries: Vec<Entry>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        let entry = Entry {
            code,
            message: message.into(),
            detail: Value::Null,
        };
        Self {
            status,
            entries: vec![entry],
            headers: Vec::new(),
        }
    }

    fn with_detail(mut self, detail: Value) -> Self {
        if let Some(entry) = self.entries.last_mut() {
            entry.detail = detail;
        }
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn no_endpoint() -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::NameUnknown, "no such endpoint")
    }

    pub(super) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            Code::Unsupported,
            "the operation is unsupported",
        )
    }

    pub(super) fn name(name: &str, source: &ReferenceError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::NameInvalid, source.to_string())
            .with_detail(json!({ "name": name }))
    }

    pub(super) fn name_unknown(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Code::NameUnknown,
            "repository name not known to registry",
        )
        .with_detail(json!({ "name": name }))
    }

    pub(super) fn tag(source: &ReferenceError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::TagInvalid, source.to_string())
    }

    pub(super) fn digest(source: &DigestError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, source.to_string())
    }

    pub(super) fn digest_mismatch(expected: &Digest, got: &Digest) -> Self {
        let message = "provided digest did not match uploaded content";
        Self::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, message)
            .with_detail(json!({ "expected": expected, "got": got }))
    }

    pub(super) fn blob_unknown(digest: &Digest) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Code::BlobUnknown,
            "blob unknown to registry",
        )
        .with_detail(json!({ "digest": digest }))
    }

    pub(super) fn upload_unknown() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            Code::BlobUploadUnknown,
            "blob upload unknown to registry",
        )
    }

    pub(super) fn manifest_unknown(reference: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, Code::ManifestUnknown, "manifest unknown")
            .with_detail(json!({ "reference": reference }))
    }

    pub(super) fn manifest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, message)
    }

    pub(super) fn manifest_too_large(limit: usize) -> Self {
        let message = format!("manifest is larger than {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
    }

    /// The blobs that a pushed manifest names and its repository does not hold; one entry each.
    pub(super) fn manifest_blobs_unknown(missing: &[Digest]) -> Self {
        let entries = missing.iter().map(|digest| Entry {
            code: Code::ManifestBlobUnknown,
            message: "manifest references a blob unknown to the repository".to_owned(),
            detail: json!({ "digest": digest }),
        });
        Self {
            status: StatusCode::BAD_REQUEST,
            entries: entries.collect(),
            headers: Vec::new(),
        }
    }

    pub(super) fn page_size(text: &str) -> Self {
        let message = "invalid number of results requested";
        Self::new(StatusCode::BAD_REQUEST, Code::PaginationNumberInvalid, message)
            .with_detail(json!({ "n": text }))
    }

    /// Something of ours broke; the cause goes to the log, not to the client.
    pub(super) fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!("registry request failed: {cause}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unknown,
            "internal error, see the registry's log",
        )
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::NoSuchBlob(digest) => Self::blob_unknown(digest),
            store::Error::DigestMismatch { expected, got } => Self::digest_mismatch(expected, got),
            full if full.is_no_space() => {
                tracing::error!("registry request failed: {error}");
                let message = "no space left in the registry's storage";
                Self::new(StatusCode::INSUFFICIENT_STORAGE, Code::Unknown, message)
            }
            store::Error::InvalidManifest(reason) => Self::manifest_invalid(reason),
            _ => Self::internal(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let errors = self.entries.iter().map(
            |entry| json!({ "code": entry.code.as_str(), "message": entry.message, "detail": entry.detail }),
        );
        let body = json!({ "errors": errors.collect::<Vec<_>>() }).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
