//! What a client is told of a result: `--metadata-file` and `--iidfile`.

use std::collections::BTreeMap;

use cooper_registry::digest::Digest;
use cooper_registry::oci::Descriptor;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Store;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::index::{Contents, MAX_DOCUMENT};
use crate::build::Error;

/// The keys of buildx's metadata file (buildx 0.29, `docs/reference/buildx_build.md`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(pub Map<String, Value>);

impl Metadata {
    /// What `--iidfile` gets: the digest of the manifest or index, as with docker's containerd store.
    pub fn image_id(&self) -> Option<&str> {
        self.0.get("containerimage.digest")?.as_str()
    }
}

/// Describes the image `id` that a build has made.
///
/// `reference` names the build (`buildx.build.ref`), `warnings` are those that the build told. Provenance is told where the
/// image has it: the predicate alone for one platform, `buildx.build.provenance/<os>/<arch>[/<variant>]` for each of several, as
/// buildx does.
///
/// # Errors
/// When the store cannot read what it has of the image.
pub fn metadata(
    store: &Store,
    id: &Digest,
    names: &[ImageRef],
    reference: &str,
    warnings: &[String],
) -> Result<Metadata, Error> {
    let lease = store.lease()?;
    let contents = Contents::read(store, &lease, id)?;
    let size = store.blob_info(id)?.map_or(0, |info| info.size);
    let mut map = Map::new();
    let descriptor = match (&contents.index, contents.images.first()) {
        (Some(index), _) => Descriptor::new(index.media_type.clone().unwrap_or_default(), id.clone(), size),
        (None, Some(image)) => Descriptor {
            platform: Some(image.platform.clone()),
            annotations: BTreeMap::from([(
                "config.digest".to_owned(),
                image.manifest.config.digest.to_string(),
            )]),
            ..image.descriptor.clone()
        },
        (None, None) => return Err(Error::internal("an image without a manifest")),
    };
    if let (1, Some(image)) = (contents.images.len(), contents.images.first()) {
        let config = image.manifest.config.digest.to_string();
        map.insert("containerimage.config.digest".to_owned(), config.into());
    }
    map.insert("containerimage.descriptor".to_owned(), json!(descriptor));
    map.insert("containerimage.digest".to_owned(), id.to_string().into());
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        map.insert("image.name".to_owned(), names.join(",").into());
    }
    map.insert("buildx.build.ref".to_owned(), reference.into());
    if !warnings.is_empty() {
        let list = warnings.iter().map(|warning| json!({ "short": warning }));
        map.insert("buildx.build.warnings".to_owned(), list.collect());
    }
    for attestation in &contents.attestations {
        let about = contents
            .images
            .iter()
            .find(|image| image.descriptor.digest.to_string() == attestation.subject);
        for layer in &attestation.manifest.layers {
            let kind = layer.annotations.get(super::attest::PREDICATE_TYPE);
            if kind.is_none_or(|kind| !kind.contains("slsa.dev/provenance")) {
                continue;
            }
            let bytes = store.read_blob(&layer.digest, MAX_DOCUMENT)?;
            let statement: Value = super::index::parse(&layer.digest, &bytes)?;
            let key = match about {
                Some(image) if contents.images.len() > 1 => {
                    format!("buildx.build.provenance/{}", image.platform)
                }
                _ => "buildx.build.provenance".to_owned(),
            };
            map.insert(key, statement.get("predicate").cloned().unwrap_or_default());
        }
    }
    Ok(Metadata(map))
}
