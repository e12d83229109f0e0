//! The build cache: what a step's result depends on, and where results are remembered.
//!
//! A key is the hash of everything a step's result depends on: the ChainID of the layers it starts from, what it does, and
//! the contents it reads. Keys therefore hold across stages, builds, tags and clients. Records live in the store
//! ([`cooper_registry::store::Store::cache_put`]) under `step/v1/<sha256>`; their value is JSON with a `version` (now 1),
//! readers take another version for a miss; their description is the instruction, then the parts of the key, one a line,
//! so that two builds can be compared.

mod clean;
mod flight;
mod key;
mod record;
mod remote;

pub use clean::{
    CacheItem, CacheKind, Filter, FilterError, GcPolicy, Limits, Prune, Pruned, collect_after_build, items,
    prune,
};
pub(crate) use flight::Flight;
pub(crate) use key::Key;
pub(crate) use record::{look_up, remember};
pub(crate) use remote::{RemoteCache, embed, export};
