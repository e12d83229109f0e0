//! Cache mounts: directories that `RUN --mount=type=cache` keeps between builds.
//!
//! # On disk (format 1), below the store's root
//! ```text
//! cache-mounts/                 0700
//!   format                      "cooper-cache-mounts 1\n"; another version is refused
//!   lock                        flock: held while an instance is chosen, made visible or set aside
//!   mounts/<key>/               <key> is the SHA-256 of namespace, id and origin
//!     mount.json                version, namespace, id, origin
//!     <n>/                      instances, numbered from 0; most mounts have only this one
//!       lock                    flock shared: users that share it; exclusive: its only user; mtime: last used
//!       data                    the contents: a directory, or a file where `source` names one
//!   trash/<random>/             being made or being removed; `lock` in it is held meanwhile
//! ```
//!
//! # Identity
//! As in BuildKit a mount is found by its namespace (`BUILDKIT_CACHE_MOUNT_NS`), its id and what it began with: the same
//! id with another `from`, `mode`, `uid` or `gid` is another mount, so these matter at its creation only.
//!
//! # Lock rule
//! `lock` first, then an instance's `lock`, which is only ever tried under `lock` and never waited for while that is held.
//! Nothing is copied or deleted under `lock`: new instances are filled in `trash/` and renamed into place, old ones are
//! renamed there before they are removed.
//!
//! # Crash rule
//! The kernel frees the locks of a process that dies, and its instance is used as it is by the next build: the programs
//! that write there cope with being killed, as they must anywhere. What is half made or half removed is in `trash/` with a
//! free lock and is removed by whoever opens the directory next. A `mount.json` that cannot be read (a power cut) makes its
//! mount garbage.
//!
//! A collection of the store does not touch any of this; [`CacheMounts::remove`] does, one instance at a time.

mod acquire;
mod directory;
mod identity;
mod list;
mod lock;
mod transfer;

pub(crate) use acquire::{CacheMount, Sharing};
pub use directory::CacheMounts;
pub use identity::MountIdentity;
pub use list::CacheMountInfo;
pub use transfer::{CacheMountReader, CacheMountWriter};
