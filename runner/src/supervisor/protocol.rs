//! What engines and supervisors say to each other.
//!
//! A connection carries one request, a length-prefixed JSON document, and one reply. `Attach` and `ExecStart` turn the
//! connection into a stream after a positive reply; `Wait` is acknowledged at once and answered later.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::container::{AttachOptions, ExitStatus, WaitCondition};
use crate::init::SetupError;
use crate::spec::ContainerSpec;

/// Longest request or reply on a container's socket.
pub(crate) const MAX_MESSAGE: usize = 64 << 10;
/// Longest request for a build step, which carries a whole spec.
const MAX_BUILD_MESSAGE: usize = 64 << 20;

/// From an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Start the container's process.
    Start,
    /// Become a stream of the container's process.
    Attach { options: AttachOptions },
    /// Report the exit.
    Wait { condition: WaitCondition },
    /// Send a signal to the first process.
    Kill { signal: i32 },
    /// Freeze all processes.
    Pause,
    /// Thaw them.
    Unpause,
    /// Set a pty's size: the container's, or an exec's.
    Resize {
        exec: Option<String>,
        rows: u16,
        columns: u16,
    },
    /// Run `execs/<id>.json`; not detached, the connection becomes its stream.
    ExecStart { exec: String, detach: bool },
    /// Take over the limits and the restart policy of the spec as it reads now.
    Update,
    /// End a supervisor whose container does not run.
    Shutdown,
}

/// From a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Done; for a wait: registered.
    Ok,
    /// The awaited exit.
    Exited {
        /// Its status.
        status: ExitStatus,
        /// Whether the container's directory is gone as well.
        removed: bool,
    },
    /// The process did not start.
    StartFailed { error: SetupError },
    /// The container is in the wrong state for the request.
    WrongState { state: String },
    /// The request failed.
    Failed { message: String },
}

/// From the caller of a build sandbox, on its socket pair.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BuildRequest {
    pub(crate) spec: ContainerSpec,
    /// Where `/etc/hosts` and `/etc/resolv.conf` lie: (path inside, path on the host).
    pub(crate) files: Vec<(std::path::PathBuf, std::path::PathBuf)>,
    /// Empty directory for the root's mount point.
    pub(crate) empty: std::path::PathBuf,
}

/// Writes one length-prefixed message.
pub(crate) fn write_message(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// A message with its prefix.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Reads one length-prefixed message; `None` at a clean end.
pub(crate) fn read_message<T: for<'de> Deserialize<'de>>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut prefix = [0; 4];
    match from.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_le_bytes(prefix) as usize;
    if length > MAX_BUILD_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() < length {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Decodes a message from a growing buffer: `None` while it is incomplete.
pub(crate) fn decode<T: for<'de> Deserialize<'de>>(buffer: &[u8]) -> io::Result<Option<T>> {
    let Some((prefix, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_MESSAGE || rest.len() > length {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if rest.len() < length {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(rest)?))
}

/// Docker's stdcopy frame types, and our own ones: one that ends a build sandbox's stream with a [`Reply`], and what a
/// terminal's user sends, input and sizes (rows and columns as big-endian 16-bit numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Resize = 0x7e,
    Result = 0x7f,
}

impl Frame {
    /// The 8-byte header of a frame with `length` bytes.
    pub(crate) fn header(self, length: usize) -> [u8; 8] {
        let mut header = [self as u8, 0, 0, 0, 0, 0, 0, 0];
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        header[4..].copy_from_slice(&length.to_be_bytes());
        header
    }

    /// Type and length of a header.
    pub(crate) fn parse(header: [u8; 8]) -> Option<(Self, usize)> {
        let [kind, 0, 0, 0, length @ ..] = header else {
            return None;
        };
        let kind = match kind {
            0 => Self::Stdin,
            1 => Self::Stdout,
            0x7e => Self::Resize,
            2 => Self::Stderr,
            0x7f => Self::Result,
            _ => return None,
        };
        Some((kind, u32::from_be_bytes(length) as usize))
    }
}

/// Splits the first complete frame off `buffer`: its type, payload range and total length.
pub(crate) fn read_frame(buffer: &[u8]) -> io::Result<Option<(Frame, std::ops::Range<usize>)>> {
    let Some(header) = buffer.first_chunk::<8>() else {
        return Ok(None);
    };
    let (kind, length) = Frame::parse(*header).ok_or(io::ErrorKind::InvalidData)?;
    Ok((buffer.len() >= 8 + length).then_some((kind, 8..8 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_and_oversize_is_refused() {
        let request = Request::Resize {
            exec: Some("x".into()),
            rows: 2,
            columns: 3,
        };
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap(), Some(request.clone()));
        assert_eq!(decode::<Request>(&bytes[..bytes.len() - 1]).unwrap(), None);
        assert_eq!(read_message::<Request>(&bytes[..]).unwrap(), Some(request));
        let huge = [0xff; 8];
        assert!(decode::<Request>(&huge).is_err());
        assert!(read_message::<Request>(&huge[..]).is_err());
    }

    #[test]
    fn frames_are_stdcopy_frames() {
        let mut bytes = Frame::Stderr.header(3).to_vec();
        assert_eq!(bytes, [2, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(read_frame(&bytes).unwrap(), None);
        bytes.extend(b"abcrest");
        assert_eq!(read_frame(&bytes).unwrap(), Some((Frame::Stderr, 8..11)));
        assert!(read_frame(&[9, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }
}
