//! What a handler has not read of its request.
//!
//! A connection that is closed with unread bytes in it is reset, and clients that are still sending (or, like Go's, look
//! at their own write error first) report a broken pipe instead of the answer. So a short rest is read and thrown away,
//! as Go's server does.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt as _;

/// Longest rest that is read (Go's `maxPostHandlerReadBytes`).
const MAX_REST: usize = 256 << 10;
/// How long the client may take to send it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The rest of a body after the [`Lent`] one was dropped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftover {
    rest: Arc<Mutex<Option<Body>>>,
}

#[derive(Debug)]
struct Lent {
    body: Body,
    back: Leftover,
}

/// The same body, and where its rest is found when whoever took it has dropped it.
pub(crate) fn lend(body: Body) -> (Body, Leftover) {
    let back = Leftover::default();
    let lent = Lent {
        body,
        back: back.clone(),
    };
    (Body::new(lent), back)
}

impl Leftover {
    /// Reads a short rest. A body that is still being read is left alone.
    pub(crate) async fn drain(self) {
        let rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(rest) = rest else { return };
        let read = async {
            let mut chunks = rest.into_data_stream();
            let mut left = MAX_REST;
            while let Some(Ok(chunk)) = chunks.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        // A client that is slower is cut off, as it would be without this.
        let _ = tokio::time::timeout(PATIENCE, read).await;
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let rest = std::mem::take(&mut self.body);
            *self.back.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_read_is_drained() {
        let check = async |read: bool| {
            let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let count = taken.clone();
            let chunks = futures_util::stream::iter(0..3).map(move |_| {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"))
            });
            let (body, leftover) = lend(Body::from_stream(chunks));
            if read {
                assert_eq!(axum::body::to_bytes(body, 100).await.unwrap().len(), 15);
            } else {
                drop(body);
            }
            leftover.drain().await;
            assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 3);
        };
        check(true).await;
        check(false).await;
    }
}
