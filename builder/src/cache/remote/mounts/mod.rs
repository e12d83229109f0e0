//! Contents of cache mounts, on their way out and in.
//!
//! # Form
//! The regular files of a mount, in the order of a walk by name, are one stream of bytes, cut into packs of some MiB; an
//! index lists the files with their owners, modes and times, and the packs with the SHA-256 of their bytes. Cuts fall
//! behind files whose name says so (a hash of it) and every [`pack::PIECE`] bytes in large files, so that a change moves
//! the cuts around it and no others: what did not change has the same packs, which are not sent again.
//!
//! # Not reading twice
//! `mounts/v1/<key>` in the store remembers for each pack what `stat` said of its files (size, mtime, ctime, inode) when it
//! was made. Files about which it says the same, and whose last change was then older than two seconds, are not read.
//!
//! # Rules
//! A mount that exists on this machine, even an empty one, is newer than anything imported and is never touched. A mount that
//! is written to while it is read is not exported. Of two exports of the same mount the last one stays. Sockets, devices,
//! pipes and extended attributes are left out. A mount goes when no export had it for as long as any other entry, or when
//! the cache is deleted; `builder prune --filter type=exec.cachemount` removes it here.

mod listing;
mod pack;
mod read;
mod restore;

pub(super) use read::take;
pub(super) use restore::restore;

use crate::mounts::MountIdentity;

/// Media type of an index.
const INDEX_TYPE: &str = "application/vnd.cooper.cache.mount.v1+json+zstd";
/// Media type of a pack.
const PACK_TYPE: &str = "application/vnd.cooper.cache.pack.v1+zstd";

/// The name of a mount in a cache's config.
pub(super) fn name_of(identity: &MountIdentity) -> String {
    serde_json::json!([identity.namespace, identity.id, identity.origin]).to_string()
}

#[cfg(test)]
mod tests;
