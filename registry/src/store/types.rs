//! The values that the store takes and gives.

use std::path::PathBuf;

use crate::digest::{DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig, Manifest};
use crate::reference::ImageRef;

/// Where a blob's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// A file.
    File(PathBuf),
    /// Regenerated deterministically from the unpacked layer (nothing is stored twice).
    Layer(DiffId),
}

/// A blob that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where its bytes come from.
    pub backing: Backing,
}

/// A manifest as it was pushed.
#[derive(Debug, Clone)]
pub struct StoredManifest {
    /// Media type, digest and size.
    pub descriptor: Descriptor,
    /// The exact bytes.
    pub bytes: Vec<u8>,
}

/// A runnable image: the manifest for one platform with its config.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of what the name points to: a manifest, or the index it was chosen from. Docker's image ID here.
    pub id: Digest,
    /// Digest of the manifest for this platform; equal to `id` unless that is an index.
    pub manifest_digest: Digest,
    /// That manifest, parsed.
    pub manifest: Manifest,
    /// Its config, parsed.
    pub config: ImageConfig,
    /// The config's exact bytes.
    pub config_bytes: Vec<u8>,
    /// Every name with a tag that points to `id`, in byte order.
    pub names: Vec<ImageRef>,
    /// Unix seconds when it came into this store.
    pub stored_at: i64,
}

/// How an image's manifest is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestForm {
    /// Docker's schema 2 media types instead of OCI's; the layers' descriptors must have them too.
    pub docker_types: bool,
    /// Annotations of the manifest.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// A finished layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// Size of its uncompressed tar in bytes.
    pub size: u64,
    /// Unpacked tree, usable as an overlay lower directory.
    pub tree: PathBuf,
}

/// What the build cache remembers for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRecord {
    /// The builder's own data.
    pub value: Vec<u8>,
    /// Layers that the record keeps alive, in the order they were given.
    pub layers: Vec<DiffId>,
}

/// A cache record as [`Store::cache_entries`](super::Store::cache_entries) tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The key.
    pub key: String,
    /// What it was put with.
    pub description: String,
    /// The layers that it keeps alive.
    pub layers: Vec<DiffId>,
    /// Bytes on disk (`st_blocks`) of its layers, each counted for its oldest record alone; of the record itself if it has none.
    pub bytes: u64,
    /// An image has one of its layers, too.
    pub shared: bool,
    /// A lease of a living process, a build's mostly, keeps one of its layers.
    pub in_use: bool,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds, not finer than a minute.
    pub used_at: i64,
    /// How often it was found, at most once a minute.
    pub uses: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, Default)]
pub struct GcReport {
    /// Names that were removed.
    pub untagged: Vec<ImageRef>,
    /// Manifests, blobs and layers (by DiffID) that were removed.
    pub deleted: Vec<Digest>,
    /// Keys of the cache records that were removed.
    pub cache_deleted: Vec<String>,
    /// Disk space, as `du` counts it.
    pub freed_bytes: u64,
}

/// Options of [`Store::gc`](super::Store::gc).
#[derive(Debug, Clone, Default)]
pub struct GcOptions {
    /// Also drop images without a name.
    pub dangling: bool,
    /// Also drop images that no named lease (container) uses.
    pub unused_images: bool,
    /// Also drop build cache records.
    pub cache: bool,
    /// Also drop the build cache records of these keys.
    pub cache_keys: Vec<String>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Bytes as `du` counts them (st_blocks).
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// (image id, total bytes, bytes no other image shares)
    pub images: Vec<(Digest, u64, u64)>,
    /// Every layer; nothing for the directories that hold them.
    pub layers_bytes: u64,
    /// Every blob; nothing for the directories that hold them.
    pub blobs_bytes: u64,
    /// (key, description, bytes held only by the cache, last used unix seconds)
    pub cache: Vec<(String, String, u64, i64)>,
    /// Partial uploads, snapshots of live builds, index.
    pub other_bytes: u64,
    /// What `du -s` says of the store directory without `containers/`.
    pub total_bytes: u64,
    /// What [`Store::gc`](super::Store::gc) with every option could free now.
    pub reclaimable_bytes: u64,
}
