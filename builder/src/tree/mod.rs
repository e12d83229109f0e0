//! File trees by handle: resolving paths inside a root, mounting layers, selecting, hashing and copying files.
//!
//! Nothing here opens a path that came from a Dockerfile, a context or an image other than relative to a root handle, one
//! component at a time, never through a symbolic link that the kernel would follow out of the root.

mod ahead;
mod compare;
mod copy;
mod data;
mod entry;
mod overlay;
mod owner;
mod parents;
mod resolve;
mod select;

pub(crate) use compare::compare_trees;
pub(crate) use copy::{Copier, CopyOptions};
pub(crate) use data::{DataDigest, hash_directory, hash_file};
pub(crate) use entry::{Entry, FileKind, RootHandle};
pub(crate) use overlay::{mount_readonly, mount_writable};
pub(crate) use owner::{Owner, lookup_owner};
pub(crate) use parents::{Touched, only_modified};
pub(crate) use resolve::resolve;
pub(crate) use select::{Filter, Selection, select};
