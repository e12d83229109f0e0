//! File trees by handle: resolving paths inside a root, mounting layers, selecting and hashing files,
//! and putting the layer of a COPY together.
//!
//! Nothing here opens a path that came from a Dockerfile, a context or an image other than relative to a root handle, one
//! component at a time, never through a symbolic link that the kernel would follow out of the root.

mod ahead;
mod assemble;
mod chmod;
mod compare;
mod data;
mod entry;
mod lowers;
mod overlay;
mod owner;
mod resolve;
mod select;
mod times;

pub(crate) use assemble::{Assembly, CopyOptions, Group};
pub(crate) use chmod::Chmod;
pub(crate) use compare::compare_trees;
pub(crate) use data::{DataDigest, hash_directory, hash_file};
pub(crate) use entry::{Entry, FileKind, RootHandle, list};
pub(crate) use lowers::Lowers;
pub(crate) use overlay::mount_readonly;
pub(crate) use owner::{Owner, lookup_owner};
pub(crate) use resolve::resolve;
pub(crate) use select::{Filter, Selection, select, select_exact, select_parents};
pub(crate) use times::only_modified;
