//! What a build needs from the engine that runs it. Each seam has one implementation there and one in tests.

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Image;

/// Finds base images: local store first, a registry otherwise.
pub trait BaseImages: Sync {
    /// The image `name` for `platform`, in the store.
    ///
    /// # Errors
    /// Why it could not be found or fetched, for people.
    fn resolve(&self, name: &ImageRef, platform: &Platform, always_pull: bool) -> Result<Image, String>;
}

/// Other registries, with the build's credentials.
pub trait Registries: Sync {
    /// The manifest or index that `name` points to, byte-exact; none if there is none. Nothing is stored.
    ///
    /// # Errors
    /// Why it could not be fetched, for people.
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String>;

    /// Fetches a blob of `name`'s repository into the store, verified; nothing happens if it is there.
    ///
    /// # Errors
    /// Why it could not be fetched, for people.
    fn blob(&self, name: &ImageRef, descriptor: &Descriptor) -> Result<(), String>;

    /// Pushes a manifest that the store has in `name`'s repository, with what it names, and gives it `name`'s tag there.
    /// Blobs that the store lacks must be there already.
    ///
    /// # Errors
    /// Why it could not be pushed, for people.
    fn push(
        &self,
        name: &ImageRef,
        manifest: &Digest,
        progress: &(dyn Fn(String) + Sync),
    ) -> Result<(), String>;
}

/// Everything that a build asks of its engine.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Where FROM and `COPY --from` find images.
    pub bases: &'a dyn BaseImages,
    /// Where caches and images are fetched from and pushed to.
    pub registries: &'a dyn Registries,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
