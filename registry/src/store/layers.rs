//! Layer directories: publishing, finding, and trusting them after a reboot.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::blobs::open_dir;
use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::layout::{LayerKey, random_id, sync_dir, write_file};
use super::lock::FileLock;
use super::snapshot::Snapshot;
use super::tar::blob::hash_tree;
use super::types::Layer;
use crate::digest::{ChainId, DiffId};

/// Version of `layer.json`.
const RECORD_VERSION: u32 = 1;

/// `layer.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerRecord {
    pub(super) version: u32,
    pub(super) diff_id: DiffId,
    /// The stack it is good for, if only for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chain_id: Option<ChainId>,
    /// Size of the uncompressed archive.
    pub(super) size: u64,
    /// The tree's deterministic archive hashes to the DiffID, so the blob needs no file.
    pub(super) canonical: bool,
    /// Written back before it was published.
    pub(super) durable: bool,
    /// The kernel's boot id when it was made.
    pub(super) boot: String,
}

impl LayerRecord {
    pub(super) fn new(
        diff_id: DiffId,
        size: u64,
        canonical: bool,
        chain_id: Option<ChainId>,
        boot: String,
    ) -> Self {
        Self {
            version: RECORD_VERSION,
            diff_id,
            chain_id,
            size,
            canonical,
            durable: false,
            boot,
        }
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record of plain values always serialises")
    }
}

/// Reads `layer.json`; `None` if there is no such layer, `Some(Err)` if it cannot be understood.
pub(super) fn read_record(dir: &Path) -> Result<Option<Result<LayerRecord, String>>> {
    let path = dir.join("layer.json");
    let mut bytes = Vec::new();
    match fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(dir
                .symlink_metadata()
                .is_ok()
                .then(|| Err("layer.json is missing".to_owned())));
        }
        other => other
            .at(&path)?
            .take(64 << 10)
            .read_to_end(&mut bytes)
            .at(&path)?,
    };
    Ok(Some(match serde_json::from_slice::<LayerRecord>(&bytes) {
        Ok(record) if record.version == RECORD_VERSION => Ok(record),
        Ok(record) => Err(format!("layer.json has version {}", record.version)),
        Err(error) => Err(format!("layer.json: {error}")),
    }))
}

impl Store {
    /// A layer that does not depend on what lies below it.
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>> {
        let key = LayerKey::Diff(diff_id.clone());
        Ok(self.load_layer(&key)?.map(|record| self.layer_of(&key, record)))
    }

    /// Makes every layer that this handle has committed survive a power cut. One `syncfs`, whatever their number.
    pub fn sync(&self) -> Result<()> {
        let keys = std::mem::take(&mut *self.inner.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        let result = self.make_durable(&keys);
        if result.is_err() {
            self.inner
                .unsynced
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend(keys);
        }
        result
    }

    /// Makes those of `keys` durable that are not yet.
    pub(super) fn make_durable(&self, keys: &[LayerKey]) -> Result<()> {
        let mut pending = Vec::new();
        for key in keys {
            let dir = self.inner.layout.layer(key);
            if let Some(Ok(record)) = read_record(&dir)?
                && !record.durable
                && !dir.join("durable").exists()
            {
                pending.push(dir);
            }
        }
        if pending.is_empty() {
            return Ok(());
        }
        self.sync_file_system()?;
        pending.iter().try_for_each(|dir| mark_durable(dir))
    }

    pub(super) fn layer_of(&self, key: &LayerKey, record: LayerRecord) -> Layer {
        let tree = self.inner.layout.layer(key).join("tree");
        Layer {
            diff_id: record.diff_id,
            size: record.size,
            tree,
        }
    }

    /// The record of a layer that can be trusted. One that was not written back before a reboot is hashed first, and thrown
    /// away if it is not whole.
    pub(super) fn load_layer(&self, key: &LayerKey) -> Result<Option<LayerRecord>> {
        let dir = self.inner.layout.layer(key);
        match read_record(&dir)? {
            None => Ok(None),
            Some(Ok(record)) if record.durable || record.boot == self.boot_id()? => Ok(Some(record)),
            Some(Ok(record)) if dir.join("durable").exists() => Ok(Some(record)),
            Some(found) => self.distrust(key, &dir, found),
        }
    }

    fn distrust(
        &self,
        key: &LayerKey,
        dir: &Path,
        found: Result<LayerRecord, String>,
    ) -> Result<Option<LayerRecord>> {
        // Not the lock of who unpacks: that one may be asking.
        let lock = FileLock::exclusive(&self.inner.layout.layer_lock(key).with_extension("check"))?;
        if dir.join("durable").exists()
            && let Some(Ok(record)) = read_record(dir)?
        {
            return Ok(Some(record));
        }
        if let Ok(record) = &found
            && record.canonical
            && let Ok((digest, _)) = open_dir(&dir.join("tree"))
                .and_then(|tree| hash_tree(tree, record.diff_id.0.algorithm(), None))
            && digest == record.diff_id.0
        {
            self.sync_file_system()?;
            mark_durable(dir)?;
            return Ok(Some(record.clone()));
        }
        tracing::warn!(layer = %dir.display(), "a layer was not written completely before a reboot; it is dropped");
        self.discard(dir)?;
        lock.remove()?;
        Ok(None)
    }

    /// Takes a directory out of sight, then removes it.
    pub(super) fn discard(&self, path: &Path) -> Result<()> {
        let trash = self.inner.layout.dir("trash").join(random_id()?);
        match fs::rename(path, &trash) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.at(path)?,
        }
        super::snapshot::remove_tree(&trash)
    }

    /// Publishes the staged layer of `snapshot` under `key`; if another process was faster, its layer stays.
    pub(super) fn publish_layer(
        &self,
        snapshot: &Snapshot,
        key: &LayerKey,
        record: &LayerRecord,
    ) -> Result<()> {
        let stage = snapshot.dir().join("layer");
        write_file(&stage.join("layer.json"), &record.to_json(), record.durable)?;
        if record.durable {
            sync_dir(&stage)?;
        }
        let target = self.inner.layout.layer(key);
        let _publishing = self.publishing()?;
        if record.canonical {
            // First, because it may fail on a full disk: the layer then goes with its snapshot. A row of a layer that never
            // came means nothing and expires.
            self.mark_fresh("layer", &record.diff_id.0)?;
        }
        loop {
            match renameat_with(CWD, &stage, CWD, &target, RenameFlags::NOREPLACE) {
                Ok(()) => break,
                Err(Errno::EXIST) if self.load_layer(key)?.is_some() => break,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(Error::io(&target, error)),
            }
        }
        if record.durable {
            if let Some(parent) = target.parent() {
                sync_dir(parent)?;
            }
        } else {
            self.inner
                .unsynced
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(key.clone());
        }
        Ok(())
    }

    /// Replaces `layer.json`.
    pub(super) fn rewrite_record(&self, key: &LayerKey, record: &LayerRecord) -> Result<()> {
        let dir = self.inner.layout.layer(key);
        let temporary: PathBuf = dir.join(format!(".layer-{}", random_id()?));
        write_file(&temporary, &record.to_json(), true)?;
        let path = dir.join("layer.json");
        fs::rename(&temporary, &path).at(&path)?;
        sync_dir(&dir)
    }
}

/// The mark may be lost in a power cut (the layer is then hashed again), but is never there before the layer is.
fn mark_durable(dir: &Path) -> Result<()> {
    let path = dir.join("durable");
    match fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
    {
        // Collected meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.map(drop).at(&path),
    }
}
