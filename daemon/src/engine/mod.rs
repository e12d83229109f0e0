//! The engine as a library: the store, the containers and what this crate keeps about them.

mod bases;
mod builder_gc;
mod builds;
#[cfg(test)]
mod cache_tests;
mod containers;
mod events;
mod metadata;
mod open;
mod registries;
mod restore;
mod secrets;
mod usage;
mod web;

pub(crate) use bases::PullingBases;
pub(crate) use builds::Build;
pub(crate) use containers::is_running;
pub(crate) use events::attributes;
pub(crate) use metadata::{METADATA_FILE, Metadata};
pub use open::{Engine, EngineConfig, EngineError};
pub(crate) use registries::ClientRegistries;
pub(crate) use secrets::OfferedSecrets;
pub(crate) use usage::disk_bytes;
pub(crate) use web::EngineWeb;
