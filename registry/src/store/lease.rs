//! Leases: what a collection must not touch.
//!
//! Rule for users: take the lease first, then look whether the thing is there. A collection that ran before is then seen as
//! "not there"; one that runs after sees the lease.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::error::Result;
use super::handle::Store;
use super::index::Durability;
use super::layout::random_id;
use super::lock::FileLock;
use crate::digest::{DiffId, Digest};

/// Keeps things from being collected while it lives.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    id: String,
    /// The lock of a temporary lease; `None` for a named one, which outlives this value.
    lock: Option<FileLock>,
    /// Layers that this value has added.
    layers: Mutex<HashSet<DiffId>>,
}

impl Lease {
    /// Keeps a blob.
    pub fn blob(&self, digest: &Digest) -> Result<()> {
        self.add("blob", digest)
    }

    /// Keeps a layer and its tree.
    pub fn layer(&self, diff_id: &DiffId) -> Result<()> {
        self.layers([diff_id])
    }

    /// Keeps layers and their trees; those that are not there are no error. One transaction, and none for what this value
    /// keeps already.
    pub fn layers<'a>(&self, diff_ids: impl IntoIterator<Item = &'a DiffId>) -> Result<()> {
        let mut held = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let missing: HashSet<&DiffId> = diff_ids.into_iter().filter(|id| !held.contains(*id)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let _publishing = self.store.publishing()?;
        self.store.inner.index.write(Durability::Normal, |tx| {
            let mut insert = tx.prepare_cached(
                "INSERT OR IGNORE INTO lease_items(lease, kind, target) VALUES (?1, 'layer', ?2)",
            )?;
            for id in &missing {
                insert.execute((&self.id, id.to_string()))?;
            }
            Ok(())
        })?;
        held.extend(missing.into_iter().cloned());
        Ok(())
    }

    /// Keeps a manifest or index with everything that it names and the trees of its layers.
    pub fn manifest(&self, digest: &Digest) -> Result<()> {
        self.add("manifest", digest)
    }

    fn add(&self, kind: &str, digest: &Digest) -> Result<()> {
        let _publishing = self.store.publishing()?;
        self.store.inner.index.write(Durability::Normal, |tx| {
            tx.prepare_cached("INSERT OR IGNORE INTO lease_items(lease, kind, target) VALUES (?1, ?2, ?3)")?
                .execute((&self.id, kind, digest.to_string()))?;
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(lock) = self.lock.take() else { return };
        let result = self.store.forget_lease(&self.id).and_then(|()| lock.remove());
        if let Err(error) = result {
            // The next collection finds it dead.
            tracing::warn!(lease = %self.id, %error, "cannot release a lease");
        }
    }
}

impl Store {
    /// A lease that ends when dropped or when its process dies.
    pub fn lease(&self) -> Result<Lease> {
        let id = random_id()?;
        let lock = FileLock::exclusive(&self.inner.layout.dir("leases").join(&id))?;
        Ok(Lease {
            store: self.clone(),
            id,
            lock: Some(lock),
            layers: Mutex::default(),
        })
    }

    /// A lease that lasts until [`Store::release_named`], e.g. `container/<id>`. Asking for the same name again adds to it.
    /// A power cut may take one of the last moments, as it may take what the lease was for; a sync here would cost every
    /// `run` several milliseconds.
    pub fn lease_named(&self, name: &str) -> Result<Lease> {
        let _publishing = self.publishing()?;
        self.inner.index.write(Durability::Normal, |tx| {
            tx.prepare_cached("INSERT OR IGNORE INTO leases(id, named) VALUES (?1, 1)")?
                .execute([name])?;
            Ok(())
        })?;
        Ok(Lease {
            store: self.clone(),
            id: name.to_owned(),
            lock: None,
            layers: Mutex::default(),
        })
    }

    /// Ends a named lease; nothing happens if there is none.
    pub fn release_named(&self, name: &str) -> Result<()> {
        self.forget_lease(name)
    }

    fn forget_lease(&self, id: &str) -> Result<()> {
        self.inner.index.write(Durability::Normal, |tx| {
            tx.prepare_cached("DELETE FROM lease_items WHERE lease = ?1")?
                .execute([id])?;
            tx.prepare_cached("DELETE FROM leases WHERE id = ?1")?
                .execute([id])?;
            Ok(())
        })
    }
}
