//! Options of a build's result and of its cache, as the client asks for them.

use std::path::PathBuf;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use serde::{Deserialize, Serialize};

/// How layers are compressed where they leave the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionKind {
    /// `application/vnd.oci.image.layer.v1.tar`
    #[serde(alias = "uncompressed")]
    None,
    /// `…tar+gzip`
    #[default]
    Gzip,
    /// `…tar+zstd`
    Zstd,
}

/// `compression=`, `compression-level=` and `force-compression=`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Compression {
    /// The format.
    pub kind: CompressionKind,
    /// gzip 0-9, zstd 0-22; none for the format's default.
    pub level: Option<u8>,
    /// Layers that exist in another format, the base image's among them, are compressed again.
    pub force: bool,
}

/// Which JSON document an annotation goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnnotationPlace {
    /// The image's manifest.
    Manifest,
    /// The manifest's descriptor in the index.
    ManifestDescriptor,
    /// The index.
    Index,
    /// The index's descriptor in an OCI layout's `index.json`.
    IndexDescriptor,
}

/// `--annotation [place[,place][platform]:]key=value`, one for each place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// Where it is put.
    pub place: AnnotationPlace,
    /// Only for the manifest of this platform.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// How much provenance tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProvenanceMode {
    /// What was built from what.
    #[default]
    Min,
    /// The Dockerfile, build arguments and every step, too.
    Max,
}

/// `--provenance`, `--attest type=provenance`: a SLSA v1 statement beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// How much it tells.
    pub mode: ProvenanceMode,
    /// `builder-id`
    pub builder_id: Option<String>,
    /// `reproducible`
    pub reproducible: bool,
}

/// `--sbom`, `--attest type=sbom`: an SPDX statement beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sbom {
    /// Image of a scanner that speaks BuildKit's protocol; none for the built-in one.
    pub generator: Option<ImageRef>,
}

/// Where a build cache is kept outside of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheLocation {
    /// An artifact in a registry.
    Registry(ImageRef),
    /// A directory on this host with an OCI layout; the tag names the cache in it.
    Local {
        /// The directory.
        path: PathBuf,
        /// `tag=`, `latest` by default.
        tag: Option<String>,
    },
    /// In the config of the image itself.
    Inline,
}

/// `--cache-from`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheImport {
    /// Where it is; for an image with an inline cache this is [`CacheLocation::Registry`].
    pub location: CacheLocation,
}

/// Which layers a cache has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// Those of the result.
    #[default]
    Min,
    /// Those of all steps.
    Max,
}

/// `--cache-to`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheExport {
    /// Where it goes.
    pub location: CacheLocation,
    /// Which layers it has.
    #[serde(default)]
    pub mode: CacheMode,
    /// `mounts=true`: the contents of cache mounts go with it.
    #[serde(default)]
    pub mounts: bool,
    /// How its layers are compressed.
    #[serde(default)]
    pub compression: Compression,
    /// A failure to export does not fail the build.
    #[serde(default)]
    pub ignore_error: bool,
}
