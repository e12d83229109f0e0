//! Blob uploads: mount, single POST, sessions with PATCH and PUT, status and cancellation.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::body::{Received, blocking, receive};
use super::dispatch::{CONTENT_DIGEST, Registry, Repo, empty, parse_digest, value};
use super::error::{ApiError, Code};
use super::query::Query;
use super::session::{self, Held, Taken};
use crate::digest::{Algorithm, Digest};
use crate::reference::RepoName;
use crate::store::Ingest;

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// The session that a request names.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) repo: Repo,
    pub(super) session: String,
}

impl Target {
    fn ingest_id(&self) -> Result<&str, ApiError> {
        session::ingest_id(&self.session, &self.repo.name).ok_or_else(ApiError::upload_unknown)
    }
}

/// POST: a mount, an upload in one request, or a new session.
pub(super) async fn start(
    registry: Arc<Registry>,
    repo: Repo,
    query: &Query,
    body: Body,
) -> Result<Response, ApiError> {
    if let Some(name) = query.get("digest-algorithm")
        && ![Algorithm::Sha256, Algorithm::Sha512]
            .iter()
            .any(|known| known.as_str() == name)
    {
        let message = format!("unsupported digest algorithm {name:?}");
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            Code::DigestInvalid,
            message,
        ));
    }
    if let Some(digest) = query.get("digest") {
        let digest = parse_digest(digest)?;
        let (registry, ingest) = on_store(registry, |registry| Ok(registry.store.ingest()?)).await?;
        let held = registry.busy.hold(&ingest);
        return complete(registry, repo, ingest, held, digest, body).await;
    }
    if let Some(digest) = query.get("mount") {
        let digest = parse_digest(digest)?;
        let from = query.get("from").and_then(|from| from.parse::<RepoName>().ok());
        let target = repo.clone();
        let (_, mounted) = on_store(Arc::clone(&registry), move |registry| {
            mount(registry, &target.name, &digest, from.as_ref()).map(|mounted| mounted.then_some(digest))
        })
        .await?;
        if let Some(digest) = mounted {
            return Ok(created(&repo, &digest));
        }
    }
    let (_, id) = on_store(registry, |registry| Ok(registry.store.ingest()?.suspend()?)).await?;
    let target = Target {
        session: session::url_name(&id, &repo.name),
        repo,
    };
    Ok(progress(&target, 0, StatusCode::ACCEPTED))
}

/// Makes a blob that the store has visible in `repo`. Every repository is readable by everyone who may ask here, so
/// `from` is a hint only: a blob that some other repository holds is mounted as well, as the specification allows.
fn mount(
    registry: &Registry,
    repo: &RepoName,
    digest: &Digest,
    from: Option<&RepoName>,
) -> Result<bool, ApiError> {
    let store = &registry.store;
    let named = match from {
        Some(from) => store.repo_has_blob(from, digest)?,
        None => false,
    };
    if !named && store.blob_info(digest)?.is_none() {
        return Ok(false);
    }
    store.link_blob(repo, digest)?;
    Ok(true)
}

/// PATCH: appends to a session.
pub(super) async fn append(
    registry: Arc<Registry>,
    target: Target,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (_, ingest, held) = take(registry, &target, headers).await?;
    // A task of its own: it stores what has arrived even when the client's connection goes away.
    tokio::spawn(async move {
        let (ingest, broken) = match receive(ingest, body, &held.offset).await {
            Received::Whole(ingest) => (ingest, None),
            Received::Broken(ingest, cause) => (ingest, Some(cause)),
            Received::Failed(error) => return Err(error.into()),
        };
        let len = ingest.len();
        blocking(move || Ok(ingest.suspend()?)).await?;
        drop(held);
        match broken {
            None => Ok(progress(&target, len, StatusCode::ACCEPTED)),
            Some(cause) => Err(broke_off(&cause)),
        }
    })
    .await
    .unwrap_or_else(|panic| Err(ApiError::internal(&panic)))
}

/// PUT: the last chunk, if any, and the digest of the whole.
pub(super) async fn finish(
    registry: Arc<Registry>,
    target: Target,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let digest = query.get("digest").ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            Code::DigestInvalid,
            "the digest parameter is missing",
        )
    })?;
    let digest = parse_digest(digest)?;
    let (registry, ingest, held) = take(registry, &target, headers).await?;
    complete(registry, target.repo, ingest, held, digest, body).await
}

/// Receives the rest of a blob, verifies and publishes it and links it to the repository.
async fn complete(
    registry: Arc<Registry>,
    repo: Repo,
    ingest: Ingest,
    held: Held,
    digest: Digest,
    body: Body,
) -> Result<Response, ApiError> {
    tokio::spawn(async move {
        match receive(ingest, body, &held.offset).await {
            Received::Whole(ingest) => {
                blocking(move || {
                    // Leased, because between its publication and its link nothing else keeps the blob.
                    let lease = registry.store.lease()?;
                    lease.blob(&digest)?;
                    ingest.commit(Some(&digest))?;
                    registry.store.link_blob(&repo.name, &digest)?;
                    Ok(created(&repo, &digest))
                })
                .await
            }
            Received::Broken(ingest, cause) => {
                blocking(move || Ok(ingest.suspend()?)).await?;
                Err(broke_off(&cause))
            }
            Received::Failed(error) => Err(error.into()),
        }
    })
    .await
    .unwrap_or_else(|panic| Err(ApiError::internal(&panic)))
}

