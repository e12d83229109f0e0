//! Looking at cache mounts and removing them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use cooper_registry::store::disk_usage;

use super::directory::{CacheMounts, names, remove};
use super::identity::MountIdentity;
use super::lock::Lock;
use crate::build::Error;

/// One instance of a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheMountInfo {
    /// [`MountIdentity::key`], 64 hex digits.
    pub key: String,
    /// Number of the instance; more than one where private users met.
    pub instance: u32,
    /// What it is found by.
    pub identity: MountIdentity,
    /// Bytes on disk (`st_blocks`), as `du` counts them.
    pub bytes: u64,
    /// When a RUN last began or ended to use it, unix seconds.
    pub last_used: i64,
    /// A RUN, an export or an import has it now.
    pub in_use: bool,
}

impl CacheMounts {
    /// All instances, by key and number. Walks all of them for their sizes.
    ///
    /// # Errors
    /// What the file system says; instances that vanish meanwhile are left out.
    pub fn list(&self) -> Result<Vec<CacheMountInfo>, Error> {
        let mut found = Vec::new();
        for key in names(&self.mounts())? {
            let Some(identity) = self.identity(&key)? else {
                continue;
            };
            for instance in self.instances(&key)? {
                let dir = self.mount(&key).join(instance.to_string());
                let in_use = {
                    let _lock = self.lock()?;
                    if !dir.exists() {
                        continue;
                    }
                    Lock::attempt(&dir.join("lock"), false)?.is_none()
                };
                let Ok(metadata) = fs::symlink_metadata(dir.join("lock")) else {
                    continue;
                };
                found.push(CacheMountInfo {
                    key: key.clone(),
                    instance,
                    identity: identity.clone(),
                    bytes: disk_usage(&dir)?,
                    last_used: metadata.mtime(),
                    in_use,
                });
            }
        }
        Ok(found)
    }

    /// Removes an instance and gives the bytes freed; none if it is in use or not there.
    ///
    /// # Errors
    /// What the file system says; the instance is gone from the list then all the same.
    pub fn remove(&self, key: &str, instance: u32) -> Result<Option<u64>, Error> {
        // A key is a path component here.
        if key.len() != 64 || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(None);
        }
        let dir = self.mount(key).join(instance.to_string());
        let (aside, _held) = {
            let _lock = self.lock()?;
            if !dir.exists() {
                return Ok(None);
            }
            let Some(held) = Lock::attempt(&dir.join("lock"), false)? else {
                return Ok(None);
            };
            let aside = self.set_aside(&dir)?;
            if self.instances(key)?.is_empty() {
                remove(&self.mount(key))?;
            }
            (aside, held)
        };
        let bytes = disk_usage(&aside)?;
        remove(&aside)?;
        Ok(Some(bytes))
    }
}
