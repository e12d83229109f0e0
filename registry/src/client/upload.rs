//! Blobs to a registry: found, mounted, or uploaded and continued where it broke.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::download::blocking;
use super::error::Error;
use super::http::{Call, Failure, Remote, header};
use super::progress::{Progress, Report};
use super::retry;
use crate::oci::Descriptor;
use crate::pipe::{Part, blob_stream};
use crate::reference::RepoName;
use crate::store::Store;

/// Blobs up to this size go in the closing PUT: one request less.
const SMALL: u64 = 1 << 20;
/// Longest time without a byte taken by the registry.
const STALL: Duration = Duration::from_secs(60);
/// How long a registry may take to verify and move a blob.
const CLOSING: Duration = Duration::from_secs(300);
const TICK: Duration = Duration::from_millis(100);

/// One blob on its way up.
pub(super) struct Upload<'a> {
    pub(super) remote: &'a Remote,
    pub(super) store: &'a Store,
    pub(super) blob: &'a Descriptor,
    pub(super) report: Report<'a>,
}

/// How a stretch of an upload ended.
enum Step {
    /// The registry has the whole blob.
    Complete,
    /// It has taken what was sent; go on at `Url` from the offset.
    Continue(Url, u64),
    /// Try again after finding out where the session stands.
    Again(String),
}

