//! What a build needs from the engine that runs it. Each seam has one implementation there and one in tests.

use std::path::PathBuf;
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

/// Secrets and ssh agents that the client offers to RUN.
pub trait Secrets: Sync {
    /// Value of the secret `id`; `None` when the client does not offer it.
    ///
    /// # Errors
    /// Why it cannot be had, for people; never with its value.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String>;

    /// A unix socket on this host where the ssh agent `id` answers; `None` when the client does not offer it.
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String>;
}

/// Everything that a build asks of its engine.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Where FROM and `COPY --from` find images.
    pub bases: &'a dyn BaseImages,
    /// What `RUN --mount=type=secret` and `type=ssh` get.
    pub secrets: &'a dyn Secrets,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
