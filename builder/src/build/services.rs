//! What a build needs from the engine that runs it. Each seam has one implementation there and one in tests.

use std::sync::atomic::AtomicBool;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Image;

/// Finds base images: local store first, a registry otherwise.
pub trait BaseImages: Sync {
    /// The image `name` for `platform`, in the store. Where the name means a single image for another platform, that may be
    /// given. Called from several threads, for different images; each call ends soon after `cancelled` is set.
    ///
    /// # Errors
    /// Why it could not be found or fetched, for people.
    fn resolve(
        &self,
        name: &ImageRef,
        platform: &Platform,
        always_pull: bool,
        cancelled: &AtomicBool,
    ) -> Result<Image, String>;
}

/// Everything that a build asks of its engine.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Where FROM and `COPY --from` find images.
    pub bases: &'a dyn BaseImages,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
