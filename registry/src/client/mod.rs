//! Pull from and push to other registries, straight into and out of a [`Store`](crate::store::Store).
//!
//! One [`Client`] per store and configuration; it is cheap to clone and keeps bearer tokens between calls. Blobs stream
//! through fixed buffers; file work happens on blocking threads. Every blob and manifest is verified against its digest
//! and size before anything names it, and a broken transfer continues where it stopped.
//!
//! Protocol: distribution-spec 1.1; tokens as in distribution's `docs/content/spec/auth` (GET with scopes, and POST
//! `refresh_token` for identity tokens). Authorization never follows a redirect to another origin.

mod auth;
mod challenge;
mod credentials;
mod document;
mod download;
mod endpoint;
mod error;
mod fetch;
mod http;
mod platform;
mod progress;
mod pull;
mod push;
mod retry;
mod upload;

pub use credentials::{Credentials, credentials_for};
pub use error::Error;
pub use progress::Progress;
pub use pull::Client;

/// How to talk to registries.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// Hosts (`host` or `host:port`) reached by unverified TLS or plain http. Loopback hosts always are, as in Docker.
    pub insecure: Vec<String>,
    /// Base URLs asked first for images of docker.io (dockerd's `registry-mirrors`); the registry itself comes last.
    pub mirrors: Vec<String>,
    /// Blobs downloaded at once; 3 if not set.
    pub max_concurrent_downloads: Option<usize>,
}
