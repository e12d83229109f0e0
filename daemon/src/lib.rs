//! The engine and its doors: Docker's Engine API over unix sockets and in process.
//!
//! [`Engine`] is a library over the data root; [`router`] is the API on top of it; [`in_process`] and [`serve`] are the
//! doors. Nothing lives in memory that is not on disk or in a container's supervisor, so any number of engines may work
//! on one data root, and ending one touches no container.

pub mod api;
mod engine;
mod error;
mod http;
mod routes;
mod translate;

pub use cooper_runner::rootless;
pub use cooper_runner::supervisor;
pub use engine::{Engine, EngineConfig, EngineError};
pub use http::door::in_process;
pub use http::listen::{ListenError, Listener, PidFile, serve};
pub use routes::router;

/// The engine's version, as `GET /version` reports it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What clients of `/containers/{id}/archive` need: archives of trees on their side.
pub mod files {
    pub use cooper_registry::store::live::{Extract, Owner, extract, pack_directory, pack_entry};
}

/// What clients of `POST /cooper/build` need: the request's types, the tar of a context, and what it leaves out.
pub mod build {
    pub use cooper_builder::build::{
        Annotation, AnnotationPlace, CacheExport, CacheImport, CacheLocation, CacheMode, Cause, Compression,
        CompressionKind, Context, Entitlement, Event, NamedContext, Provenance, ProvenanceMode, Request,
        Sbom, StepInfo, Target, Verification,
    };
    pub use cooper_builder::call::{Call, Report};
    pub use cooper_builder::context::tar_directory;
    pub use cooper_builder::dockerfile::nearest;
    pub use cooper_builder::ignore::Patterns;
    pub use cooper_registry::client::{Credentials, credentials_for};
    pub use cooper_registry::oci::Platform;
    pub use cooper_registry::reference::ImageRef;
    pub use cooper_runner::cgroup::Resources;
    pub use cooper_runner::spec::NetworkMode;
}

/// What clients of `GET /cooper/export` need.
pub mod export {
    pub use cooper_builder::build::{Annotation, AnnotationPlace, Compression, CompressionKind};
    pub use cooper_builder::export::{Format, WriteOptions};
    pub use cooper_registry::oci::Platform;
    pub use cooper_registry::reference::ImageRef;
}

/// Serves the engine's store as a registry over plain HTTP until `shutdown` completes.
///
/// # Errors
/// When the store cannot be opened, or the listener fails for good.
pub async fn serve_registry(
    engine: Engine,
    listener: tokio::net::TcpListener,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let store = engine.store().map_err(std::io::Error::other)?.clone();
    cooper_registry::server::serve(listener, store, shutdown).await
}
