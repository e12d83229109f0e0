//! The router and what every request goes through.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::error::ApiError;
use super::query::Query;
use super::route::{self, Route};
use super::session::Busy;
use super::{blob, listing, manifest, upload};
use crate::digest::Digest;
use crate::reference::RepoName;
use crate::store::Store;

pub(super) const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How the registry behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Largest manifest accepted, in bytes; more is answered with 413. The specification asks for at least 4 MiB.
    pub max_manifest_bytes: usize,
    /// Whether tags, manifests and blobs can be deleted; 405 if not.
    pub allow_delete: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_manifest_bytes: 4 << 20,
            allow_delete: true,
        }
    }
}

/// What the handlers share.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) store: Store,
    pub(super) options: Options,
    pub(super) busy: Busy,
}

/// A repository as a request names it.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    /// As it stands in the URL; used in answers.
    pub(super) text: String,
    /// What it means.
    pub(super) name: RepoName,
}

impl Repo {
    fn parse(text: String) -> Result<Self, ApiError> {
        match text.parse() {
            Ok(name) => Ok(Self { text, name }),
            Err(error) => Err(ApiError::name(&text, &error)),
        }
    }
}

/// The router for `/v2/…` over `store` with default [`Options`].
pub fn router(store: Store) -> Router {
    router_with(store, Options::default())
}

/// The router for `/v2/…` over `store`. It serves nothing else, so it can be merged with other routers and wrapped in
/// layers (authorization, metrics); body limits are its own.
pub fn router_with(store: Store, options: Options) -> Router {
    let registry = Arc::new(Registry {
        store,
        options,
        busy: Busy::default(),
    });
    Router::new()
        .route("/v2", any(dispatch))
        .route("/v2/", any(dispatch))
        .route("/v2/{*rest}", any(dispatch))
        .with_state(registry)
}

async fn dispatch(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    let mut response = answer(registry, request)
        .await
        .unwrap_or_else(IntoResponse::into_response);
    response
        .headers_mut()
        .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

async fn answer(registry: Arc<Registry>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let route = route::parse(parts.uri.path()).ok_or_else(ApiError::no_endpoint)?;
    let query = Query::parse(parts.uri.query());
    let (method, headers) = (parts.method, parts.headers);
    let read = method == Method::GET || method == Method::HEAD;
    match route {
        Route::Base if read => Ok(json("{}")),
        Route::Catalog if read => listing::catalog(registry, &query).await,
        Route::Tags { name } if read => listing::tags(registry, Repo::parse(name)?, &query).await,
        Route::Referrers { name, digest } if read => {
            listing::referrers(registry, Repo::parse(name)?, parse_digest(&digest)?, &query).await
        }
        Route::Manifest { name, reference } => {
            let repo = Repo::parse(name)?;
            let reference = manifest::Reference::parse(&reference)?;
            match method {
                Method::GET | Method::HEAD => manifest::get(registry, repo, reference, &headers).await,
                Method::PUT => manifest::put(registry, repo, reference, &query, &headers, body).await,
                Method::DELETE => manifest::delete(registry, repo, reference).await,
                _ => Err(ApiError::method()),
            }
        }
        Route::Blob { name, digest } => {
            let (repo, digest) = (Repo::parse(name)?, parse_digest(&digest)?);
            match method {
                Method::GET | Method::HEAD => {
                    blob::get(registry, repo, digest, &headers, method == Method::HEAD).await
                }
                Method::DELETE => blob::delete(registry, repo, digest).await,
                _ => Err(ApiError::method()),
            }
        }
        Route::Uploads { name } if method == Method::POST => {
            upload::start(registry, Repo::parse(name)?, &query, body).await
        }
        Route::Upload { name, session } => {
            let target = upload::Target {
                repo: Repo::parse(name)?,
                session,
            };
            match method {
                Method::GET | Method::HEAD => upload::status(registry, target).await,
                Method::PATCH => upload::append(registry, target, &headers, body).await,
                Method::PUT => upload::finish(registry, target, &query, &headers, body).await,
                Method::DELETE => upload::cancel(registry, target).await,
                _ => Err(ApiError::method()),
            }
        }
        _ => Err(ApiError::method()),
    }
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error| ApiError::digest(&error))
}

/// A 200 with a JSON body.
pub(super) fn json(body: impl Into<Body>) -> Response {
    with_type(body, HeaderValue::from_static("application/json"))
}

/// A 200 with a body of the given type.
pub(super) fn with_type(body: impl Into<Body>, media_type: HeaderValue) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// A header value made of text of ours: digests, names and numbers, all of them visible ASCII.
pub(super) fn value(text: impl AsRef<str>) -> HeaderValue {
    HeaderValue::from_str(text.as_ref()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether `If-None-Match` names the entity of `digest`: quoted or not, in a list, weak, or `*`.
pub(super) fn not_modified(headers: &HeaderMap, digest: &Digest) -> bool {
    let digest = digest.to_string();
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|list| {
            list.split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"') == digest)
        })
}

/// The entity tag of a digest.
pub(super) fn etag(digest: &Digest) -> HeaderValue {
    value(format!("\"{digest}\""))
}
