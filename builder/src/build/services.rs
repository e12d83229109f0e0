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

/// Values that the client gave for the build and that never reach a layer, a log, a cache key or an error text.
pub trait Secrets: Sync {
    /// The secret `id`; none if the client has none of that name.
    ///
    /// # Errors
    /// Why it could not be had, for people.
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String>;

    /// The socket of the ssh agent `id` on this host; none if the client offers none of that name.
    ///
    /// # Errors
    /// Why it could not be had, for people.
    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String>;
}

/// One GET.
#[derive(Clone, Copy)]
pub struct WebRequest<'a> {
    /// `http://` or `https://`, without credentials.
    pub url: &'a str,
    /// Names and values; a value may be a secret.
    pub headers: &'a [(String, String)],
    /// Set when the answer is not wanted any more; to be noticed while waiting, too.
    pub stop: &'a AtomicBool,
}

impl std::fmt::Debug for WebRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebRequest")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The beginning of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case and values, in order; those that are not text are left out.
    pub headers: Vec<(String, String)>,
}

impl WebResponse {
    /// The first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads from web servers.
pub trait Web: Sync {
    /// Sends one request and gives the head of the answer to `head`, which says whether the body is wanted, and then the
    /// body to `body`, piece by piece, until that says that it is enough. Redirects are not followed and nothing is
    /// decoded. A server that says nothing for a minute has failed.
    ///
    /// # Errors
    /// What went wrong on the way, for people: no connection, no end, or another end than announced. No header is in it.
    fn get(
        &self,
        request: &WebRequest<'_>,
        head: &mut dyn FnMut(&WebResponse) -> bool,
        body: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), String>;
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
    /// The client's secrets.
    pub secrets: &'a dyn Secrets,
    /// Where ADD finds URLs.
    pub web: &'a dyn Web,
    /// Where caches and images are fetched from and pushed to.
    pub registries: &'a dyn Registries,
}

impl std::fmt::Debug for Services<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").finish_non_exhaustive()
    }
}
