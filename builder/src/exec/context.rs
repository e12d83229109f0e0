//! What all steps of a build share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::digest::{ChainId, DiffId};
use cooper_registry::oci::Descriptor;
use cooper_registry::store::{Layer, Lease, Store};

use super::emulation::Emulation;
use crate::build::{Error, Event, Request, Services};
use crate::cache::{Journal, RemoteCache};
use crate::context::{ContextFiles, DigestCache, NamedContexts};
use crate::plan::Source;

/// Receives events; from several threads.
pub(crate) type Events<'a> = &'a (dyn Fn(Event) + Sync);

/// The surroundings of all steps.
#[derive(Clone, Copy)]
pub(crate) struct Environment<'a> {
    pub(crate) store: &'a Store,
    pub(crate) exec_root: &'a Path,
    pub(crate) request: &'a Request,
    pub(crate) source: Source<'a>,
    pub(crate) events: Events<'a>,
    pub(crate) context: Option<&'a ContextFiles>,
    pub(crate) digests: Option<&'a DigestCache>,
    pub(crate) services: &'a Services<'a>,
    pub(crate) named: &'a NamedContexts<'a>,
    /// What runs programs of other platforms.
    pub(crate) emulation: &'a Emulation,
    /// Keeps results from being collected until the image names them.
    pub(crate) lease: &'a Lease,
    /// What the last builds of this Dockerfile did.
    pub(crate) journal: &'a Journal,
    /// Caches from elsewhere.
    pub(crate) remote: &'a RemoteCache<'a>,
    /// An empty directory, for overlays that lack a layer.
    pub(crate) empty: &'a Path,
    /// Set when the build ends early.
    pub(crate) stop: &'a AtomicBool,
}

impl Environment<'_> {
    /// Fetches layers of `rootfs` that so far are only promised by a cache. Goes before every look into its trees.
    pub(crate) fn ready(&self, rootfs: &RootFs) -> Result<(), Error> {
        let layers = rootfs.layers.iter().map(|layer| &layer.diff_id);
        self.remote.fetch(self.lease, layers)
    }

    pub(crate) fn check_cancelled(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// A root file system as its layers; shared by all steps that start from it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RootFs {
    /// Bottom first.
    pub(crate) layers: Vec<LayerRef>,
    /// Unpacked trees, top first.
    pub(crate) lowers: Vec<PathBuf>,
}

/// A layer of a root file system.
#[derive(Debug, Clone)]
pub(crate) struct LayerRef {
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
    /// When this builder made it; none for layers of base images.
    pub(crate) created: Option<String>,
}

impl RootFs {
    /// What identifies the contents; none for an empty one.
    pub(crate) fn chain(&self) -> Option<ChainId> {
        let ids: Vec<DiffId> = self.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        ChainId::of(&ids)
    }

    /// For cache keys.
    pub(crate) fn identity(&self) -> String {
        self.chain()
            .map_or_else(|| "scratch".to_owned(), |chain| chain.to_string())
    }

    /// With one more layer on top.
    pub(crate) fn with(&self, store: &Store, layer: Layer, created: String) -> Arc<Self> {
        let mut next = self.clone();
        let descriptor = store.layer_descriptor(&layer);
        next.layers.push(LayerRef {
            diff_id: layer.diff_id,
            descriptor,
            created: Some(created),
        });
        // Overlayfs takes no directory twice; of equal layers (empty ones, mostly) the upper one decides everything.
        next.lowers.retain(|lower| *lower != layer.tree);
        next.lowers.insert(0, layer.tree);
        Arc::new(next)
    }
}
