//! The session itself: copies both ways until the process's output ends.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::detach::Watcher;
use super::framing::Deframer;
use super::pump::{Pump, Target};
use super::terminal::{self, RawMode};
use super::{Signals, stdin};
use crate::client::{Client, ClientError, Hijacked, Payload, query};
use crate::failure::{Failure, Result};

/// Tries to tell the size of the window right after the start, when the terminal may not exist yet.
const RESIZE_TRIES: u32 = 10;

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process closed its output.
    Output,
    /// The user typed the detach keys.
    Detached,
    /// A signal that is not passed on asked this process to end.
    Signal(&'static str),
}

/// What joins us to a process.
pub(crate) struct Session<'a> {
    /// For resizes and signals.
    pub(crate) client: &'a Client,
    /// The taken-over connection.
    pub(crate) stream: Hijacked,
    /// Whether our stdin goes to the process.
    pub(crate) stdin: bool,
    /// Whether the process has a terminal.
    pub(crate) tty: bool,
    /// See `parse_keys`; only watched on terminals.
    pub(crate) detach_keys: Vec<u8>,
    /// Path of the resize endpoint: `/containers/ID/resize` or `/exec/ID/resize`.
    pub(crate) resize: String,
    /// Container that gets our signals; `None` ends the session on signals instead.
    pub(crate) signals_to: Option<String>,
    /// Signals received since before the start.
    pub(crate) signals: Signals,
}

type Io = hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>;

impl Session<'_> {
    /// Copies until the output ends. All output is written when this returns.
    pub(crate) async fn run(mut self) -> Result<End> {
        let raw = if self.stdin && self.tty {
            RawMode::enter()?
        } else {
            None
        };
        let (reader, writer) = tokio::io::split(self.stream.io);
        let pump = Pump::start()?;
        let watched = if raw.is_some() {
            std::mem::take(&mut self.detach_keys)
        } else {
            Vec::new()
        };

        let end = {
            let input = async {
                if self.stdin {
                    copy_in(writer, watched).await;
                } else {
                    hold(writer).await;
                }
            };
            let output = copy_out(reader, &pump, self.stream.multiplexed);
            let control = control(
                self.client,
                self.tty,
                &self.resize,
                self.signals_to.as_deref(),
                &mut self.signals,
            );
            tokio::pin!(input, output, control);
            tokio::select! {
                biased;
                result = &mut output => result.map(|()| End::Output),
                () = &mut input => Ok(End::Detached),
                name = &mut control => Ok(End::Signal(name)),
            }
        };
        let written = pump.finish().await;
        drop(raw);
        written?;
        end
    }
}

/// Sends stdin, then closes the writing side. Returns only when the detach keys were typed.
async fn copy_in(mut writer: WriteHalf<Io>, detach_keys: Vec<u8>) {
    let mut watcher = Watcher::new(detach_keys);
    if let Ok(mut chunks) = stdin::start() {
        while let Some(chunk) = chunks.recv().await {
            let (bytes, detached) = watcher.filter(&chunk);
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                // The process has closed its stdin; its output may go on.
                break;
            }
            if detached {
                return;
            }
        }
    }
    // Fails only when the connection is gone, which the output notices.
    let _ = writer.shutdown().await;
    hold(writer).await;
}

/// Keeps the writing side as it is: dropping it is for the end of the session.
async fn hold(_writer: WriteHalf<Io>) {
    std::future::pending::<()>().await;
}

async fn copy_out(mut reader: ReadHalf<Io>, pump: &Pump, multiplexed: bool) -> Result {
    let mut buffer = vec![0; 64 << 10];
    let mut deframer = Deframer::default();
    loop {
        let length = match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) => {
                return Err(Failure::new(format!(
                    "connection to the container broke: {error}"
                )));
            }
        };
        if !multiplexed {
            if !pump
                .write(Target::Stdout, Bytes::copy_from_slice(&buffer[..length]))
                .await
            {
                return Ok(());
            }
            continue;
        }
        deframer.push(&buffer[..length]);
        while let Some((target, bytes)) = deframer.next().map_err(ClientError::Answer)? {
            if !pump.write(target, bytes).await {
                // The writer's own error is what `finish` reports.
                return Ok(());
            }
        }
    }
    if deframer.is_complete() {
        Ok(())
    } else {
        Err(ClientError::Answer("the output ended in the middle of a frame".to_owned()).into())
    }
}

/// Passes window sizes and signals on. Returns only for a signal that ends the session.
async fn control(
    client: &Client,
    tty: bool,
    resize: &str,
    signals_to: Option<&str>,
    signals: &mut Signals,
) -> &'static str {
    let resizes = async {
        if !tty || terminal::window().is_none() {
            std::future::pending::<()>().await;
        }
        let Ok(mut changes) = signal(SignalKind::window_change()) else {
            return std::future::pending().await;
        };
        for attempt in 1..=RESIZE_TRIES {
            if send_size(client, resize).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10) * attempt).await;
        }
        while changes.recv().await.is_some() {
            send_size(client, resize).await;
        }
    };
    let forward = async {
        loop {
            let name = signals.next().await;
            let Some(container) = signals_to else { return name };
            // A container that has just ended cannot be signalled; its end is noticed elsewhere.
            let _ = client
                .act(
                    &query(&format!("/containers/{container}/kill"), &[("signal", name)]),
                    Payload::Empty,
                )
                .await;
        }
    };
    tokio::pin!(resizes, forward);
    tokio::select! {
        () = &mut resizes => forward.await,
        name = &mut forward => name,
    }
}

async fn send_size(client: &Client, path: &str) -> bool {
    let Some((rows, columns)) = terminal::window() else {
        return true;
    };
    let path = query(path, &[("h", &rows.to_string()), ("w", &columns.to_string())]);
    client.act(&path, Payload::Empty).await.is_ok()
}
