//! Contents of cache mounts for export, and mounts made of what is imported.

use std::path::{Path, PathBuf};

use super::directory::{CacheMounts, make_dir, remove};
use super::identity::MountIdentity;
use super::lock::Lock;
use crate::build::Error;

/// A cache mount held for reading. Builds that share it may come to write meanwhile; those that want it alone do not.
#[derive(Debug)]
pub struct CacheMountReader {
    identity: MountIdentity,
    data: PathBuf,
    _lock: Lock,
}

impl CacheMountReader {
    /// What it is found by.
    pub fn identity(&self) -> &MountIdentity {
        &self.identity
    }

    /// The contents: a directory, or a file. Whatever wrote them is not to be trusted: open nothing by path below it.
    pub fn data(&self) -> &Path {
        &self.data
    }
}

/// A cache mount in the making; nobody sees it before [`CacheMountWriter::commit`], and it is removed when dropped.
#[derive(Debug)]
pub struct CacheMountWriter {
    mounts: CacheMounts,
    identity: MountIdentity,
    scratch: PathBuf,
    lock: Option<Lock>,
}

impl CacheMounts {
    /// The first instance of the mount with this [`MountIdentity::key`]; none if it is not there or in use.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, key: &str) -> Result<Option<CacheMountReader>, Error> {
        let _lock = self.lock()?;
        let Some(identity) = self.identity(key)? else {
            return Ok(None);
        };
        let Some(first) = self.instances(key)?.first().copied() else {
            return Ok(None);
        };
        let dir = self.mount(key).join(first.to_string());
        let Some(lock) = Lock::attempt(&dir.join("lock"), false)? else {
            return Ok(None);
        };
        lock.share(&dir)?;
        Ok(Some(CacheMountReader {
            identity,
            data: dir.join("data"),
            _lock: lock,
        }))
    }

    /// Begins a mount with an empty directory (0755, root) for its contents; none if there is such a mount already, which
    /// is then newer than anything imported.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, identity: &MountIdentity) -> Result<Option<CacheMountWriter>, Error> {
        if !self.instances(&identity.key())?.is_empty() {
            return Ok(None);
        }
        let (scratch, lock) = self.scratch()?;
        let writer = CacheMountWriter {
            mounts: self.clone(),
            identity: identity.clone(),
            scratch,
            lock: Some(lock),
        };
        make_dir(&writer.data(), 0o755)?;
        Ok(Some(writer))
    }
}

impl CacheMountWriter {
    /// Where the contents go.
    pub fn data(&self) -> PathBuf {
        self.scratch.join("data")
    }

    /// Makes the mount visible; false if another one came first, which stays.
    ///
    /// # Errors
    /// What the file system says.
    pub fn commit(mut self) -> Result<bool, Error> {
        let _lock = self.mounts.lock()?;
        if !self.mounts.instances(&self.identity.key())?.is_empty() {
            return Ok(false);
        }
        self.mounts.place(&self.identity, &self.scratch)?;
        self.lock = None;
        Ok(true)
    }
}

impl Drop for CacheMountWriter {
    fn drop(&mut self) {
        if self.lock.is_some()
            && let Err(error) = remove(&self.scratch)
        {
            tracing::debug!(%error, "an unfinished cache mount could not be removed");
        }
    }
}
