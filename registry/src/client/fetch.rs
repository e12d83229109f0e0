//! Single documents and blobs, for those who know what they want.

use super::credentials::Credentials;
use super::document::Document;
use super::download::{self, blocking};
use super::endpoint;
use super::error::Error;
use super::http::Remote;
use super::pull::Client;
use crate::oci::Descriptor;
use crate::reference::ImageRef;

impl Client {
    /// The manifest or index that `name` points to, byte-exact, without storing it; `None` if the registry has none.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_manifest(
        &self,
        name: &ImageRef,
        credentials: Credentials,
    ) -> Result<Option<(Descriptor, Vec<u8>)>, Error> {
        let remote = self.remote(name, credentials).await?;
        let reference = match (&name.digest, name.tag_or_latest()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.map(|tag| tag.to_string()).unwrap_or_default(),
        };
        match Document::fetch(&remote, &reference, None, name.digest.as_ref()).await {
            Ok(document) => Ok(Some((document.descriptor, document.bytes))),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fetches a blob of `name`'s repository into the store, where it is not yet; size and digest are verified. Lease it
    /// first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_blob(
        &self,
        name: &ImageRef,
        blob: &Descriptor,
        credentials: Credentials,
    ) -> Result<(), Error> {
        let (store, digest) = (self.store.clone(), blob.digest.clone());
        if blocking(move || Ok(store.blob_info(&digest)?)).await?.is_some() {
            return Ok(());
        }
        let remote = self.remote(name, credentials).await?;
        download::blob(&remote, &self.store, &self.partial, blob, &|_| {}).await
    }

    async fn remote(&self, name: &ImageRef, credentials: Credentials) -> Result<Remote, Error> {
        let domain = name.repo.domain();
        let places = endpoint::endpoints(domain, &self.config);
        Remote::connect(&self.http, domain, places, name.repo.path(), "pull", credentials).await
    }
}
