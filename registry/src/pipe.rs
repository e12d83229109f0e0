//! Bytes between the async side (sockets) and the store's blocking readers and ingests, in buffers of fixed size.
//!
//! Every read or write of the store is one short blocking task that takes the reader (or ingest) and gives it back, so
//! a slow peer holds no thread. One buffer is read ahead (or written behind) while the other is on the wire.

use std::collections::VecDeque;
use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::digest::Digest;
use crate::store::{self, Ingest, Store};

/// Bytes per read of a blob.
const READ_BYTES: u64 = 512 << 10;
/// Bytes to gather before a write.
pub(crate) const WRITE_BYTES: usize = 1 << 20;

/// A piece of a stream.
#[derive(Debug)]
pub(crate) enum Part {
    /// Text between pieces of the blob.
    Text(Bytes),
    /// `len` bytes of the blob from `start`.
    Blob { start: u64, len: u64 },
}

/// A stream made of pieces of one blob. A blob that ends early is an error, never a short stream.
pub(crate) fn blob_stream(
    store: Store,
    digest: Digest,
    parts: VecDeque<Part>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let source = Source {
        store,
        digest,
        parts,
        open: None,
    };
    let first = spawn_blocking(move || source.next());
    stream::unfold(Some(first), |pending: Option<JoinHandle<Step>>| async {
        match pending?.await {
            Ok((source, Ok(Some(chunk)))) => Some((Ok(chunk), Some(spawn_blocking(move || source.next())))),
            Ok((_, Ok(None))) => None,
            Ok((source, Err(error))) => {
                tracing::error!("cannot read blob {}: {error}", source.digest);
                Some((Err(error), None))
            }
            Err(panic) => Some((Err(io::Error::other(panic)), None)),
        }
    })
}

type Step = (Source, io::Result<Option<Bytes>>);

/// Where the next buffer of a stream comes from.
struct Source {
    store: Store,
    digest: Digest,
    parts: VecDeque<Part>,
    open: Option<(Box<dyn Read + Send>, u64)>,
}

impl Source {
    fn next(mut self) -> Step {
        let chunk = self.chunk();
        (self, chunk)
    }

    fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some((reader, left)) = &mut self.open {
                let want = READ_BYTES.min(*left);
                let mut buffer = Vec::with_capacity(usize::try_from(want).map_err(io::Error::other)?);
                let got = reader.take(want).read_to_end(&mut buffer)? as u64;
                if got < want {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= got;
                if *left == 0 {
                    self.open = None;
                }
                return Ok(Some(buffer.into()));
            }
            match self.parts.pop_front() {
                None => return Ok(None),
                Some(Part::Text(text)) => return Ok(Some(text)),
                Some(Part::Blob { len: 0, .. }) => {}
                Some(Part::Blob { start, len }) => {
                    let reader = self
                        .store
                        .open_blob(&self.digest, start)
                        .map_err(io::Error::other)?;
                    self.open = Some((reader, len));
                }
            }
        }
    }
}

/// An ingest with at most one write under way.
#[derive(Debug)]
pub(crate) struct Writer {
    task: JoinHandle<store::Result<Ingest>>,
}

impl Writer {
    pub(crate) fn new(ingest: Ingest) -> Self {
        Self {
            task: spawn_blocking(move || Ok(ingest)),
        }
    }

    /// Waits for the write under way and starts the next; gives the bytes stored before it.
    pub(crate) async fn write(self, data: Bytes) -> store::Result<(Self, u64)> {
        let mut ingest = self.finish().await?;
        let stored = ingest.len();
        let task = spawn_blocking(move || {
            ingest.write(&data)?;
            Ok(ingest)
        });
        Ok((Self { task }, stored))
    }

    /// Waits for the write under way.
    pub(crate) async fn finish(self) -> store::Result<Ingest> {
        self.task.await.unwrap_or_else(|panic| {
            Err(store::Error::Io {
                path: "ingest".into(),
                source: io::Error::other(panic),
            })
        })
    }
}
