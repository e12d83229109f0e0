//! The handle on a store.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::error::{IoContext, Result};
use super::index::Index;
use super::layout::{LayerKey, Layout, random_id};
use super::lock::FileLock;
use super::unpack::UnpackLimits;
use crate::digest::Hasher;

/// Handle on a store directory; cheap to clone, safe to use from several threads; several processes may hold one.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

/// Hash states of suspended ingests that this process has seen, by id: bytes hashed so far and the state.
pub(super) type HashStates = HashMap<String, (u64, Hasher)>;

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) layout: Layout,
    pub(super) index: Index,
    pub(super) limits: UnpackLimits,
    pub(super) hash_states: Mutex<HashStates>,
    /// Layers that this handle published since the last [`Store::sync`].
    pub(super) unsynced: Mutex<Vec<LayerKey>>,
    /// Id and lock of the lease file that says that this handle lives; made by [`Store::session`].
    session: Mutex<Option<(String, FileLock)>>,
    boot_id: OnceLock<String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let session = self.session.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, lock)) = session.take()
            && let Err(error) = lock.remove()
        {
            // The next collection finds it dead.
            tracing::warn!(lease = %id, %error, "cannot remove a lease file");
        }
    }
}

impl Store {
    /// Opens the store at `root`, making one if there is none. Does not open the index: that happens at first use.
    ///
    /// # Errors
    /// [`Error::Format`](super::Error::Format) if the directory holds a store of another version.
    pub fn open(root: &Path) -> Result<Self> {
        Self::open_with(root, UnpackLimits::default())
    }

    /// [`Store::open`] with other bounds on what layers may unpack to.
    pub fn open_with(root: &Path, limits: UnpackLimits) -> Result<Self> {
        let root = std::path::absolute(root).at(root)?;
        let layout = Layout::open(&root)?;
        let index = Index::new(layout.index());
        let inner = Inner {
            layout,
            index,
            limits,
            hash_states: Mutex::default(),
            unsynced: Mutex::default(),
            session: Mutex::default(),
            boot_id: OnceLock::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The store directory.
    pub fn root(&self) -> &Path {
        &self.inner.layout.root
    }

    /// Held while something is published together with the row that keeps it alive: a collection sees both or neither.
    pub(super) fn publishing(&self) -> Result<FileLock> {
        FileLock::shared(&self.inner.layout.gc_lock())
    }

    /// Id of the lease that lasts as long as this handle. The caller holds the publishing lock.
    pub(super) fn session(&self) -> Result<String> {
        let mut session = self.inner.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = &*session {
            return Ok(id.clone());
        }
        let id = random_id()?;
        let lock = FileLock::exclusive(&self.inner.layout.dir("leases").join(&id))?;
        *session = Some((id.clone(), lock));
        Ok(id)
    }

    /// The kernel's id of this boot.
    pub(super) fn boot_id(&self) -> Result<&str> {
        if let Some(id) = self.inner.boot_id.get() {
            return Ok(id);
        }
        let path = "/proc/sys/kernel/random/boot_id";
        let id = std::fs::read_to_string(path).at(path)?.trim().to_owned();
        Ok(self.inner.boot_id.get_or_init(|| id))
    }
}
