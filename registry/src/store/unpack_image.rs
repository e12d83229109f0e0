//! Making the layers of an image ready to mount.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use super::blobs::open_dir;
use super::error::{Error, Result};
use super::handle::Store;
use super::layers::LayerRecord;
use super::layout::LayerKey;
use super::lock::FileLock;
use super::types::Image;
use super::unpack::{Options, unpack};
use crate::digest::{ChainId, DiffId, Digest};
use crate::oci::Descriptor;

/// One layer to make ready.
struct Wanted<'a> {
    diff_id: &'a DiffId,
    chain: ChainId,
    descriptor: &'a Descriptor,
}

/// Trees by position, as far as they are ready.
struct Progress {
    trees: Mutex<(Vec<Option<PathBuf>>, Option<Error>)>,
    changed: Condvar,
}

impl Progress {
    fn set(&self, at: usize, result: Result<PathBuf>) {
        let mut state = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(tree) => state.0[at] = Some(tree),
            Err(error) => {
                state.1.get_or_insert(error);
            }
        }
        self.changed.notify_all();
    }

    fn failed(&self) -> bool {
        self.trees
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .is_some()
    }

    /// Trees of everything below `at`, top first; waits for those in the making.
    fn below(&self, at: usize) -> Result<Vec<PathBuf>> {
        let mut state = self.trees.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.1.is_some() {
                return Err(Error::Archive("a layer below could not be unpacked".into()));
            }
            if let Some(trees) = state.0[..at].iter().rev().cloned().collect::<Option<Vec<_>>>() {
                return Ok(trees);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Store {
    /// Unpacks what is missing and returns the overlay lower directories, **top first**. A layer that occurs twice is
    /// listed once, at its topmost place: overlayfs takes no directory twice, and the lower one shows nothing anyway.
    ///
    /// # Errors
    /// [`Error::InvalidManifest`] if manifest and config disagree about the layers, [`Error::NoSuchBlob`],
    /// [`Error::DigestMismatch`] if a layer is not the one that the config names, [`Error::Entry`], [`Error::Archive`].
    pub fn unpack_image(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let (diff_ids, layers) = (&image.config.rootfs.diff_ids, &image.manifest.layers);
        if diff_ids.len() != layers.len() {
            return Err(Error::InvalidManifest(format!(
                "{} layers, but the config has {} diff ids",
                layers.len(),
                diff_ids.len()
            )));
        }
        self.record_image_layers(&image.manifest_digest, diff_ids)?;
        let mut chain: Option<ChainId> = None;
        let mut wanted = Vec::with_capacity(layers.len());
        for (diff_id, descriptor) in diff_ids.iter().zip(layers) {
            let next = chain.map_or_else(|| ChainId::bottom(diff_id), |chain| chain.push(diff_id));
            wanted.push(Wanted {
                diff_id,
                chain: next.clone(),
                descriptor,
            });
            chain = Some(next);
        }
        let mut trees = Vec::with_capacity(wanted.len());
        for layer in &wanted {
            trees.push(self.ready_tree(layer)?);
        }
        let missing: Vec<usize> = (0..trees.len()).filter(|&at| trees[at].is_none()).collect();
        let progress = Progress {
            trees: Mutex::new((trees, None)),
            changed: Condvar::new(),
        };
        let next = AtomicUsize::new(0);
        let worker = || {
            // Bottom first, so a worker that waits for lower layers waits for running ones only.
            while let Some(&at) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                if progress.failed() {
                    return;
                }
                progress.set(at, self.unpack_layer(&wanted[at], at, &progress));
            }
        };
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(missing.len())
            .min(4);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(worker);
            }
            worker();
        });
        let (trees, error) = progress
            .trees
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error {
            return Err(error);
        }
        let mut lowers: Vec<PathBuf> = Vec::with_capacity(trees.len());
        for tree in trees.into_iter().rev().flatten() {
            if !lowers.contains(&tree) {
                lowers.push(tree);
            }
        }
        Ok(lowers)
    }

    fn ready_tree(&self, layer: &Wanted<'_>) -> Result<Option<PathBuf>> {
        for key in [
            LayerKey::Diff(layer.diff_id.clone()),
            LayerKey::Chain(layer.chain.clone()),
        ] {
            if self.load_layer(&key)?.is_some() {
                return Ok(Some(self.inner.layout.layer(&key).join("tree")));
            }
        }
        Ok(None)
    }

    fn unpack_layer(&self, layer: &Wanted<'_>, at: usize, progress: &Progress) -> Result<PathBuf> {
        let lock = FileLock::exclusive(
            &self
                .inner
                .layout
                .layer_lock(&LayerKey::Chain(layer.chain.clone())),
        )?;
        if let Some(tree) = self.ready_tree(layer)? {
            return Ok(tree);
        }
        let snapshot = self.new_snapshot()?;
        let below = || progress.below(at);
        let options = Options {
            limits: &self.inner.limits,
            algorithm: layer.diff_id.0.algorithm(),
            lowers: (at > 0).then_some(&below),
            import: false,
        };
        let mut blob = self.open_verified(&layer.descriptor.digest)?;
        let unpacked = unpack(&mut *blob, open_dir(&snapshot.upper())?, options)?;
        if unpacked.digest != layer.diff_id.0 {
            return Err(Error::DigestMismatch {
                expected: layer.diff_id.0.clone(),
                got: unpacked.digest,
            });
        }
        let (key, chain) = if unpacked.dependent {
            (LayerKey::Chain(layer.chain.clone()), Some(layer.chain.clone()))
        } else {
            (LayerKey::Diff(layer.diff_id.clone()), None)
        };
        snapshot.stage()?;
        self.sync_file_system()?;
        let boot = self.boot_id()?.to_owned();
        let mut record = LayerRecord::new(layer.diff_id.clone(), unpacked.size, false, chain, boot);
        record.durable = true;
        self.publish_layer(&snapshot, &key, &record)?;
        lock.remove()?;
        Ok(self.inner.layout.layer(&key).join("tree"))
    }

    /// The blob's bytes; its own digest needs no second check, because the DiffID covers what they decode to.
    fn open_verified(&self, digest: &Digest) -> Result<Box<dyn std::io::Read + Send>> {
        self.open_blob(digest, 0)
    }
}
