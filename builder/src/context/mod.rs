//! The files a build may copy from: reading them in place, sending them to a remote daemon and receiving them there.

mod digests;
mod layout;
mod named;
mod pack;
mod source;
mod stat_table;
mod unpack;

pub(crate) use digests::DigestCache;
pub(crate) use layout::load_layout;
pub(crate) use named::{NamedContexts, OpenContext};
pub use pack::tar_directory;
pub(crate) use source::{ContextFiles, read_dockerfile};
pub use unpack::{UnpackError, UnpackLimits, untar};
