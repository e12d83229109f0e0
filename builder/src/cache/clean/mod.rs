//! How much the build cache takes, and making it smaller.
//!
//! What is counted: the store's records with their layers, and cache mounts. A record that an image shares layers with is
//! `shared`: removing it frees nothing while the image is there. What a running build or container uses is `in_use` and is
//! never removed. Semantics of filters and limits are those of BuildKit 0.26 (`cache/manager.go`: `pruneOnce`,
//! `calculateKeepBytes`) behind dockerd 28.

mod filter;
mod item;
mod limits;
mod policy;
mod prune;

pub use filter::{Filter, FilterError};
pub use item::{CacheItem, CacheKind, items};
pub use limits::Limits;
pub use policy::{GcPolicy, collect_after_build};
pub use prune::{Prune, Pruned, prune};
