//! Archives of images.

use std::io::Write;

use cooper_registry::archive::{save, save_layout};
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Image, Store};

use super::super::annotate::annotations;
use super::super::index::{Contents, MAX_DOCUMENT};
use super::WriteOptions;
use crate::build::{AnnotationPlace, Error};

/// Annotations of a layout's descriptors: the whole name (containerd, Docker) and the tag (image-spec `annotations.md`).
const IMAGE_NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";
const CREATED: &str = "org.opencontainers.image.created";

pub(super) fn oci(
    store: &Store,
    id: &Digest,
    contents: &Contents,
    options: &WriteOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let size = store.blob_info(id)?.map_or(0, |info| info.size);
    let mut plain = match (&contents.index, contents.images.first()) {
        (Some(index), _) => Descriptor::new(
            index
                .media_type
                .clone()
                .unwrap_or_else(|| media_type::OCI_INDEX.to_owned()),
            id.clone(),
            size,
        ),
        (None, Some(image)) => Descriptor {
            platform: Some(image.platform.clone()),
            ..image.descriptor.clone()
        },
        (None, None) => return Err(Error::internal("an image without a manifest")),
    };
    plain.annotations = annotations(&options.annotations, AnnotationPlace::IndexDescriptor, None);
    let created = contents
        .images
        .first()
        .and_then(|image| image.config.created.clone());
    if let Some(created) = created {
        plain.annotations.entry(CREATED.to_owned()).or_insert(created);
    }
    let named = options.names.iter().map(|name| {
        let mut descriptor = plain.clone();
        if let Some(tag) = name.tag_or_latest() {
            descriptor
                .annotations
                .insert(IMAGE_NAME.to_owned(), format!("{}:{tag}", name.repo));
            descriptor
                .annotations
                .insert(REF_NAME.to_owned(), tag.to_string());
        }
        descriptor
    });
    let mut tops: Vec<Descriptor> = named.collect();
    if tops.is_empty() {
        tops.push(plain);
    }
    Ok(save_layout(store, &tops, out)?)
}

pub(super) fn docker(
    store: &Store,
    mut contents: Contents,
    options: &WriteOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let (Some(image), None) = (contents.images.pop(), contents.images.pop()) else {
        let reason = "the docker format holds one platform: use type=oci for an image of several";
        return Err(Error::Source(reason.to_owned()));
    };
    let names: Vec<ImageRef> = options.names.clone();
    let image = Image {
        id: image.descriptor.digest.clone(),
        manifest_digest: image.descriptor.digest,
        config_bytes: store.read_blob(&image.manifest.config.digest, MAX_DOCUMENT)?,
        manifest: image.manifest,
        config: image.config,
        names: Vec::new(),
        stored_at: 0,
    };
    Ok(save(store, &[(image, names)], out)?)
}
