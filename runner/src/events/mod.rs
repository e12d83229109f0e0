//! What happened to containers and images: a bounded log on disk that any process of the data root appends to and any can
//! follow, so that an engine sees what other engines and supervisors did.
//!
//! # Tree
//! ```text
//! <data>/.events/v1/   0700
//!   lock               flock, exclusive, by whoever appends or rotates
//!   current            one JSON object a line: Event
//!   previous           the one before, once `current` was longer than 2 MiB
//! ```
//!
//! # Locks
//! Appending is one write under the lock, so lines are whole and in the order of their times. Readers take no lock.
//!
//! # Crashes
//! A writer killed in the middle leaves a line without an end; the next one ends it. Readers leave out lines that are no
//! events. Nothing is synced: after a power cut the last lines may be missing.

mod event;
mod follow;
mod log;

pub use event::{Event, EventKind};
pub use follow::Follower;
pub use log::EventLog;
