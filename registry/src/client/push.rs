//! Pushing an image.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::credentials::Credentials;
use super::document::{Document, Kind, is_elsewhere};
use super::download::blocking;
use super::endpoint;
use super::error::Error;
use super::http::{Call, Remote};
use super::progress::{Progress, Report};
use super::pull::Client;
use super::upload::Upload;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::reference::{ImageRef, RepoName};
use crate::store::Store;

/// Blobs uploaded at once, as in Docker.
const UPLOADS: usize = 5;
const MAX_DEPTH: usize = 4;
/// Repositories of the same registry that are looked through for a blob to mount.
const MAX_SOURCES: usize = 64;

/// What a push consists of: documents in the order they must arrive, the named one last.
struct Plan {
    documents: Vec<Document>,
    /// Children of indexes that the store does not have.
    missing: Vec<Digest>,
    lease: crate::store::Lease,
    sources: Vec<RepoName>,
}

impl Client {
    /// Pushes what `name` points to in the store, byte-identical; returns its descriptor. Of an index, the children
    /// that the store has are pushed. A registry that refuses such an index gets the image alone if there is just one,
    /// as Docker does; the returned descriptor is then the image's, and a [`Progress::Note`] says so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn push(
        &self,
        name: &ImageRef,
        credentials: Credentials,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Descriptor, Error> {
        let (store, wanted) = (self.store.clone(), name.clone());
        let plan = blocking(move || Plan::make(&store, &wanted)).await?;
        let domain = name.repo.domain();
        let places = endpoint::endpoints(domain, &self.config);
        let remote = Remote::connect(
            &self.http,
            domain,
            places,
            name.repo.path(),
            "pull,push",
            credentials,
        )
        .await?;
        let mut done = BTreeSet::new();
        for document in &plan.documents {
            self.push_blobs(&remote, name, &plan, document, &mut done, progress)
                .await?;
            let last = document.descriptor.digest == plan.top().descriptor.digest;
            let tag = name.tag_or_latest().filter(|_| last);
            let reference = tag.map_or_else(|| document.descriptor.digest.to_string(), |tag| tag.to_string());
            match put(&remote, &reference, document).await {
                Ok(()) => progress(Progress::Pushed(document.descriptor.clone())),
                Err(error) if last => return plan.fall_back(&remote, name, error, progress).await,
                Err(error) => return Err(error),
            }
        }
        let pushed = plan.top().descriptor.clone();
        blocking(move || {
            drop(plan.lease);
            Ok(pushed)
        })
        .await
    }

    async fn push_blobs(
        &self,
        remote: &Remote,
        name: &ImageRef,
        plan: &Plan,
        document: &Document,
        done: &mut BTreeSet<Digest>,
        report: Report<'_>,
    ) -> Result<(), Error> {
        let Kind::Manifest(manifest) = &document.kind else {
            return Ok(());
        };
        let blobs = std::iter::once(&manifest.config).chain(&manifest.layers);
        let blobs: Vec<_> = blobs
            .filter(|blob| !is_elsewhere(blob))
            .filter(|blob| done.insert(blob.digest.clone()))
            .collect();
        for blob in &blobs {
            report(Progress::Waiting((*blob).clone()));
        }
        let uploads = blobs.into_iter().map(async |blob| {
            let (store, digest, sources) = (self.store.clone(), blob.digest.clone(), plan.sources.clone());
            let (size, source) = blocking(move || {
                let size = store.blob_info(&digest)?.map(|info| info.size);
                Ok((size, source(&store, &sources, &digest)?))
            })
            .await?;
            let upload = Upload {
                remote,
                store: &self.store,
                blob,
                report,
            };
            match size {
                // Others may have brought it there: a cache that is added to names their layers.
                None if upload.exists().await? => Ok(()),
                None => Err(Error::Incomplete {
                    name: name.familiar(),
                    digest: blob.digest.clone(),
                }),
                Some(size) if size != blob.size => {
                    let reason = format!("blob {} has {size} bytes, not {}", blob.digest, blob.size);
                    Err(Error::Manifest {
                        digest: document.descriptor.digest.clone(),
                        reason,
                    })
                }
                Some(_) => upload.run(source.as_ref()).await,
            }
        });
        stream::iter(uploads)
            .buffer_unordered(UPLOADS)
            .try_collect::<()>()
            .await
    }
}

