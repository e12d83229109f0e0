//! The shell that a build offers in the state of a failed step.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

use super::pump::{Pump, Target};
use super::stdin;
use super::terminal::{self, RawMode};
use crate::failure::{Failure, Result};

/// Kinds of frames; headers are those of [`super::Deframer`].
const INPUT: u8 = 0;
const RESIZE: u8 = 0x7e;
const OUTPUT: u8 = 1;
const EXIT: u8 = 0x7f;
/// Longest frame accepted.
const MAX_FRAME: usize = 16 << 20;
/// What a terminal's user types to end the input.
const END_OF_INPUT: &[u8] = &[4];
/// How often it is typed, after the end.
const END_AGAIN: Duration = Duration::from_millis(200);

/// Joins our terminal to the shell that waits at `socket` until it has ended; gives its exit code.
///
/// # Errors
/// The socket cannot be reached, the connection breaks, or output cannot be written. The terminal is as it was before in
/// any case, and hanging up ends the shell.
pub(crate) async fn debug_shell(socket: &Path) -> Result<i32> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| Failure::new(format!("cannot reach the shell at {}: {error}", socket.display())))?;
    let raw = RawMode::enter()?;
    let (reader, writer) = stream.into_split();
    let pump = Pump::start()?;
    let result = {
        let (output, input) = (copy_out(reader, &pump), copy_in(writer));
        tokio::pin!(output, input);
        tokio::select! {
            biased;
            code = &mut output => code,
            () = &mut input => output.await,
        }
    };
    let written = pump.finish().await;
    drop(raw);
    written?;
    result
}

/// A frame of ours.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn size() -> Option<Vec<u8>> {
    let (rows, columns) = terminal::window()?;
    Some(frame(
        RESIZE,
        &[rows.to_be_bytes(), columns.to_be_bytes()].concat(),
    ))
}

/// Sends the window's sizes and what is typed. Does not return while the connection works.
async fn copy_in(mut writer: OwnedWriteHalf) {
    let (Ok(mut chunks), Ok(mut changes)) = (stdin::start(), signal(SignalKind::window_change())) else {
        return std::future::pending().await;
    };
    let mut next = size();
    let mut ended = false;
    let mut again = tokio::time::interval(END_AGAIN);
    loop {
        if let Some(bytes) = next.take()
            && writer.write_all(&bytes).await.is_err()
        {
            // The end of its output says why.
            return;
        }
        next = tokio::select! {
            chunk = chunks.recv(), if !ended => match chunk {
                Some(chunk) => Some(frame(INPUT, &chunk)),
                None => {
                    ended = true;
                    Some(frame(INPUT, END_OF_INPUT))
                }
            },
            // A shell that sets its terminal up just now throws away what has been typed before.
            _ = again.tick(), if ended => Some(frame(INPUT, END_OF_INPUT)),
            _ = changes.recv() => size(),
        };
    }
}

/// Writes the shell's output until it tells its exit code.
async fn copy_out(mut reader: OwnedReadHalf, pump: &Pump) -> Result<i32> {
    let broken = |error: std::io::Error| Failure::new(format!("connection to the shell broke: {error}"));
    loop {
        let mut header = [0; 8];
        reader.read_exact(&mut header).await.map_err(broken)?;
        let [kind, _, _, _, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(Failure::new(format!("the shell sent a frame of {length} bytes")));
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await.map_err(broken)?;
        match kind {
            OUTPUT => {
                if !pump.write(Target::Stdout, Bytes::from(payload)).await {
                    // The writer's own error is what `finish` reports.
                    return Ok(0);
                }
            }
            EXIT => {
                let code = String::from_utf8_lossy(&payload).parse();
                return code.map_err(|_| Failure::new("the shell's exit code is no number".to_owned()));
            }
            other => return Err(Failure::new(format!("the shell sent a frame of kind {other}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_end_with_the_code() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut theirs, (reader, _writer)) = (theirs, ours.into_split());
        let sent = [frame(OUTPUT, b""), frame(EXIT, b"7")].concat();
        theirs.write_all(&sent).await.unwrap();
        let pump = Pump::start().unwrap();
        assert_eq!(copy_out(reader, &pump).await.ok(), Some(7));
        for bad in [
            frame(9, b""),
            frame(EXIT, b"x"),
            vec![1, 0, 0, 0, 255, 0, 0, 0],
            vec![1],
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            theirs.write_all(&bad).await.unwrap();
            drop(theirs);
            let (reader, _writer) = ours.into_split();
            assert!(copy_out(reader, &pump).await.is_err(), "{bad:?}");
        }
    }
}