impl Upload<'_> {
    /// Brings the blob to the registry. `source`: a repository there that may hold it.
    pub(super) async fn run(&self, source: Option<&RepoName>) -> Result<(), Error> {
        if self.exists().await? {
            return Ok(());
        }
        let Some(session) = self.mount(source).await? else {
            (self.report)(Progress::Mounted(self.blob.clone()));
            return Ok(());
        };
        self.transfer(session).await?;
        (self.report)(Progress::Pushed(self.blob.clone()));
        Ok(())
    }

    /// Whether the registry has the blob in this repository.
    pub(super) async fn exists(&self) -> Result<bool, Error> {
        let found = self
            .remote
            .send(&Call::new(Method::HEAD, self.blob_url()))
            .await?;
        match found.status() {
            StatusCode::OK => {
                (self.report)(Progress::Exists(self.blob.clone()));
                Ok(true)
            }
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.remote.refusal(&self.blob_url(), found).await),
        }
    }

    fn blob_url(&self) -> Url {
        self.remote.url(&format!("blobs/{}", self.blob.digest))
    }

    /// Asks for a mount; the session to upload to if there is none. Without a source too: a registry may know one.
    async fn mount(&self, source: Option<&RepoName>) -> Result<Option<Url>, Error> {
        let mut url = self.remote.url("blobs/uploads/");
        url.query_pairs_mut()
            .append_pair("mount", &self.blob.digest.to_string());
        if let Some(source) = source {
            url.query_pairs_mut().append_pair("from", source.path());
            self.remote
                .add_scope(format!("repository:{}:pull", source.path()));
        }
        let response = self.remote.send(&Call::new(Method::POST, url.clone())).await?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => self.location(&url, &response).map(Some),
            // Some registries refuse mounts that they do not understand or allow instead of opening a session.
            _ => self.session().await.map(Some),
        }
    }

    async fn session(&self) -> Result<Url, Error> {
        let url = self.remote.url("blobs/uploads/");
        let response = self.remote.send(&Call::new(Method::POST, url.clone())).await?;
        match response.status() {
            StatusCode::ACCEPTED => self.location(&url, &response),
            _ => Err(self.remote.refusal(&url, response).await),
        }
    }

    fn location(&self, url: &Url, response: &Response) -> Result<Url, Error> {
        let location = header(response, &LOCATION).and_then(|location| url.join(location).ok());
        location.ok_or_else(|| self.remote.protocol(url, "answer without a usable Location"))
    }

    async fn transfer(&self, session: Url) -> Result<(), Error> {
        let mut at = Some((session, 0));
        let mut attempt = 1;
        let mut best = 0;
        loop {
            let (url, offset) = match at.take() {
                Some(at) => at,
                None => (self.session().await?, 0),
            };
            let step = if self.blob.size <= SMALL && offset == 0 {
                self.small(&url).await?
            } else if offset < self.blob.size {
                self.stream(&url, offset).await?
            } else {
                self.close(&url, Vec::new()).await?
            };
            match step {
                Step::Complete => return Ok(()),
                Step::Continue(url, offset) => {
                    if offset > best {
                        best = offset;
                        attempt = 1;
                    } else {
                        attempt += 1;
                        if attempt > retry::ATTEMPTS {
                            let reason = "the registry takes no more bytes";
                            return Err(self.remote.protocol(&url, reason));
                        }
                    }
                    at = Some((url, offset));
                }
                Step::Again(cause) => {
                    if attempt >= retry::ATTEMPTS {
                        return Err(self.remote.broken(&url, attempt, cause));
                    }
                    tracing::debug!("{}{}: {cause}, continuing", self.remote.host, url.path());
                    tokio::time::sleep(retry::delay(attempt, None)).await;
                    attempt += 1;
                    at = self.standing(&url).await?;
                    if let Some((_, offset)) = &at
                        && *offset > best
                    {
                        best = *offset;
                        attempt = 1;
                    }
                }
            }
        }
    }

    /// Where a session stands; `None` if it is gone, or holds so little that starting again is as good: `0-0` may mean
    /// nothing or one byte.
    async fn standing(&self, url: &Url) -> Result<Option<(Url, u64)>, Error> {
        let response = self.remote.send(&Call::new(Method::GET, url.clone())).await?;
        if response.status() != StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let next = self.location(url, &response).unwrap_or_else(|_| url.clone());
        Ok(stored(&response)
            .filter(|offset| *offset > 1 && *offset <= self.blob.size)
            .map(|offset| (next, offset)))
    }

    async fn small(&self, url: &Url) -> Result<Step, Error> {
        let (store, digest) = (self.store.clone(), self.blob.digest.clone());
        let bytes = blocking(move || Ok(store.read_blob(&digest, SMALL)?)).await?;
        self.close(url, bytes).await
    }

    /// The closing PUT, with the rest of the blob.
    async fn close(&self, session: &Url, bytes: Vec<u8>) -> Result<Step, Error> {
        let mut url = session.clone();
        url.query_pairs_mut()
            .append_pair("digest", &self.blob.digest.to_string());
        let mut call = Call::new(Method::PUT, url.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, &bytes.len().to_string());
        call.body = bytes.into();
        let body = || Body::from(call.body.clone());
        let exchange = self.remote.exchange(&call, &body);
        let response = match tokio::time::timeout(CLOSING, exchange).await {
            Ok(Ok(response)) => response,
            Ok(Err(Failure::Transport(cause))) => return self.after_break(cause).await,
            Ok(Err(Failure::Final(error))) => return Err(error),
            Err(_) => {
                return self
                    .after_break(format!("no answer within {} s", CLOSING.as_secs()))
                    .await;
            }
        };
        match response.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(Step::Complete),
            status if resumable(status) => Ok(Step::Again(format!("status {}", status.as_u16()))),
            _ => Err(self.remote.refusal(&url, response).await),
        }
    }

    /// A closing PUT whose answer was lost may have worked.
    async fn after_break(&self, cause: String) -> Result<Step, Error> {
        let found = self
            .remote
            .send(&Call::new(Method::HEAD, self.blob_url()))
            .await?;
        Ok(if found.status() == StatusCode::OK {
            Step::Complete
        } else {
            Step::Again(cause)
        })
    }

    /// PATCH with everything from `offset` on, read from the store as the registry takes it.
    async fn stream(&self, url: &Url, offset: u64) -> Result<Step, Error> {
        let len = self.blob.size - offset;
        let mut call = Call::new(Method::PATCH, url.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, &len.to_string());
        if offset > 0 {
            call = call.header(CONTENT_RANGE, &format!("{offset}-{}", self.blob.size - 1));
        }
        let sent = Arc::new(AtomicU64::new(offset));
        let body = || {
            sent.store(offset, Ordering::Relaxed);
            let count = Arc::clone(&sent);
            let parts = VecDeque::from([Part::Blob { start: offset, len }]);
            let stream = blob_stream(self.store.clone(), self.blob.digest.clone(), parts);
            Body::wrap_stream(stream.inspect(move |chunk| {
                let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                count.fetch_add(bytes, Ordering::Relaxed);
            }))
        };
        let response = match self.watch(self.remote.exchange(&call, &body), &sent).await {
            Ok(response) => response,
            Err(Failure::Transport(cause)) => return Ok(Step::Again(cause)),
            Err(Failure::Final(error)) => return Err(error),
        };
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::CREATED | StatusCode::NO_CONTENT => {
                let next = self.location(url, &response)?;
                let taken = stored(&response)
                    .filter(|taken| *taken > 1)
                    .unwrap_or(self.blob.size);
                Ok(Step::Continue(next, taken.min(self.blob.size)))
            }
            status if resumable(status) => Ok(Step::Again(format!("status {}", status.as_u16()))),
            _ => Err(self.remote.refusal(url, response).await),
        }
    }

    /// Reports progress while the request runs and gives it up when nothing moves.
    async fn watch(
        &self,
        request: impl Future<Output = Result<Response, Failure>>,
        sent: &AtomicU64,
    ) -> Result<Response, Failure> {
        let mut request = std::pin::pin!(request);
        let mut ticks = tokio::time::interval(TICK);
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            tokio::select! {
                done = &mut request => {
                    (self.report)(Progress::Uploading { blob: self.blob.clone(), done: sent.load(Ordering::Relaxed) });
                    return done;
                }
                _ = ticks.tick() => {
                    let now = sent.load(Ordering::Relaxed);
                    if now != last {
                        (last, moved) = (now, Instant::now());
                        (self.report)(Progress::Uploading { blob: self.blob.clone(), done: now });
                    } else if moved.elapsed() > STALL {
                        return Err(Failure::Transport(format!("nothing taken for {} s", STALL.as_secs())));
                    }
                }
            }
        }
    }
}

/// Statuses after which a session can be asked where it stands, or opened anew if it is gone.
fn resumable(status: StatusCode) -> bool {
    retry::passing(status) || matches!(status, StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_FOUND)
}

/// Bytes that a session holds, from `Range: 0-<last>`.
fn stored(response: &Response) -> Option<u64> {
    let range = header(response, &RANGE)?;
    let range = range.trim().strip_prefix("bytes=").unwrap_or(range.trim());
    range.strip_prefix("0-")?.parse::<u64>().ok()?.checked_add(1)
}
