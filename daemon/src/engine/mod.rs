//! The engine as a library: the store, the containers and what this crate keeps about them.

mod bases;
mod builder_gc;
mod containers;
mod metadata;
mod open;
mod registries;
mod usage;

pub(crate) use bases::PullingBases;
pub(crate) use containers::is_running;
pub(crate) use metadata::{METADATA_FILE, Metadata};
pub use open::{Engine, EngineConfig, EngineError};
pub(crate) use registries::RemoteRegistries;
pub(crate) use usage::disk_bytes;
