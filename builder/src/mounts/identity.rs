//! What a cache mount is found by.

use cooper_registry::digest::Algorithm;
use serde::{Deserialize, Serialize};

/// Identity of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MountIdentity {
    /// `BUILDKIT_CACHE_MOUNT_NS`; empty unless given.
    pub namespace: String,
    /// `id=`, or the target.
    pub id: String,
    /// What it began with, in words of the builder; empty for an empty directory of root's with mode 0755.
    pub origin: String,
}

impl MountIdentity {
    /// Name of its directory and of it in the API: 64 hex digits.
    pub fn key(&self) -> String {
        let mut hasher = Algorithm::Sha256.hasher();
        for part in [&self.namespace, &self.id, &self.origin] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finish().hex().to_owned()
    }
}
