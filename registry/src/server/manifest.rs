//! Manifests and indexes: GET, HEAD, PUT and DELETE, by tag and by digest. Bytes and type are kept as pushed.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::body::blocking;
use super::dispatch::{
    CONTENT_DIGEST, Registry, Repo, empty, etag, not_modified, parse_digest, value, with_type,
};
use super::error::ApiError;
use super::query::Query;
use crate::digest::Digest;
use crate::oci::{Descriptor, Index, Manifest, media_type};
use crate::reference::{RepoName, Tag};
use crate::store::Store;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");
/// Most tags that one PUT may set.
const MAX_TAGS: usize = 100;

/// The last part of a manifest URL.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    Tag(Tag),
    Digest(Digest),
}

impl Reference {
    /// Whatever has a colon is a digest, well-formed or not: tags have none.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.contains(':') {
            parse_digest(text).map(Self::Digest)
        } else {
            text.parse().map(Self::Tag).map_err(|error| ApiError::tag(&error))
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Tag(tag) => tag.to_string(),
            Self::Digest(digest) => digest.to_string(),
        }
    }
}

pub(super) async fn get(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let stored = blocking(move || {
        let digest = match &reference {
            Reference::Digest(digest) => Some(digest.clone()),
            Reference::Tag(tag) => registry
                .store
                .resolve_tag(&repo.name, tag)?
                .map(|found| found.digest),
        };
        let stored = match &digest {
            Some(digest) => registry.store.manifest(&repo.name, digest)?,
            None => None,
        };
        stored.ok_or_else(|| ApiError::manifest_unknown(&reference.text()))
    })
    .await?;
    let digest = &stored.descriptor.digest;
    let mut response = if not_modified(headers, digest) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        with_type(stored.bytes, value(&stored.descriptor.media_type))
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_DIGEST, value(digest.to_string()));
    headers.insert(header::ETAG, etag(digest));
    Ok(response)
}

pub(super) async fn put(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut tags = query
        .all("tag")
        .map(|tag| tag.parse().map_err(|error| ApiError::tag(&error)))
        .collect::<Result<Vec<Tag>, _>>()?;
    let asked = tags.clone();
    let digest = match &reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(tag) => {
            tags.push(tag.clone());
            None
        }
    };
    tags.sort();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(ApiError::manifest_invalid(format!(
            "more than {MAX_TAGS} tags in one request"
        )));
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let bytes = collect(body, registry.options.max_manifest_bytes).await?;
    let (location, descriptor, subject) = blocking(move || {
        if let Some(expected) = &digest {
            verify(&bytes, expected)?;
        }
        let document = Document::parse(content_type.as_deref(), &bytes)?;
        let missing = missing_blobs(&registry.store, &repo.name, &document)?;
        if !missing.is_empty() {
            return Err(ApiError::manifest_blobs_unknown(&missing));
        }
        let stored = registry.store.put_manifest(
            Some(&repo.name),
            &document.media_type,
            &bytes,
            digest.as_ref(),
            &tags,
        )?;
        let location = format!("/v2/{}/manifests/{}", repo.text, stored.digest);
        Ok((location, stored, document.subject))
    })
    .await?;
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, value(location));
    headers.insert(CONTENT_DIGEST, value(descriptor.digest.to_string()));
    if let Some(subject) = subject {
        headers.insert(OCI_SUBJECT, value(subject.to_string()));
    }
    for tag in asked {
        headers.append(OCI_TAG, value(tag.as_str()));
    }
    Ok(response)
}

pub(super) async fn delete(
    registry: Arc<Registry>,
    repo: Repo,
    reference: Reference,
) -> Result<Response, ApiError> {
    if !registry.options.allow_delete {
        return Err(ApiError::method());
    }
    blocking(move || {
        let deleted = match &reference {
            Reference::Tag(tag) => registry.store.delete_tag(&repo.name, tag)?,
            Reference::Digest(digest) => registry.store.delete_manifest(&repo.name, digest)?,
        };
        if deleted {
            Ok(empty(StatusCode::ACCEPTED))
        } else {
            Err(ApiError::manifest_unknown(&reference.text()))
        }
    })
    .await
}

async fn collect(body: Body, limit: usize) -> Result<Vec<u8>, ApiError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes().to_vec()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::manifest_too_large(limit)),
        Err(error) => Err(ApiError::manifest_invalid(format!("the body broke off: {error}"))),
    }
}

fn verify(bytes: &[u8], expected: &Digest) -> Result<(), ApiError> {
    let mut hasher = expected.algorithm().hasher();
    hasher.update(bytes);
    let got = hasher.finish();
    if got == *expected {
        Ok(())
    } else {
        Err(ApiError::digest_mismatch(expected, &got))
    }
}

/// What a pushed manifest says of itself.
#[derive(Debug)]
struct Document {
    media_type: String,
    /// Blobs that its repository must hold.
    blobs: Vec<Digest>,
    subject: Option<Digest>,
}

impl Document {
    fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ApiError> {
        let invalid =
            |error: serde_json::Error| ApiError::manifest_invalid(format!("not a manifest: {error}"));
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(invalid)?;
        let declared = value.get("mediaType").and_then(|kind| kind.as_str());
        let stated = content_type.map(|text| text.split(';').next().unwrap_or(text).trim());
        let media_type = match (stated.filter(|kind| !kind.is_empty()), declared) {
            (Some(stated), Some(declared)) if stated != declared => {
                let message = format!("Content-Type {stated:?} and mediaType {declared:?} differ");
                return Err(ApiError::manifest_invalid(message));
            }
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) if value.get("manifests").is_some() => media_type::OCI_INDEX,
            (None, None) => media_type::OCI_MANIFEST,
        }
        .to_owned();
        let (version, blobs, subject) = match media_type.as_str() {
            media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
                let distributable = manifest.layers.into_iter().filter(|layer| !is_elsewhere(layer));
                let blobs = std::iter::once(manifest.config).chain(distributable);
                (
                    manifest.schema_version,
                    blobs.map(|blob| blob.digest).collect(),
                    manifest.subject,
                )
            }
            // Children may be missing: an index can be sparse, as images of one platform are.
            media_type::OCI_INDEX | media_type::DOCKER_LIST => {
                let index: Index = serde_json::from_slice(bytes).map_err(invalid)?;
                (index.schema_version, Vec::new(), index.subject)
            }
            other => {
                return Err(ApiError::manifest_invalid(format!(
                    "unsupported manifest type {other:?}"
                )));
            }
        };
        if version != 2 {
            return Err(ApiError::manifest_invalid(format!(
                "unsupported schemaVersion {version}: expected 2"
            )));
        }
        Ok(Self {
            media_type,
            blobs,
            subject: subject.map(|subject| subject.digest),
        })
    }
}

/// Layers that registries do not hold (image-spec, non-distributable layers; Docker's foreign layers).
fn is_elsewhere(layer: &Descriptor) -> bool {
    !layer.urls.is_empty()
        && (layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign"))
}

fn missing_blobs(store: &Store, repo: &RepoName, document: &Document) -> Result<Vec<Digest>, ApiError> {
    let mut missing = Vec::new();
    for digest in &document.blobs {
        if !missing.contains(digest) && !store.repo_has_blob(repo, digest)? {
            missing.push(digest.clone());
        }
    }
    Ok(missing)
}
