//! The build cache: what a step's result depends on, and where results are remembered.
//!
//! A key is the hash of everything a step's result depends on: the ChainID of the layers it starts from, what it does, and
//! the contents it reads. Keys therefore hold across stages, builds, tags and clients. Records live in the store
//! ([`cooper_registry::store::Store::cache_put`]) under `step/v1/<sha256>`; their value is JSON with a `version` (now 1),
//! readers take another version for a miss; their description is the step's name and, for lists of the cache, what it began with.
//!
//! What a key was made of is kept beside the records as notes of the store (`preimage`), and so is which keys the steps of a
//! Dockerfile had last time (`journal`). From both comes the answer to "why was this not cached?" (`explain`): the key that
//! was not found is compared part by part and file by file with that of the same step before. Notes outlive records, so
//! that a result which a collection took is told from one that never was; and they are never needed to find a result.

mod cause;
mod clean;
mod explain;
mod files;
mod flight;
mod journal;
mod key;
mod preimage;
mod record;
mod remote;

pub use cause::{Cause, FileChange, render_causes};
pub use clean::{
    CacheItem, CacheKind, Filter, FilterError, GcPolicy, Limits, Prune, Pruned, collect_after_build, items,
    prune,
};
pub(crate) use explain::explain;
pub(crate) use files::{Fact, FileList, fingerprint};
pub(crate) use flight::board;
pub(crate) use journal::{End, Journal};
pub(crate) use key::Key;
pub(crate) use preimage::About;
pub(crate) use record::{Found, Made, keep_pre_image, look_up, remember};
pub(crate) use remote::{RemoteCache, embed, export};
