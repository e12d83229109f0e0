//! Images of several platforms.

use std::collections::BTreeMap;

use super::error::{Error, Result};
use super::handle::Store;
use super::types::Image;
use crate::digest::Digest;
use crate::oci::{Descriptor, Index, Platform, media_type};
use crate::reference::ImageRef;

impl Store {
    /// As [`Store::image`], but of an image index the child for `platform`. A single image is given as it is, whatever
    /// platform it is for.
    ///
    /// # Errors
    /// As [`Store::image`]; [`Error::NotRunnable`] if the index has no child for the platform, or that is not here.
    pub fn image_for(&self, text: &str, platform: &Platform) -> Result<Image> {
        let id = self.resolve_image(text)?;
        self.load_image_for(&id, platform)
    }

    /// The image of a manifest or index that is here but need not have a name, for a platform.
    ///
    /// # Errors
    /// As [`Store::image_for`].
    pub fn manifest_image(&self, id: &Digest, platform: &Platform) -> Result<Image> {
        self.load_image_for(id, platform)
    }

    /// Stores a manifest that nobody sees: no repository lists it, and only a lease, which must name it already, or an
    /// image that contains it keeps it.
    ///
    /// # Errors
    /// [`Error::InvalidManifest`], [`Error::DigestMismatch`].
    pub fn put_hidden_manifest(
        &self,
        media_type: &str,
        bytes: &[u8],
        digest: Option<&Digest>,
    ) -> Result<Descriptor> {
        self.store_manifest(media_type, bytes, digest, &[])
    }

    /// Writes an OCI index of images that are here ([`Store::put_image`]), in this order, each for its platform, and
    /// names it; a name without a tag means `latest`. Gives the id of the whole.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if an image is not here.
    pub fn put_index(&self, images: &[(Digest, Platform)], names: &[ImageRef]) -> Result<Digest> {
        let mut manifests = Vec::new();
        for (digest, platform) in images {
            let info = self
                .blob_info(digest)?
                .ok_or_else(|| Error::NoSuchBlob(digest.clone()))?;
            manifests.push(Descriptor {
                platform: Some(platform.clone()),
                ..Descriptor::new(media_type::OCI_MANIFEST, digest.clone(), info.size)
            });
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&index).map_err(|error| Error::InvalidManifest(error.to_string()))?;
        let id = self
            .put_manifest(None, media_type::OCI_INDEX, &bytes, None, &[])?
            .digest;
        for name in names {
            self.tag_image(&id, name)?;
        }
        Ok(id)
    }
}
