//! Manifests and indexes as fetched or stored: exact bytes, and what they say.

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, StatusCode};

use super::error::Error;
use super::http::{BodyError, Call, Remote, header, limited};
use super::retry;
use crate::digest::{Algorithm, Digest};
use crate::oci::{Descriptor, Index, Manifest, media_type};
use crate::store::StoredManifest;

/// The specification's lower bound, and what every registry takes.
const MAX_MANIFEST_BYTES: usize = 4 << 20;
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// What a document is.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Manifest(Box<Manifest>),
    Index(Box<Index>),
}

/// A manifest or index with the bytes it came in.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) kind: Kind,
}

impl Document {
    /// Reads a stored manifest.
    pub(super) fn stored(stored: StoredManifest) -> Result<Self, Error> {
        let StoredManifest { descriptor, bytes } = stored;
        let kind = parse(&descriptor.media_type, &bytes).map_err(|reason| {
            let reason = reason.unwrap_or_else(|| "schema 1".to_owned());
            Error::Manifest {
                digest: descriptor.digest.clone(),
                reason,
            }
        })?;
        Ok(Self {
            descriptor,
            bytes,
            kind,
        })
    }

    /// Fetches by tag or digest; bytes are verified against `expected`, or else against what the registry says.
    pub(super) async fn fetch(
        remote: &Remote,
        reference: &str,
        expected: Option<&Descriptor>,
        digest: Option<&Digest>,
    ) -> Result<Self, Error> {
        let url = remote.url(&format!("manifests/{reference}"));
        let call = Call::new(Method::GET, url.clone()).header(ACCEPT, ACCEPTED);
        let mut attempt = 1;
        let (bytes, stated_type, stated_digest) = loop {
            let response = remote.send(&call).await?;
            if response.status() != StatusCode::OK {
                return Err(remote.refusal(&url, response).await);
            }
            let stated_type = header(&response, &CONTENT_TYPE).map(str::to_owned);
            let stated_digest =
                header(&response, &CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
            match limited(response, MAX_MANIFEST_BYTES).await {
                Ok(bytes) => break (bytes, stated_type, stated_digest),
                Err(BodyError::TooLarge) => {
                    let (host, path) = (remote.host.clone(), url.path().to_owned());
                    return Err(Error::ManifestTooLarge {
                        host,
                        path,
                        limit: MAX_MANIFEST_BYTES,
                    });
                }
                Err(BodyError::Transport(cause)) if attempt >= retry::ATTEMPTS => {
                    return Err(remote.broken(&url, attempt, cause));
                }
                Err(BodyError::Transport(_)) => tokio::time::sleep(retry::delay(attempt, None)).await,
            }
            attempt += 1;
        };
        let (host, path) = (remote.host.clone(), url.path().to_owned());
        let wanted = digest.cloned().or(stated_digest);
        let algorithm = wanted.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let mut hasher = algorithm.hasher();
        hasher.update(&bytes);
        let got = hasher.finish();
        if let Some(expected) = wanted.filter(|wanted| *wanted != got) {
            return Err(Error::DigestMismatch {
                host,
                path,
                expected,
                got,
            });
        }
        let size = bytes.len() as u64;
        if let Some(expected) = expected
            .map(|descriptor| descriptor.size)
            .filter(|expected| *expected != size)
        {
            return Err(Error::SizeMismatch {
                host,
                path,
                expected,
                got: size,
            });
        }
        let media_type = media_type_of(stated_type.as_deref(), &bytes);
        let kind = match parse(&media_type, &bytes) {
            Ok(kind) => kind,
            Err(None) => return Err(Error::Schema1 { host, path }),
            Err(Some(reason)) => return Err(Error::Manifest { digest: got, reason }),
        };
        Ok(Self {
            descriptor: Descriptor::new(media_type, got, size),
            bytes,
            kind,
        })
    }

    /// What a tag points to, if the registry says so without sending it.
    pub(super) async fn head(remote: &Remote, reference: &str) -> Result<Option<Digest>, Error> {
        let url = remote.url(&format!("manifests/{reference}"));
        let response = remote
            .send(&Call::new(Method::HEAD, url).header(ACCEPT, ACCEPTED))
            .await?;
        Ok(header(&response, &CONTENT_DIGEST)
            .filter(|_| response.status() == StatusCode::OK)
            .and_then(|text| text.parse().ok()))
    }
}

/// The type that the registry states; if it is none for a manifest, the one that the document states or looks like.
fn media_type_of(stated: Option<&str>, bytes: &[u8]) -> String {
    let stated = stated.map(|text| text.split(';').next().unwrap_or(text).trim());
    let generic = |kind: &&str| {
        matches!(
            *kind,
            "" | "application/json" | "application/octet-stream" | "text/plain"
        )
    };
    if let Some(stated) = stated.filter(|kind| !generic(kind)) {
        return stated.to_owned();
    }
    let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    match value.get("mediaType").and_then(|kind| kind.as_str()) {
        Some(declared) => declared.to_owned(),
        None if value.get("manifests").is_some() => media_type::OCI_INDEX.to_owned(),
        None => media_type::OCI_MANIFEST.to_owned(),
    }
}

/// Reads a document; `Err(None)` for schema 1.
fn parse(media_type: &str, bytes: &[u8]) -> Result<Kind, Option<String>> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: Option<u32>,
    }
    let text = |error: serde_json::Error| Some(error.to_string());
    if media_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(None);
    }
    let head: Head = serde_json::from_slice(bytes).map_err(text)?;
    match head.schema_version {
        Some(2) => {}
        Some(1) => return Err(None),
        other => return Err(Some(format!("schemaVersion {other:?} is not 2"))),
    }
    match media_type {
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST => serde_json::from_slice(bytes)
            .map(|manifest| Kind::Manifest(Box::new(manifest)))
            .map_err(text),
        media_type::OCI_INDEX | media_type::DOCKER_LIST => serde_json::from_slice(bytes)
            .map(|index| Kind::Index(Box::new(index)))
            .map_err(text),
        other => Err(Some(format!("unsupported media type {other:?}"))),
    }
}

/// Layers that registries do not hold (image-spec, non-distributable layers; Docker's foreign layers).
pub(super) fn is_elsewhere(layer: &Descriptor) -> bool {
    !layer.urls.is_empty()
        && (layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign"))
}
