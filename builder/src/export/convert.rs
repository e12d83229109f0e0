//! An image that is in the store in another form, for somebody else.

use std::sync::atomic::AtomicBool;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Index, Manifest, media_type};
use cooper_registry::store::{Lease, Store};

use super::attest::{rebind, store_statements};
use super::index::{Contents, OneImage, REFERENCE_DIGEST, json};
use super::layers;
use crate::build::{Compression, Error};

/// The image `id`, a manifest or an index, with its layers as `compression` says and, if `docker_types`, with Docker's media
/// types. History and config stay as they are; attestations are bound to the new manifests. The result has no name and is
/// no image of the store's lists: `lease` alone keeps it.
///
/// # Errors
/// When a layer is not here or cannot be compressed so.
pub fn convert(
    store: &Store,
    lease: &Lease,
    id: &Digest,
    compression: Option<&Compression>,
    docker_types: bool,
) -> Result<Digest, Error> {
    let contents = Contents::read(store, lease, id)?;
    if compression.is_none() && !docker_types {
        return Ok(id.clone());
    }
    let mut converted = Vec::new();
    for image in &contents.images {
        converted.push(manifest(store, lease, image, compression, docker_types)?);
    }
    let Some(index) = contents.index else {
        let only = converted
            .pop()
            .ok_or_else(|| Error::internal("a manifest is one image"))?;
        return Ok(only.digest);
    };
    let mut manifests = converted.clone();
    for attestation in &contents.attestations {
        let Some(at) = contents
            .images
            .iter()
            .position(|image| image.descriptor.digest.to_string() == attestation.subject)
        else {
            continue;
        };
        let subject = &converted[at].digest;
        let statements = rebind(
            store,
            attestation,
            &contents.images[at].descriptor.digest,
            subject,
        )?;
        let (digest, size) = store_statements(store, lease, &statements, false)?;
        let mut descriptor = attestation.descriptor.clone();
        descriptor.size = size;
        descriptor.digest = digest;
        descriptor
            .annotations
            .insert(REFERENCE_DIGEST.to_owned(), subject.to_string());
        manifests.push(descriptor);
    }
    let kind = if docker_types {
        media_type::DOCKER_LIST
    } else {
        media_type::OCI_INDEX
    };
    let index = Index {
        manifests,
        media_type: Some(kind.to_owned()),
        ..index
    };
    keep(store, lease, &json(&index)?)
}

fn manifest(
    store: &Store,
    lease: &Lease,
    image: &OneImage,
    compression: Option<&Compression>,
    docker_types: bool,
) -> Result<Descriptor, Error> {
    let mut layers = image.manifest.layers.clone();
    if let Some(compression) = compression {
        layers = layers::recode(
            store,
            lease,
            &image.config.rootfs.diff_ids,
            &layers,
            compression,
            &AtomicBool::new(false),
            &|_| {},
        )?;
    }
    let layers = layers::typed(layers, docker_types)?;
    let (kind, config) = if docker_types {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
    } else {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    };
    let mut manifest = Manifest {
        layers,
        media_type: Some(kind.to_owned()),
        ..image.manifest.clone()
    };
    config.clone_into(&mut manifest.config.media_type);
    let bytes = json(&manifest)?;
    let digest = keep(store, lease, &bytes)?;
    Ok(Descriptor {
        media_type: kind.to_owned(),
        digest,
        size: bytes.len() as u64,
        ..image.descriptor.clone()
    })
}

/// Stores a document that only the lease keeps.
pub(super) fn keep(store: &Store, lease: &Lease, bytes: &[u8]) -> Result<Digest, Error> {
    lease.blob(&Digest::sha256(bytes))?;
    Ok(store.put_blob(bytes)?)
}
