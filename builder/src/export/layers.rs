//! Layers of an image in the form that was asked for.

use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{Descriptor, media_type};
use cooper_registry::store::{Coding, Lease, Store};

use crate::build::{Compression, CompressionKind, Error};

impl Compression {
    /// The store's coding; none for plain layers.
    pub(crate) fn coding(&self) -> Result<Option<Coding>, Error> {
        let coding = match self.kind {
            CompressionKind::None => return Ok(None),
            CompressionKind::Gzip => Coding::gzip(self.level),
            CompressionKind::Zstd => Coding::zstd(self.level),
        };
        coding.map(Some).map_err(|error| Error::Source(error.to_string()))
    }
}

/// The descriptors of an image's layers as `compression` wants them. Without `force` a layer that is compressed already,
/// in whatever format, stays what it is, as in BuildKit; so base images are pushed byte for byte.
pub(super) fn recode(
    store: &Store,
    lease: &Lease,
    diff_ids: &[DiffId],
    layers: &[Descriptor],
    compression: &Compression,
    stop: &AtomicBool,
    tell: &dyn Fn(String),
) -> Result<Vec<Descriptor>, Error> {
    let coding = compression.coding()?;
    let mut recoded = Vec::with_capacity(layers.len());
    for (diff_id, layer) in diff_ids.iter().zip(layers) {
        let plain = is_plain(&layer.media_type);
        // What may not be distributed is not here either.
        let stays = !layer.urls.is_empty() || (!plain && !compression.force);
        recoded.push(match coding {
            _ if stays => layer.clone(),
            None if plain => layer.clone(),
            None => store.plain_layer(diff_id, layer, lease)?,
            Some(coding) => {
                let made = store.compress_layer(diff_id, layer, coding, lease, stop);
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                let made = made?;
                tell(format!("layer {diff_id}: {} {} bytes\n", made.digest, made.size));
                made
            }
        });
    }
    Ok(recoded)
}

fn is_plain(kind: &str) -> bool {
    matches!(kind, media_type::OCI_LAYER | media_type::DOCKER_LAYER)
}

/// The descriptors with OCI's media types, or with Docker's.
pub(super) fn typed(layers: Vec<Descriptor>, docker: bool) -> Result<Vec<Descriptor>, Error> {
    let typed = layers.into_iter().map(|mut layer| {
        let kind = match (layer.media_type.as_str(), docker) {
            (media_type::OCI_LAYER, true) => media_type::DOCKER_LAYER,
            (media_type::OCI_LAYER_GZIP, true) => media_type::DOCKER_LAYER_GZIP,
            (media_type::OCI_LAYER_ZSTD, true) => {
                let reason =
                    "layers compressed with zstd need OCI media types: leave oci-mediatypes=false out";
                return Err(Error::Source(reason.to_owned()));
            }
            (media_type::DOCKER_LAYER, false) => media_type::OCI_LAYER,
            (media_type::DOCKER_LAYER_GZIP, false) => media_type::OCI_LAYER_GZIP,
            _ => return Ok(layer),
        };
        kind.clone_into(&mut layer.media_type);
        Ok(layer)
    });
    typed.collect()
}