impl Plan {
    /// Collects and leases what to push. Blocking.
    fn make(store: &Store, name: &ImageRef) -> Result<Self, Error> {
        let not_local = || Error::NotLocal(name.familiar());
        let digest = match (&name.digest, name.tag_or_latest()) {
            (Some(digest), _) => digest.clone(),
            (None, Some(tag)) => store.resolve_tag(&name.repo, &tag)?.ok_or_else(not_local)?.digest,
            (None, None) => return Err(not_local()),
        };
        let lease = store.lease()?;
        let mut plan = Self {
            documents: Vec::new(),
            missing: Vec::new(),
            lease,
            sources: Vec::new(),
        };
        if !plan.collect(store, name, &digest, 0)? {
            return Err(not_local());
        }
        let siblings = store.repositories(None, None)?.into_iter();
        let siblings = siblings.filter(|repo| repo.domain() == name.repo.domain() && *repo != name.repo);
        plan.sources = siblings.take(MAX_SOURCES).collect();
        Ok(plan)
    }

    /// Adds a document after its children; false if the store does not have it.
    fn collect(
        &mut self,
        store: &Store,
        name: &ImageRef,
        digest: &Digest,
        depth: usize,
    ) -> Result<bool, Error> {
        if self
            .documents
            .iter()
            .any(|document| document.descriptor.digest == *digest)
        {
            return Ok(true);
        }
        self.lease.manifest(digest)?;
        let Some(stored) = store.manifest(&name.repo, digest)? else {
            return Ok(false);
        };
        let document = Document::stored(stored)?;
        if let Kind::Index(index) = &document.kind {
            if depth >= MAX_DEPTH {
                let reason = format!("indexes are nested more than {MAX_DEPTH} deep");
                return Err(Error::Manifest {
                    digest: digest.clone(),
                    reason,
                });
            }
            for child in &index.manifests {
                if !self.collect(store, name, &child.digest, depth + 1)? {
                    self.missing.push(child.digest.clone());
                }
            }
        }
        self.documents.push(document);
        Ok(true)
    }

    fn top(&self) -> &Document {
        self.documents
            .last()
            .expect("a plan holds at least the document it was made for")
    }

    /// Pushes the only image of an incomplete index under the index's tag, if that is why it was refused.
    async fn fall_back(
        &self,
        remote: &Remote,
        name: &ImageRef,
        error: Error,
        report: Report<'_>,
    ) -> Result<Descriptor, Error> {
        let refused = matches!(&error, Error::Status { status: 400, .. } | Error::NotFound { .. });
        let images = self
            .documents
            .iter()
            .filter(|document| matches!(document.kind, Kind::Manifest(_)));
        let mut images = images.filter(|image| !is_attestation(image));
        let (image, other) = (images.next(), images.next());
        let tag = name.tag_or_latest();
        let (Some(image), None, Some(tag)) = (image, other, tag) else {
            return Err(error);
        };
        if !refused || self.missing.is_empty() {
            return Err(error);
        }
        put(remote, tag.as_str(), image).await?;
        report(Progress::Note(format!(
            "the registry does not take an index without all its images ({} are not here): pushed the single image {}",
            self.missing.len(),
            image.descriptor.digest
        )));
        report(Progress::Pushed(image.descriptor.clone()));
        Ok(image.descriptor.clone())
    }
}

/// BuildKit's attestations are manifests of in-toto layers, no images.
fn is_attestation(document: &Document) -> bool {
    let Kind::Manifest(manifest) = &document.kind else {
        return false;
    };
    manifest
        .layers
        .iter()
        .any(|layer| layer.media_type.starts_with("application/vnd.in-toto"))
}

/// A repository of the same registry that holds the blob here, and so probably there.
fn source(store: &Store, sources: &[RepoName], digest: &Digest) -> Result<Option<RepoName>, Error> {
    for repo in sources {
        if store.repo_has_blob(repo, digest)? {
            return Ok(Some(repo.clone()));
        }
    }
    Ok(None)
}

async fn put(remote: &Remote, reference: &str, document: &Document) -> Result<(), Error> {
    let url = remote.url(&format!("manifests/{reference}"));
    let mut call = Call::new(Method::PUT, url.clone()).header(CONTENT_TYPE, &document.descriptor.media_type);
    call.body = Bytes::from(document.bytes.clone());
    let response = remote.send(&call).await?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(remote.refusal(&url, response).await)
    }
}
