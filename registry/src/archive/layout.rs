//! The JSON files of image archives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::oci::Descriptor;

pub(super) const INDEX: &str = "index.json";
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const OCI_LAYOUT: &str = "oci-layout";
pub(super) const REPOSITORIES: &str = "repositories";
/// OCI image-spec `image-layout.md`.
pub(super) const OCI_LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The full name, set by containerd and Docker.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// The tag (Docker) or the name (others) (OCI image-spec `annotations.md`).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image in docker-archive's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    /// Path of the config.
    pub(super) config: String,
    /// `name:tag`, short form.
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    /// Paths of the layers, bottom first.
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
    /// The layers' descriptors by DiffID; Docker writes them since 25, nobody needs them to load.
    #[serde(default, skip_deserializing, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) layer_sources: BTreeMap<String, Descriptor>,
}

/// `repositories`: name -> tag -> id of the top layer.
pub(super) type Repositories = BTreeMap<String, BTreeMap<String, String>>;

/// Path of a blob.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().as_str(), digest.hex())
}

/// The digest that a blob's path promises, if it is one of a blob.
pub(super) fn blob_digest(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}
