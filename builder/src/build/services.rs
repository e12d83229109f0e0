//! What a build needs from the engine that runs it. Each seam has one implementation there and one in tests.

use std::path::PathBuf;

use cooper_registry::oci::Platform;
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

/// Finds what the caller of a build gave it for `RUN --mount=type=secret` and `type=ssh`.
pub trait Secrets: Sync {
    /// Bytes of the secret `id`, if it was given (`--secret`).
    ///
    /// # Errors
    /// Why it cannot be had, for people; never with the secret in it.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String>;

    /// A unix socket on this host where an SSH agent listens, if `id` was given (`--ssh`).
    ///
    /// # Errors
    /// Why it cannot be had, for people.
    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String>;
}

/// Everything that a build asks of its engine.
#[derive(Clone, Copy)]
pub struct Services<'a> {
    /// Secrets and agents of the caller.
    pub secrets: &'a dyn Secrets,
    /// Where FROM and `COPY --from` find images.
    pub bases: &'a dyn BaseImages,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
