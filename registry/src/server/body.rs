//! Bodies of requests and answers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::BytesMut;
use http_body_util::BodyExt;
use tokio::task::spawn_blocking;

use super::error::ApiError;
use crate::digest::Digest;
use crate::pipe::{Part, WRITE_BYTES, Writer, blob_stream};
use crate::store::{self, Ingest, Store};

/// An upload that sends nothing for this long is broken off; what arrived is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Runs store work on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(ApiError::internal(&panic)))
}

/// A body made of pieces of one blob.
pub(super) fn stream_blob(store: Store, digest: Digest, parts: VecDeque<Part>) -> Body {
    Body::from_stream(blob_stream(store, digest, parts))
}

/// How receiving a body ended.
pub(super) enum Received {
    /// All of it is in the ingest.
    Whole(Ingest),
    /// The body broke off; the ingest holds what came before.
    Broken(Ingest, String),
    /// The store cannot take more; the ingest is gone.
    Failed(store::Error),
}

/// Appends `body` to `ingest`; `offset` follows the bytes really stored.
pub(super) async fn receive(ingest: Ingest, body: Body, offset: &AtomicU64) -> Received {
    match append(ingest, body, offset).await {
        Ok((ingest, None)) => Received::Whole(ingest),
        Ok((ingest, Some(cause))) => Received::Broken(ingest, cause),
        Err(error) => Received::Failed(error),
    }
}

async fn append(
    ingest: Ingest,
    mut body: Body,
    offset: &AtomicU64,
) -> store::Result<(Ingest, Option<String>)> {
    let mut writer = Writer::new(ingest);
    let mut buffer = BytesMut::new();
    let broken = loop {
        match tokio::time::timeout(IDLE, body.frame()).await {
            Ok(Some(Ok(frame))) => buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Ok(None) => break None,
            Ok(Some(Err(error))) => break Some(error.to_string()),
            Err(_) => break Some(format!("no data for {} s", IDLE.as_secs())),
        }
        if buffer.len() >= WRITE_BYTES {
            let (next, stored) = writer.write(std::mem::take(&mut buffer).freeze()).await?;
            offset.store(stored, Ordering::Relaxed);
            writer = next;
        }
    };
    let ingest = writer.write(buffer.freeze()).await?.0.finish().await?;
    offset.store(ingest.len(), Ordering::Relaxed);
    Ok((ingest, broken))
}
