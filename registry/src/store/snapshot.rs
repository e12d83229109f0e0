//! Scratch directories, and turning one into a layer.

use std::fs;
use std::path::{Path, PathBuf};

use super::blobs::open_dir;
use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::layers::LayerRecord;
use super::layout::{LayerKey, make_dir, random_id};
use super::lock::FileLock;
use super::tar::blob::{BlobReader, hash_tree};
use super::types::Layer;
use super::unpack::{Options, unpack};
use crate::digest::{Algorithm, DiffId};
use crate::oci::{Descriptor, media_type};

/// A writable scratch directory of a build step; removed when dropped, or swept when its owner died.
#[derive(Debug)]
pub struct Snapshot {
    dir: PathBuf,
    /// Held for life; the kernel drops it with the process.
    _lock: FileLock,
}

impl Snapshot {
    /// The directory that holds [`Snapshot::upper`] and [`Snapshot::work`]; further scratch may be put beside them.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Overlay upper, `0755 root:root` and empty at first.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// Overlay work.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Moves the upper directory to where it has its final name relative to the layer directory.
    pub(super) fn stage(&self) -> Result<PathBuf> {
        let stage = self.dir.join("layer");
        make_dir(&stage, 0o700)?;
        let tree = stage.join("tree");
        fs::rename(self.upper(), &tree).at(&tree)?;
        Ok(stage)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(path = %self.dir.display(), %error, "cannot remove a scratch directory");
        }
    }
}

/// Removes a tree; one that is gone is fine, because a collection may remove it too.
pub(super) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at(path),
    }
}

impl Store {
    /// A new scratch directory on the store's file system.
    pub fn new_snapshot(&self) -> Result<Snapshot> {
        // A collection must not see the directory before it is locked.
        let _publishing = self.publishing()?;
        let dir = self.inner.layout.dir("snapshots").join(random_id()?);
        make_dir(&dir, 0o700)?;
        let lock = FileLock::exclusive(&dir.join("lock"))?;
        let snapshot = Snapshot { dir, _lock: lock };
        make_dir(&snapshot.upper(), 0o755)?;
        make_dir(&snapshot.work(), 0o700)?;
        Ok(snapshot)
    }

    /// Turns an overlay upper directory into a layer by rename: hashes its deterministic tar in one pass (no tar is
    /// written). An empty upper gives the empty layer. Nothing may write to the upper any more: unmount first.
    /// `clamp_mtime`: later mtimes are set to it (unix seconds; SOURCE_DATE_EPOCH), in the same pass.
    ///
    /// The layer survives a crash of the process at once, a power cut only after [`Store::sync`] or [`Store::put_image`].
    ///
    /// # Errors
    /// [`Error::Tree`] for what cannot be a layer of its own: overlay redirects, names that start with `.wh.`.
    pub fn commit_snapshot(&self, snapshot: Snapshot, clamp_mtime: Option<i64>) -> Result<Layer> {
        let (digest, size) = hash_tree(open_dir(&snapshot.upper())?, Algorithm::Sha256, clamp_mtime)?;
        self.publish_hashed(snapshot, DiffId(digest), size)
    }

    /// Publishes the upper directory of `snapshot`, whose deterministic archive is known to have this digest and size.
    pub(super) fn publish_hashed(&self, snapshot: Snapshot, diff_id: DiffId, size: u64) -> Result<Layer> {
        let upper = snapshot.upper();
        let key = LayerKey::Diff(diff_id.clone());
        if let Some(record) = self.load_layer(&key)? {
            let _publishing = self.publishing()?;
            // Again under the lock: a collection may have come between.
            if self.load_layer(&key)?.is_some() {
                self.make_readable(&record, &upper)?;
                self.mark_fresh("layer", &diff_id.0)?;
                return Ok(self.layer_of(&key, record));
            }
        }
        snapshot.stage()?;
        let record = LayerRecord::new(diff_id, size, true, None, self.boot_id()?.to_owned());
        self.publish_layer(&snapshot, &key, &record)?;
        Ok(self.layer_of(&key, record))
    }

