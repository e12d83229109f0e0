//! The body of `POST /cooper/build`: see [`cooper_daemon::api::BuildCall`].

use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use cooper_daemon::api::BuildCall;
use cooper_daemon::build::tar_directory;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use crate::failure::Result;

/// Bytes of a chunk.
const CHUNK: usize = 256 << 10;

/// A directory that is sent.
#[derive(Debug)]
pub(super) enum Part {
    Directory {
        path: PathBuf,
        /// The Dockerfile in it, which is sent even when it is ignored.
        dockerfile: Option<PathBuf>,
        /// Takes the place of the ignore file in it.
        ignore: Option<Vec<u8>>,
    },
    /// An archive on stdin, of which these bytes were read.
    Stdin(Vec<u8>),
}

/// The call and its parts as a body; parts are read and packed on a thread of their own while it is sent.
pub(super) fn body(call: &BuildCall, parts: Vec<Part>) -> Result<BoxStream<'static, io::Result<Bytes>>> {
    let mut head = vec![0; 4];
    serde_json::to_writer(&mut head, call)?;
    let length = u32::try_from(head.len() - 4).unwrap_or(u32::MAX);
    head[..4].copy_from_slice(&length.to_be_bytes());
    let (sender, receiver) = tokio::sync::mpsc::channel(8);
    std::thread::Builder::new()
        .name("context".to_owned())
        .spawn(move || {
            let mut frames = Frames { sender, buffer: head };
            // The head goes out as it is.
            if frames.pass_on().is_err() {
                return;
            }
            for part in parts {
                let written = write(&part, &mut frames).and_then(|()| frames.end());
                if let Err(error) = written {
                    let error = io::Error::other(format!("cannot send the context: {error}"));
                    // The request may have gone; then nobody needs to know.
                    let _ = frames.sender.blocking_send(Err(error));
                    return;
                }
            }
        })?;
    Ok(futures_util::stream::unfold(receiver, |mut receiver| async {
        Some((receiver.recv().await?, receiver))
    })
    .boxed())
}

fn write(part: &Part, frames: &mut Frames) -> io::Result<()> {
    match part {
        Part::Directory {
            path,
            dockerfile,
            ignore,
        } => tar_directory(path, dockerfile.as_deref(), ignore.as_deref(), frames).map_err(io::Error::other),
        Part::Stdin(head) => {
            let mut whole = head.chain(io::stdin().lock());
            io::copy(&mut whole, frames).map(drop)
        }
    }
}

/// Collects small writes into chunks, each with its length in front.
struct Frames {
    sender: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
    /// Starts with room for the length once a part is being written.
    buffer: Vec<u8>,
}

impl Frames {
    /// Sends the buffer as it is.
    fn pass_on(&mut self) -> io::Result<()> {
        let chunk = Bytes::from(std::mem::take(&mut self.buffer));
        self.sender
            .blocking_send(Ok(chunk))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Ends a part.
    fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        self.buffer = vec![0; 4];
        self.pass_on()
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            self.buffer.reserve(CHUNK + 4);
            self.buffer.resize(4, 0);
        }
        let count = bytes.len().min(CHUNK + 4 - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == CHUNK + 4 {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        // Nothing, or only the room for a length: an empty chunk would end the part.
        if self.buffer.len() <= 4 {
            return Ok(());
        }
        let length = u32::try_from(self.buffer.len() - 4).map_err(io::Error::other)?;
        self.buffer[..4].copy_from_slice(&length.to_be_bytes());
        self.pass_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
        let mut frames = Frames {
            sender,
            buffer: Vec::new(),
        };
        frames.flush().unwrap();
        frames.write_all(&vec![7; CHUNK + 1]).unwrap();
        frames.end().unwrap();
        frames.end().unwrap();
        drop(frames);
        let mut lengths = Vec::new();
        while let Some(chunk) = receiver.blocking_recv() {
            let chunk = chunk.unwrap();
            let length = u32::from_be_bytes(chunk[..4].try_into().unwrap()) as usize;
            assert_eq!(chunk.len(), length + 4);
            lengths.push(length);
        }
        assert_eq!(lengths, [CHUNK, 1, 0, 0]);
    }
}
