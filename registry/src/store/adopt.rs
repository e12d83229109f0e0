//! Layers that another store made, taken over as if they had been made here.

use std::io::Read;
use std::path::PathBuf;

use super::blobs::open_dir;
use super::error::{Error, Result};
use super::handle::Store;
use super::layers::LayerRecord;
use super::layout::LayerKey;
use super::lock::FileLock;
use super::tar::blob::hash_tree;
use super::types::Layer;
use super::unpack::{Options, unpack};
use crate::digest::DiffId;

impl Store {
    /// Where the tree of a layer is, or will be once it is here.
    pub fn layer_tree(&self, diff_id: &DiffId) -> PathBuf {
        self.inner
            .layout
            .layer(&LayerKey::Diff(diff_id.clone()))
            .join("tree")
    }

    /// Unpacks the archive (plain, gzip or zstd) of a layer that a store like this one made. The tree is then all that is
    /// kept: it gives the same archive again. It may have up to `size` bytes uncompressed, so that what is said to be small
    /// cannot fill the disk. Nothing happens if the layer is here already. Lease it first.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] if the archive is not that of `diff_id`; [`Error::Archive`] if it leans on layers below
    /// it or is not in this store's form; [`Error::Entry`] for hostile entries. Nothing is left behind then.
    pub fn adopt_layer(&self, archive: &mut dyn Read, diff_id: &DiffId, size: u64) -> Result<Layer> {
        let key = LayerKey::Diff(diff_id.clone());
        let lock = FileLock::exclusive(&self.inner.layout.layer_lock(&key))?;
        if let Some(record) = self.load_layer(&key)? {
            return Ok(self.layer_of(&key, record));
        }
        let snapshot = self.new_snapshot()?;
        let mut limits = self.inner.limits.clone();
        limits.max_bytes = limits.max_bytes.min(size);
        let options = Options {
            limits: &limits,
            algorithm: diff_id.0.algorithm(),
            lowers: None,
            import: false,
        };
        let unpacked = unpack(archive, open_dir(&snapshot.upper())?, options)?;
        let mismatch = |got| Error::DigestMismatch {
            expected: diff_id.0.clone(),
            got,
        };
        if unpacked.digest != diff_id.0 {
            return Err(mismatch(unpacked.digest));
        }
        if unpacked.dependent {
            return Err(Error::Archive(format!(
                "layer {diff_id} leans on layers below it"
            )));
        }
        let stage = snapshot.stage()?;
        let (digest, size) = hash_tree(open_dir(&stage.join("tree"))?, diff_id.0.algorithm(), None)?;
        if digest != diff_id.0 {
            return Err(Error::Archive(format!(
                "layer {diff_id} is not in the form in which layers are made here"
            )));
        }
        let record = LayerRecord::new(diff_id.clone(), size, true, None, self.boot_id()?.to_owned());
        self.publish_layer(&snapshot, &key, &record)?;
        lock.remove()?;
        Ok(self.layer_of(&key, record))
    }
}
