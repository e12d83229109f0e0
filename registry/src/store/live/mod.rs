//! Trees that are in use, as archives and copies: what `docker cp`, `docker export` and `docker commit` move.
//!
//! Unlike a layer's tree, such a tree may change at any moment, and by the hands of somebody hostile. Every step is
//! relative to an open directory; nothing is opened for reading before it is known to be a regular file; what vanishes is left
//! out, and what shrinks while it is read is filled up with zeros.

mod copy;
mod extract;
mod node;
mod pack;

pub use extract::{Extract, Owner, extract};
pub use pack::{pack_directory, pack_entry};
