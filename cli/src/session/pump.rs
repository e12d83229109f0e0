//! Writes output on a thread of its own, so that a slow reader of ours never blocks the engine in this process.

use std::io::{self, Write};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Where a piece of output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Our stdout.
    Stdout,
    /// Our stderr.
    Stderr,
    /// Our stderr, as the engine's own words.
    SystemError,
}

/// Chunks under way; with chunks of at most 64 KiB this bounds memory to about 2 MiB.
const QUEUE: usize = 32;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Pump {
    queue: mpsc::Sender<(Target, Bytes)>,
    result: oneshot::Receiver<io::Result<()>>,
}

impl Pump {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, mut chunks) = mpsc::channel::<(Target, Bytes)>(QUEUE);
        let (sender, result) = oneshot::channel();
        std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                let mut run = || {
                    while let Some((target, bytes)) = chunks.blocking_recv() {
                        match target {
                            Target::Stdout => {
                                let mut stdout = io::stdout().lock();
                                stdout.write_all(&bytes)?;
                                stdout.flush()?;
                            }
                            Target::Stderr => io::stderr().lock().write_all(&bytes)?,
                            Target::SystemError => {
                                let mut stderr = io::stderr().lock();
                                stderr.write_all(b"cooper: ")?;
                                stderr.write_all(&bytes)?;
                                stderr.write_all(b"\n")?;
                            }
                        }
                    }
                    Ok(())
                };
                let result = run();
                drop(chunks);
                // Nobody waits for the result when the session was left in another way.
                let _ = sender.send(result);
            })?;
        Ok(Self { queue, result })
    }

    /// Queues a piece of output; `false` when the writer has failed, see [`Self::finish`].
    pub(crate) async fn write(&self, target: Target, bytes: Bytes) -> bool {
        self.queue.send((target, bytes)).await.is_ok()
    }

    /// Waits until everything is written.
    pub(crate) async fn finish(self) -> io::Result<()> {
        drop(self.queue);
        self.result
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the output thread has gone")))
    }
}
