//! Blobs: GET and HEAD with ranges, DELETE.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::body::{blocking, stream_blob};
use super::dispatch::{CONTENT_DIGEST, Registry, Repo, empty, etag, not_modified, value};
use super::error::{ApiError, Code};
use super::range::{self, Wanted};
use crate::digest::Digest;
use crate::pipe::Part;

pub(super) async fn get(
    registry: Arc<Registry>,
    repo: Repo,
    digest: Digest,
    headers: &HeaderMap,
    head: bool,
) -> Result<Response, ApiError> {
    let store = registry.store.clone();
    let wanted = digest.clone();
    let size = blocking(move || {
        let info = if store.repo_has_blob(&repo.name, &wanted)? {
            store.blob_info(&wanted)?
        } else {
            None
        };
        info.map(|info| info.size)
            .ok_or_else(|| ApiError::blob_unknown(&wanted))
    })
    .await?;

    let mut response = if not_modified(headers, &digest) {
        empty(StatusCode::NOT_MODIFIED)
    } else if head {
        sized(Body::empty(), size)
    } else {
        match range::parse(range_header(headers, &digest), size) {
            Wanted::Whole => {
                let parts = VecDeque::from([Part::Blob { start: 0, len: size }]);
                sized(stream_blob(registry.store.clone(), digest.clone(), parts), size)
            }
            Wanted::Unsatisfiable => {
                let message = "requested range is not in the blob";
                return Err(
                    ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, message)
                        .with_header(header::CONTENT_RANGE, value(format!("bytes */{size}"))),
                );
            }
            Wanted::Ranges(ranges) => partial(&registry, &digest, size, &ranges),
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_DIGEST, value(digest.to_string()));
    headers.insert(header::ETAG, etag(&digest));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=31536000, immutable"),
    );
    Ok(response)
}

pub(super) async fn delete(
    registry: Arc<Registry>,
    repo: Repo,
    digest: Digest,
) -> Result<Response, ApiError> {
    if !registry.options.allow_delete {
        return Err(ApiError::method());
    }
    blocking(move || {
        if registry.store.unlink_blob(&repo.name, &digest)? {
            Ok(empty(StatusCode::ACCEPTED))
        } else {
            Err(ApiError::blob_unknown(&digest))
        }
    })
    .await
}

/// The `Range` header, unless an `If-Range` says that it was meant for other bytes.
fn range_header<'a>(headers: &'a HeaderMap, digest: &Digest) -> Option<&'a str> {
    let same = headers
        .get(header::IF_RANGE)
        .is_none_or(|tag| *tag == etag(digest));
    headers.get(header::RANGE).filter(|_| same)?.to_str().ok()
}

fn sized(body: Body, size: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response
}

/// A 206: plain for one range, `multipart/byteranges` for several.
fn partial(registry: &Registry, digest: &Digest, size: u64, ranges: &[(u64, u64)]) -> Response {
    let content_range = |first: u64, last: u64| format!("bytes {first}-{last}/{size}");
    if let [(first, last)] = *ranges {
        let len = last - first + 1;
        let parts = VecDeque::from([Part::Blob { start: first, len }]);
        let mut response = sized(stream_blob(registry.store.clone(), digest.clone(), parts), len);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        response
            .headers_mut()
            .insert(header::CONTENT_RANGE, value(content_range(first, last)));
        return response;
    }
    // Podman reads the boundary unquoted. It need not be unguessable: parts are found by their lengths, and a blob
    // cannot contain a hash over its own digest by accident.
    let boundary = &Digest::sha256(digest.to_string().as_bytes()).hex()[..32].to_owned();
    let mut parts = VecDeque::new();
    let mut total = 0;
    for (index, &(first, last)) in ranges.iter().enumerate() {
        let lead = if index == 0 { "" } else { "\r\n" };
        let head = format!(
            "{lead}--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
            content_range(first, last)
        );
        let len = last - first + 1;
        total += head.len() as u64 + len;
        parts.extend([Part::Text(head.into()), Part::Blob { start: first, len }]);
    }
    let tail = format!("\r\n--{boundary}--\r\n");
    total += tail.len() as u64;
    parts.push_back(Part::Text(tail.into()));
    let mut response = sized(stream_blob(registry.store.clone(), digest.clone(), parts), total);
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let media_type = value(format!("multipart/byteranges; boundary={boundary}"));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
