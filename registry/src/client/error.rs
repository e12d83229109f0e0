//! What can go wrong between us and a registry.

use crate::digest::Digest;
use crate::store;

/// Why a pull or push failed. Texts never carry credentials or tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry cannot be reached at all.
    #[error("cannot reach registry {host}: {cause}")]
    Unreachable {
        /// Host and port as in the reference.
        host: String,
        /// The innermost cause: refused, timed out, unknown host, bad certificate.
        cause: String,
    },
    /// The connection broke, again and again.
    #[error("{host}{path}: connection broke {attempts} times: {cause}")]
    Broken {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// How often it was tried.
        attempts: u32,
        /// The last cause.
        cause: String,
    },
    /// The registry wants other credentials, or any.
    #[error("{host}{path}: authentication required: {detail}")]
    Unauthorized {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// What the registry or its token service said.
        detail: String,
    },
    /// The credentials do not allow it (403).
    #[error("{host}{path}: access denied: {detail}")]
    Denied {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// What the registry said.
        detail: String,
    },
    /// The registry does not have it (404).
    #[error("{host}{path}: not found: {detail}")]
    NotFound {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// What the registry said.
        detail: String,
    },
    /// Any other answer that is no success.
    #[error("{host}{path}: unexpected status {status}: {detail}")]
    Status {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        detail: String,
    },
    /// An answer that breaks the protocol.
    #[error("{host}{path}: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bytes are not what the digest says.
    #[error("{host}{path}: digest mismatch: expected {expected}, got {got}")]
    DigestMismatch {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        got: Digest,
    },
    /// The size is not what the descriptor says.
    #[error("{host}{path}: size mismatch: expected {expected} bytes, got {got}")]
    SizeMismatch {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// Bytes by the descriptor.
        expected: u64,
        /// Bytes that came, or that the registry announced.
        got: u64,
    },
    /// A manifest beyond 4 MiB.
    #[error("{host}{path}: manifest is larger than {limit} bytes")]
    ManifestTooLarge {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// Docker's schema 1, dead since 2024 in every engine.
    #[error("{host}{path}: manifest schema 1 is not supported; push the image again with a current client")]
    Schema1 {
        /// Host and port.
        host: String,
        /// URL path.
        path: String,
    },
    /// A manifest that cannot be read.
    #[error("manifest {digest} is invalid: {reason}")]
    Manifest {
        /// Digest of the manifest.
        digest: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// An index without the wanted platform.
    #[error("{name} has no image for platform {wanted}; available: {available}")]
    NoPlatform {
        /// The image.
        name: String,
        /// The platform asked for.
        wanted: String,
        /// Those that the index lists.
        available: String,
    },
    /// The image to push is not in the store.
    #[error("no such image in the local store: {0}")]
    NotLocal(String),
    /// The image to push lacks parts.
    #[error("cannot push {name}: {digest} is not in the local store")]
    Incomplete {
        /// The image.
        name: String,
        /// The missing blob or manifest.
        digest: Digest,
    },
    /// docker's config.json or a credential helper failed.
    #[error("cannot read the credentials for {domain}: {reason}")]
    Credentials {
        /// The registry they are for.
        domain: String,
        /// What failed.
        reason: String,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The innermost cause of an error: where reqwest says "error sending request", this says "connection refused".
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
