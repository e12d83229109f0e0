//! Pulling an image.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::ClientConfig;
use super::credentials::Credentials;
use super::document::{Document, Kind};
use super::download::{self, Partial, blocking};
use super::endpoint;
use super::error::Error;
use super::http::{Http, Remote};
use super::platform;
use super::progress::{Progress, Report};
use crate::digest::Digest;
use crate::oci::{Descriptor, Manifest, Platform};
use crate::reference::ImageRef;
use crate::store::{Lease, Store};

/// Blobs downloaded at once, as in Docker.
const DOWNLOADS: usize = 3;
/// How deep indexes may nest.
const MAX_DEPTH: usize = 4;

/// A registry client over a store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    pub(super) store: Store,
    pub(super) config: Arc<ClientConfig>,
    pub(super) http: Http,
    pub(super) partial: Partial,
}

impl Client {
    /// A client over `store`. Nothing is opened or connected yet.
    pub fn new(store: Store, config: ClientConfig) -> Self {
        Self {
            store,
            config: Arc::new(config),
            http: Http::default(),
            partial: Partial::default(),
        }
    }

    /// Pulls the image for `platform` (an index is kept byte-exact beside the chosen manifest) and gives it its tag;
    /// returns the descriptor of what the name points to, the index if there is one. Blobs that the store has are not
    /// fetched. Layers are stored, not unpacked.
    ///
    /// # Errors
    /// See [`Error`]. Whatever was verified before stays in the store until the next collection; the name is moved only
    /// when everything is there.
    pub async fn pull(
        &self,
        name: &ImageRef,
        platform: &Platform,
        credentials: Credentials,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Descriptor, Error> {
        progress(Progress::Resolving);
        let (domain, repo) = (name.repo.domain(), name.repo.path());
        for mirror in endpoint::mirrors(domain, &self.config) {
            let host = mirror.base.authority().to_owned();
            // The registry's credentials are not the mirror's business.
            let connected = Remote::connect(
                &self.http,
                &host,
                vec![mirror],
                repo,
                "pull",
                Credentials::Anonymous,
            )
            .await;
            let pulled = match connected {
                Ok(remote) => self.pull_from(&remote, name, platform, progress).await,
                Err(error) => Err(error),
            };
            match pulled {
                Ok(descriptor) => return Ok(descriptor),
                Err(error @ Error::Store(_)) => return Err(error),
                Err(error) => tracing::warn!("mirror {host} cannot serve {name}: {error}"),
            }
        }
        let places = endpoint::endpoints(domain, &self.config);
        let remote = Remote::connect(&self.http, domain, places, repo, "pull", credentials).await?;
        self.pull_from(&remote, name, platform, progress).await
    }

    async fn pull_from(
        &self,
        remote: &Remote,
        name: &ImageRef,
        platform: &Platform,
        report: Report<'_>,
    ) -> Result<Descriptor, Error> {
        let store = self.store.clone();
        let lease = Arc::new(blocking(move || Ok(store.lease()?)).await?);
        let tag = name.tag_or_latest().filter(|_| name.digest.is_none());
        let top = self.top(remote, name, &lease).await?;
        let mut chain = vec![top];
        let image = loop {
            let document = chain.last().expect("the chain starts with the top document");
            match &document.kind {
                Kind::Manifest(manifest) => break Manifest::clone(manifest),
                Kind::Index(index) => {
                    let child =
                        platform::choose(&index.manifests, platform).filter(|_| chain.len() <= MAX_DEPTH);
                    let Some(child) = child.cloned() else {
                        return Err(Error::NoPlatform {
                            name: name.familiar(),
                            wanted: platform::text(platform),
                            available: platform::list(&index.manifests),
                        });
                    };
                    let reference = child.digest.to_string();
                    let document = self.document(
                        remote,
                        name,
                        &reference,
                        Some(&child),
                        Some(&child.digest),
                        &lease,
                    );
                    chain.push(document.await?);
                }
            }
        };
        let mut seen = BTreeSet::new();
        let blobs: Vec<_> = std::iter::once(image.config)
            .chain(image.layers)
            .filter(|blob| seen.insert(blob.digest.clone()))
            .collect();
        for blob in &blobs {
            report(Progress::Waiting(blob.clone()));
        }
        let parallel = self.config.max_concurrent_downloads.unwrap_or(DOWNLOADS).max(1);
        stream::iter(blobs.iter().map(|blob| self.blob(remote, blob, &lease, report)))
            .buffer_unordered(parallel)
            .try_collect::<()>()
            .await?;

        let (store, repo) = (self.store.clone(), name.repo.clone());
        blocking(move || {
            let mut descriptor = None;
            // The chosen manifest first, the top last: the tag moves when all of it is there.
            for (index, document) in chain.iter().enumerate().rev() {
                let tags: Vec<_> = tag.iter().filter(|_| index == 0).cloned().collect();
                let Document {
                    descriptor: what,
                    bytes,
                    ..
                } = document;
                descriptor = Some(store.put_manifest(
                    Some(&repo),
                    &what.media_type,
                    bytes,
                    Some(&what.digest),
                    &tags,
                )?);
            }
            drop(lease);
            Ok(descriptor.expect("the chain has at least one document"))
        })
        .await
    }

    /// What the name points to. A tag that we know is first asked for by HEAD: registries count GETs.
    async fn top(&self, remote: &Remote, name: &ImageRef, lease: &Arc<Lease>) -> Result<Document, Error> {
        if let Some(digest) = &name.digest {
            return self
                .document(remote, name, &digest.to_string(), None, Some(digest), lease)
                .await;
        }
        let tag = name
            .tag_or_latest()
            .expect("a reference without a digest has a tag or means latest");
        let (store, repo, wanted) = (self.store.clone(), name.repo.clone(), tag.clone());
        let known = blocking(move || Ok(store.resolve_tag(&repo, &wanted)?)).await?;
        if known.is_some()
            && let Some(digest) = Document::head(remote, tag.as_str()).await?
            && let Some(document) = self.local(name, &digest, lease).await?
        {
            return Ok(document);
        }
        self.document(remote, name, tag.as_str(), None, None, lease).await
    }

    /// A document from the store, or else from the registry.
    async fn document(
        &self,
        remote: &Remote,
        name: &ImageRef,
        reference: &str,
        expected: Option<&Descriptor>,
        digest: Option<&Digest>,
        lease: &Arc<Lease>,
    ) -> Result<Document, Error> {
        if let Some(digest) = digest
            && let Some(document) = self.local(name, digest, lease).await?
        {
            return Ok(document);
        }
        Document::fetch(remote, reference, expected, digest).await
    }

    async fn local(
        &self,
        name: &ImageRef,
        digest: &Digest,
        lease: &Arc<Lease>,
    ) -> Result<Option<Document>, Error> {
        let (store, repo, digest, lease) = (
            self.store.clone(),
            name.repo.clone(),
            digest.clone(),
            Arc::clone(lease),
        );
        blocking(move || {
            lease.manifest(&digest)?;
            store.manifest(&repo, &digest)?.map(Document::stored).transpose()
        })
        .await
    }

    async fn blob(
        &self,
        remote: &Remote,
        blob: &Descriptor,
        lease: &Arc<Lease>,
        report: Report<'_>,
    ) -> Result<(), Error> {
        let (store, lease, digest) = (self.store.clone(), Arc::clone(lease), blob.digest.clone());
        // Leased before it is looked for: what is there now stays.
        let found = blocking(move || {
            lease.blob(&digest)?;
            Ok(store.blob_info(&digest)?)
        })
        .await?;
        if let Some(found) = found {
            if found.size != blob.size {
                // Its digest is right, so the manifest lies about its size.
                return Err(Error::SizeMismatch {
                    host: remote.host.clone(),
                    path: blob.digest.to_string(),
                    expected: blob.size,
                    got: found.size,
                });
            }
            report(Progress::Exists(blob.clone()));
            return Ok(());
        }
        download::blob(remote, &self.store, &self.partial, blob, report).await?;
        report(Progress::Done(blob.clone()));
        Ok(())
    }
}