    /// The layer exists as it was pulled, perhaps with another spelling of the same files in its archive or with only its
    /// compressed form in the store. Makes sure that its DiffID can be read as a blob; `upper` is known to give it.
    fn make_readable(&self, record: &LayerRecord, upper: &Path) -> Result<()> {
        if record.canonical || self.has_blob(&record.diff_id.0)? {
            return Ok(());
        }
        let key = LayerKey::Diff(record.diff_id.clone());
        let tree = self.inner.layout.layer(&key).join("tree");
        let (digest, _) = hash_tree(open_dir(&tree)?, record.diff_id.0.algorithm(), None)?;
        if digest == record.diff_id.0 {
            return self.rewrite_record(
                &key,
                &LayerRecord {
                    canonical: true,
                    ..record.clone()
                },
            );
        }
        let mut ingest = self.ingest()?;
        let mut reader = BlobReader::new(open_dir(upper)?, record.diff_id.0.clone(), record.size, 0)?;
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            match std::io::Read::read(&mut reader, &mut buffer).at(upper)? {
                0 => break,
                got => ingest.write(&buffer[..got])?,
            }
        }
        ingest.commit(Some(&record.diff_id.0)).map(drop)
    }

    /// Unpacks a tar (plain, gzip, bzip2, xz, zstd; sniffed) as a new bottom layer in canonical form (`docker import`): the layer's
    /// DiffID is that of the deterministic archive of the result, and the incoming bytes are not kept.
    ///
    /// # Errors
    /// [`Error::Entry`] and [`Error::Archive`] for hostile or broken archives; nothing is left behind then.
    pub fn import_layer(&self, tar: &mut dyn std::io::Read) -> Result<Layer> {
        let snapshot = self.new_snapshot()?;
        let options = Options {
            limits: &self.inner.limits,
            algorithm: Algorithm::Sha256,
            lowers: None,
            import: true,
        };
        unpack(tar, open_dir(&snapshot.upper())?, options)?;
        let stage = snapshot.stage()?;
        let tree = open_dir(&stage.join("tree"))?;
        // Writing back takes as long as hashing: do both at once.
        let (hashed, synced) = std::thread::scope(|scope| {
            let sync = scope.spawn(|| self.sync_file_system());
            let hashed = hash_tree(tree, Algorithm::Sha256, None);
            let synced = sync
                .join()
                .unwrap_or_else(|_| Err(Error::Damaged("the sync thread died".into())));
            (hashed, synced)
        });
        synced?;
        let (digest, size) = hashed?;
        let diff_id = DiffId(digest);
        let key = LayerKey::Diff(diff_id.clone());
        if let Some(record) = self.load_layer(&key)? {
            let _publishing = self.publishing()?;
            if self.load_layer(&key)?.is_some() {
                self.make_readable(&record, &stage.join("tree"))?;
                self.mark_fresh("layer", &diff_id.0)?;
                return Ok(self.layer_of(&key, record));
            }
        }
        let mut record = LayerRecord::new(diff_id, size, true, None, self.boot_id()?.to_owned());
        record.durable = true;
        self.publish_layer(&snapshot, &key, &record)?;
        Ok(self.layer_of(&key, record))
    }

    /// Unpacks a tar (plain, gzip, bzip2, xz, zstd; sniffed) into the upper directory of a new snapshot, without making a
    /// layer of it: what ADD copies from.
    ///
    /// # Errors
    /// [`Error::Entry`] and [`Error::Archive`] for hostile or broken archives; nothing is left behind then.
    pub fn unpack_scratch(&self, tar: &mut dyn std::io::Read) -> Result<Snapshot> {
        let snapshot = self.new_snapshot()?;
        let options = Options {
            limits: &self.inner.limits,
            algorithm: Algorithm::Sha256,
            lowers: None,
            import: true,
        };
        unpack(tar, open_dir(&snapshot.upper())?, options)?;
        Ok(snapshot)
    }

    /// Descriptor for a layer made here (media type OCI tar).
    pub fn layer_descriptor(&self, layer: &Layer) -> Descriptor {
        Descriptor::new(media_type::OCI_LAYER, layer.diff_id.0.clone(), layer.size)
    }

    /// Writes back everything that the file system holds in memory.
    pub(super) fn sync_file_system(&self) -> Result<()> {
        let root = open_dir(self.root())?;
        rustix::fs::syncfs(&root).at(self.root())
    }
}
