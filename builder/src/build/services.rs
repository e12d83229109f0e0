//! What a build needs from the engine that runs it. Each seam has one implementation there and one in tests.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform};
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

/// Registries as places of results and caches.
pub trait Registries: Sync {
    /// The manifest or index that `name` points to in its registry, byte-exact; `None` if the registry has none.
    ///
    /// # Errors
    /// Why the registry could not be asked, for people.
    fn manifest(&self, name: &ImageRef) -> Result<Option<(Descriptor, Vec<u8>)>, String>;

    /// Brings a blob of `name`'s repository into the store, verified, if it is not there.
    ///
    /// # Errors
    /// Why it could not be fetched, for people.
    fn blob(&self, name: &ImageRef, descriptor: &Descriptor) -> Result<(), String>;

    /// Pushes a manifest or index that the store has in `name`'s repository, with all that it names; under `name`'s tag, or
    /// by its digest alone if `name` has a digest and no tag. `progress` gets lines for people.
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
    /// What `RUN --mount=type=secret` and `type=ssh` get.
    pub secrets: &'a dyn Secrets,
    /// Where results and caches are pushed to and fetched from.
    pub registries: &'a dyn Registries,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