/// GET: how far the session is.
pub(super) async fn status(registry: Arc<Registry>, target: Target) -> Result<Response, ApiError> {
    let id = target.ingest_id()?.to_owned();
    let (_, offset) = on_store(registry, move |registry| {
        let offset = registry.busy.standing(&registry.store, &id)?;
        offset.ok_or_else(ApiError::upload_unknown)
    })
    .await?;
    Ok(progress(&target, offset, StatusCode::NO_CONTENT))
}

/// DELETE: gives the session up.
pub(super) async fn cancel(registry: Arc<Registry>, target: Target) -> Result<Response, ApiError> {
    let id = target.ingest_id()?.to_owned();
    on_store(registry, move |registry| {
        match registry.busy.take(&registry.store, &id)? {
            // Dropping an ingest deletes it.
            Taken::Ours(ingest, held) => {
                drop(ingest);
                drop(held);
                Ok(empty(StatusCode::NO_CONTENT))
            }
            Taken::Busy(_) => {
                let message = "the upload is being written to";
                Err(ApiError::new(
                    StatusCode::CONFLICT,
                    Code::BlobUploadInvalid,
                    message,
                ))
            }
            Taken::Unknown => Err(ApiError::upload_unknown()),
        }
    })
    .await
    .map(|(_, response)| response)
}

/// Takes the session for writing if the request continues where it stands.
async fn take(
    registry: Arc<Registry>,
    target: &Target,
    headers: &HeaderMap,
) -> Result<(Arc<Registry>, Ingest, Held), ApiError> {
    let id = target.ingest_id()?.to_owned();
    let chunk = Chunk::parse(headers)?;
    let (registry, taken) = on_store(registry, move |registry| {
        Ok(match registry.busy.take(&registry.store, &id)? {
            Taken::Ours(ingest, held) if chunk.is_some_and(|chunk| chunk.first != ingest.len()) => {
                let len = ingest.len();
                ingest.suspend()?;
                drop(held);
                Taken::Busy(len)
            }
            taken => taken,
        })
    })
    .await?;
    match taken {
        Taken::Ours(ingest, held) => Ok((registry, *ingest, held)),
        Taken::Busy(offset) => {
            let message = "the chunk does not continue the upload where it stands";
            let stands = progress(target, offset, StatusCode::ACCEPTED)
                .into_parts()
                .0
                .headers;
            let mut error = ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                Code::BlobUploadInvalid,
                message,
            );
            for name in [header::RANGE, header::LOCATION] {
                if let Some(value) = stands.get(&name) {
                    error = error.with_header(name, value.clone());
                }
            }
            Err(error)
        }
        Taken::Unknown => Err(ApiError::upload_unknown()),
    }
}

/// A `Content-Range` of a chunk: `first-last`, inclusive, without a unit.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    first: u64,
}

impl Chunk {
    fn parse(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(header) = headers.get(header::CONTENT_RANGE) else {
            return Ok(None);
        };
        let invalid = |message| ApiError::new(StatusCode::BAD_REQUEST, Code::BlobUploadInvalid, message);
        let text = header.to_str().unwrap_or_default();
        // `bytes a-b/*` is what RFC 9110 would have; some clients send it.
        let text = text.strip_prefix("bytes ").unwrap_or(text);
        let text = text.split_once('/').map_or(text, |(range, _)| range);
        let range = text.split_once('-').and_then(|(first, last)| {
            Some((
                first.trim().parse::<u64>().ok()?,
                last.trim().parse::<u64>().ok()?,
            ))
        });
        let Some((first, last)) = range else {
            return Err(invalid("malformed Content-Range"));
        };
        let length = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let spans = last.checked_sub(first).and_then(|span| span.checked_add(1));
        match (spans, length) {
            (None, Some(0)) => Ok(Some(Self { first })),
            (None, _) => Err(invalid("Content-Range runs backwards")),
            (Some(spans), Some(length)) if spans != length => Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                Code::SizeInvalid,
                "Content-Range and Content-Length differ",
            )),
            _ => Ok(Some(Self { first })),
        }
    }
}

fn broke_off(cause: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_REQUEST,
        Code::BlobUploadInvalid,
        format!("the body broke off: {cause}"),
    )
}

/// Runs store work with the registry on a blocking thread and gives the registry back.
async fn on_store<T: Send + 'static>(
    registry: Arc<Registry>,
    work: impl FnOnce(&Registry) -> Result<T, ApiError> + Send + 'static,
) -> Result<(Arc<Registry>, T), ApiError> {
    blocking(move || {
        let done = work(&registry)?;
        Ok((registry, done))
    })
    .await
}

/// Where a session stands. An empty session says `0-0`, as every registry does.
fn progress(target: &Target, offset: u64, status: StatusCode) -> Response {
    let mut response = empty(status);
    let headers = response.headers_mut();
    let location = format!("/v2/{}/blobs/uploads/{}", target.repo.text, target.session);
    headers.insert(header::LOCATION, value(location));
    headers.insert(header::RANGE, value(format!("0-{}", offset.saturating_sub(1))));
    headers.insert(UPLOAD_UUID, value(&target.session));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH);
    }
    response
}

fn created(repo: &Repo, digest: &Digest) -> Response {
    let mut response = empty(StatusCode::CREATED);
    let headers = response.headers_mut();
    headers.insert(
        header::LOCATION,
        value(format!("/v2/{}/blobs/{digest}", repo.text)),
    );
    headers.insert(CONTENT_DIGEST, value(digest.to_string()));
    response
}
