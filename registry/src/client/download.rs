//! Blobs into the store: verified, and continued where they broke.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Method, Response, StatusCode, Url};

use super::error::Error;
use super::http::{Call, Remote, header, lock, next_chunk};
use super::progress::{Progress, Report, Throttle};
use super::retry;
use crate::digest::Digest;
use crate::oci::Descriptor;
use crate::pipe::{WRITE_BYTES, Writer};
use crate::store::{self, Ingest, Store};

/// Downloads that broke in this process, by digest: ids of their suspended ingests.
#[derive(Debug, Clone, Default)]
pub(super) struct Partial(Arc<Mutex<BTreeMap<Digest, String>>>);

/// Runs store work on a blocking thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        let source = std::io::Error::other(panic);
        Err(store::Error::Io {
            path: "store".into(),
            source,
        }
        .into())
    })
}

/// What one request brought.
enum Outcome {
    /// The blob has all its bytes.
    Full(Ingest),
    /// The connection broke after some.
    Broken(Ingest, String),
    /// The registry does not give the rest.
    Refused(Ingest, Error),
}

/// Fetches a blob into the store; it is visible only once its size and digest are right.
pub(super) async fn blob(
    remote: &Remote,
    store: &Store,
    partial: &Partial,
    blob: &Descriptor,
    report: Report<'_>,
) -> Result<(), Error> {
    let url = remote.url(&format!("blobs/{}", blob.digest));
    let mut ingest = open(store, partial, blob).await?;
    // Bytes of this blob that did not come in the last, whole answer: they may be to blame for a wrong digest.
    let mut mixed = !ingest.is_empty();
    let mut restarted = false;
    let mut attempt = 1;
    loop {
        let before = ingest.len();
        match request(remote, &url, store, blob, ingest, report).await? {
            Outcome::Full(full) => {
                match commit(full, blob).await? {
                    None => return Ok(()),
                    Some(_) if mixed && !restarted => {
                        restarted = true;
                        mixed = false;
                        attempt = 1;
                        ingest = fresh(store).await?;
                    }
                    Some(got) => {
                        let (host, path) = (remote.host.clone(), url.path().to_owned());
                        return Err(Error::DigestMismatch {
                            host,
                            path,
                            expected: blob.digest.clone(),
                            got,
                        });
                    }
                }
                continue;
            }
            Outcome::Broken(broken, cause) => {
                // Progress earns new patience.
                attempt = if broken.len() > before { 1 } else { attempt + 1 };
                if attempt > retry::ATTEMPTS {
                    keep(partial, blob, broken).await?;
                    return Err(remote.broken(&url, attempt - 1, cause));
                }
                tracing::debug!("{}{}: {cause} at byte {}", remote.host, url.path(), broken.len());
                mixed = !broken.is_empty();
                ingest = broken;
                tokio::time::sleep(retry::delay(attempt, None)).await;
            }
            Outcome::Refused(rest, error) => {
                keep(partial, blob, rest).await?;
                return Err(error);
            }
        }
    }
}

async fn open(store: &Store, partial: &Partial, blob: &Descriptor) -> Result<Ingest, Error> {
    let Some(id) = lock(&partial.0).remove(&blob.digest) else {
        return fresh(store).await;
    };
    let (owned, size) = (store.clone(), blob.size);
    let resumed =
        blocking(move || Ok(owned.resume_ingest(&id)?.filter(|ingest| ingest.len() <= size))).await?;
    match resumed {
        Some(ingest) => Ok(ingest),
        None => fresh(store).await,
    }
}

async fn fresh(store: &Store) -> Result<Ingest, Error> {
    let store = store.clone();
    blocking(move || Ok(store.ingest()?)).await
}

/// Keeps what has come for the next pull of this process.
async fn keep(partial: &Partial, blob: &Descriptor, ingest: Ingest) -> Result<(), Error> {
    if ingest.is_empty() {
        return Ok(());
    }
    let id = blocking(move || Ok(ingest.suspend()?)).await?;
    lock(&partial.0).insert(blob.digest.clone(), id);
    Ok(())
}

/// Publishes the blob; gives the digest it has if that is another.
async fn commit(ingest: Ingest, blob: &Descriptor) -> Result<Option<Digest>, Error> {
    let digest = blob.digest.clone();
    blocking(move || match ingest.commit(Some(&digest)) {
        Ok(_) => Ok(None),
        Err(store::Error::DigestMismatch { got, .. }) => Ok(Some(got)),
        Err(error) => Err(error.into()),
    })
    .await
}

/// One request for what is missing.
async fn request(
    remote: &Remote,
    url: &Url,
    store: &Store,
    blob: &Descriptor,
    mut ingest: Ingest,
    report: Report<'_>,
) -> Result<Outcome, Error> {
    let have = ingest.len();
    if have == blob.size && have > 0 {
        return Ok(Outcome::Full(ingest));
    }
    let mut call = Call::new(Method::GET, url.clone());
    if have > 0 {
        call = call.header(RANGE, &format!("bytes={have}-"));
    }
    let response = match remote.send(&call).await {
        Ok(response) => response,
        Err(error) => return Ok(Outcome::Refused(ingest, error)),
    };
    match response.status() {
        StatusCode::OK if have > 0 => ingest = fresh(store).await?,
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT if have > 0 && starts_at(&response) == Some(have) => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            return Ok(Outcome::Broken(
                fresh(store).await?,
                "the registry does not continue blobs".to_owned(),
            ));
        }
        _ => return Ok(Outcome::Refused(ingest, remote.refusal(url, response).await)),
    }
    let announced = response
        .content_length()
        .map(|length| ingest.len().saturating_add(length));
    if let Some(got) = announced.filter(|announced| *announced != blob.size) {
        return Err(wrong_size(remote, url, blob, got));
    }
    body(remote, url, blob, ingest, response, report).await
}

fn wrong_size(remote: &Remote, url: &Url, blob: &Descriptor, got: u64) -> Error {
    let (host, path) = (remote.host.clone(), url.path().to_owned());
    Error::SizeMismatch {
        host,
        path,
        expected: blob.size,
        got,
    }
}

fn starts_at(response: &Response) -> Option<u64> {
    header(response, &CONTENT_RANGE)?
        .trim()
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

async fn body(
    remote: &Remote,
    url: &Url,
    blob: &Descriptor,
    ingest: Ingest,
    mut response: Response,
    report: Report<'_>,
) -> Result<Outcome, Error> {
    let mut done = ingest.len();
    let mut writer = Writer::new(ingest);
    let mut buffer = BytesMut::new();
    let mut throttle = Throttle::new();
    let broken = loop {
        match next_chunk(&mut response).await {
            Ok(Some(chunk)) => {
                done += chunk.len() as u64;
                if done > blob.size {
                    return Err(wrong_size(remote, url, blob, done));
                }
                buffer.extend_from_slice(&chunk);
            }
            Ok(None) => break None,
            Err(cause) => break Some(cause),
        }
        if throttle.due(done == blob.size) {
            report(Progress::Downloading {
                blob: blob.clone(),
                done,
            });
        }
        if buffer.len() >= WRITE_BYTES {
            writer = writer.write(std::mem::take(&mut buffer).freeze()).await?.0;
        }
    };
    let ingest = writer.write(buffer.freeze()).await?.0.finish().await?;
    Ok(match broken {
        None if done == blob.size => Outcome::Full(ingest),
        None => Outcome::Broken(ingest, "the body ended early".to_owned()),
        Some(cause) => Outcome::Broken(ingest, cause),
    })
}
