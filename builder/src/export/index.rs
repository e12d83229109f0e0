//! Documents of the store: reading the images of an index, writing an index.

use std::collections::BTreeMap;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Lease, Store};

use crate::build::Error;

/// Largest manifest, index, config or statement that is read.
pub(super) const MAX_DOCUMENT: u64 = 40 << 20;
/// BuildKit's annotations of attestation manifests (`docs/attestations/attestation-storage.md`).
pub(super) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
pub(super) const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
pub(super) const ATTESTATION: &str = "attestation-manifest";

/// What a name or id points to, with the images in it that the store has.
#[derive(Debug)]
pub(super) struct Contents {
    /// The index, if it is one.
    pub(super) index: Option<Index>,
    /// Runnable images, in the order of the index.
    pub(super) images: Vec<OneImage>,
    /// Attestation manifests.
    pub(super) attestations: Vec<Attestation>,
}

/// The image for one platform.
#[derive(Debug, Clone)]
pub(super) struct OneImage {
    /// As the index has it; without one, of the manifest alone.
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
    pub(super) platform: Platform,
}

#[derive(Debug, Clone)]
pub(super) struct Attestation {
    pub(super) descriptor: Descriptor,
    pub(super) manifest: Manifest,
    /// The image that it is about.
    pub(super) subject: String,
}

impl Contents {
    /// Reads what `id` is; children that are not here are left out. Everything is kept by `lease`.
    pub(super) fn read(store: &Store, lease: &Lease, id: &Digest) -> Result<Self, Error> {
        lease.manifest(id)?;
        let bytes = store.read_blob(id, MAX_DOCUMENT)?;
        let value: serde_json::Value = parse(id, &bytes)?;
        let mut contents = Self {
            index: None,
            images: Vec::new(),
            attestations: Vec::new(),
        };
        if value.get("manifests").is_none() {
            let manifest: Manifest = parse(id, &bytes)?;
            let kind = manifest
                .media_type
                .clone()
                .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
            let descriptor = Descriptor::new(kind, id.clone(), bytes.len() as u64);
            contents.images.push(image(store, descriptor, manifest)?);
            return Ok(contents);
        }
        let index: Index = parse(id, &bytes)?;
        for child in &index.manifests {
            if store.blob_info(&child.digest)?.is_none() {
                continue;
            }
            let bytes = store.read_blob(&child.digest, MAX_DOCUMENT)?;
            // An index in an index holds no image for here.
            let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
                continue;
            };
            if child
                .annotations
                .get(REFERENCE_TYPE)
                .is_some_and(|kind| kind == ATTESTATION)
            {
                contents.attestations.push(Attestation {
                    subject: child
                        .annotations
                        .get(REFERENCE_DIGEST)
                        .cloned()
                        .unwrap_or_default(),
                    descriptor: child.clone(),
                    manifest,
                });
            } else if complete(store, &manifest)? {
                contents.images.push(image(store, child.clone(), manifest)?);
            }
        }
        contents.index = Some(index);
        if contents.images.is_empty() {
            return Err(Error::Source(format!("the store has no image of {id}")));
        }
        Ok(contents)
    }
}

fn complete(store: &Store, manifest: &Manifest) -> Result<bool, Error> {
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        if blob.urls.is_empty() && store.blob_info(&blob.digest)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn image(store: &Store, descriptor: Descriptor, manifest: Manifest) -> Result<OneImage, Error> {
    let bytes = store.read_blob(&manifest.config.digest, MAX_DOCUMENT)?;
    let config: ImageConfig = parse(&manifest.config.digest, &bytes)?;
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(Error::Source(format!(
            "the manifest {} has {} layers, its config {}",
            descriptor.digest,
            manifest.layers.len(),
            config.rootfs.diff_ids.len()
        )));
    }
    let platform = descriptor
        .platform
        .clone()
        .unwrap_or_else(|| platform_of(&config));
    Ok(OneImage {
        descriptor,
        manifest,
        config,
        platform,
    })
}

/// The platform that a config says.
pub(super) fn platform_of(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        variant: config.variant.clone(),
    }
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(digest: &Digest, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Source(format!("{digest}: {error}")))
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))
}

/// Stores an index of manifests that are in the store and gives it its names; without any it is an unnamed image.
pub(super) fn put_index(
    store: &Store,
    manifests: Vec<Descriptor>,
    annotations: BTreeMap<String, String>,
    docker: bool,
    names: &[ImageRef],
) -> Result<Digest, Error> {
    let kind = if docker {
        media_type::DOCKER_LIST
    } else {
        media_type::OCI_INDEX
    };
    let index = Index {
        schema_version: 2,
        media_type: Some(kind.to_owned()),
        artifact_type: None,
        manifests,
        subject: None,
        annotations,
    };
    let descriptor = store.put_manifest(None, kind, &json(&index)?, None, &[])?;
    for name in names {
        store.tag_image(&descriptor.digest, name)?;
    }
    Ok(descriptor.digest)
}

/// The descriptor of a manifest that is in the store.
pub(super) fn describe(store: &Store, digest: &Digest, platform: Platform) -> Result<Descriptor, Error> {
    let bytes = store.read_blob(digest, MAX_DOCUMENT)?;
    let manifest: Manifest = parse(digest, &bytes)?;
    let kind = manifest
        .media_type
        .unwrap_or_else(|| media_type::OCI_MANIFEST.to_owned());
    Ok(Descriptor {
        platform: Some(platform),
        ..Descriptor::new(kind, digest.clone(), bytes.len() as u64)
    })
}
