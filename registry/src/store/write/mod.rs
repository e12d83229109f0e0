//! Writing a layer's tree and hashing its archive at once.
//!
//! The caller gives the entries in archive order, so each file is read once: what goes to the disk goes to the hash as well,
//! and nothing is read back. After each entry the file system is asked what it made of it; where that differs from what was
//! hashed (a time out of its range, an attribute it does not take, a source that shrank), the tree is hashed again at the end.

mod data;
mod writer;

pub use writer::{Attributes, LayerWriter, Node};
