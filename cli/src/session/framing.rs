//! Docker's multiplexed stream: 8-byte headers (stream, three zeros, big-endian length) before each chunk of output.

use bytes::{Buf, Bytes, BytesMut};

use super::pump::Target;

/// Longest frame accepted; engines send at most what they read at once.
const MAX_FRAME: usize = 16 << 20;

/// Splits a multiplexed stream. Payloads are given out as they arrive, not when their frame is complete.
#[derive(Debug, Default)]
pub(crate) struct Deframer {
    buffer: BytesMut,
    /// Target and bytes to come of the frame being read.
    current: Option<(Target, usize)>,
}

impl Deframer {
    /// Takes more bytes of the stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece of output; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<(Target, Bytes)>, String> {
        loop {
            if let Some((target, left)) = self.current {
                if left == 0 {
                    self.current = None;
                    continue;
                }
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let taken = left.min(self.buffer.len());
                self.current = Some((target, left - taken));
                return Ok(Some((target, self.buffer.split_to(taken).freeze())));
            }
            let Some(header) = self.buffer.first_chunk::<8>() else {
                return Ok(None);
            };
            let target = match header[0] {
                0 | 1 => Target::Stdout,
                2 => Target::Stderr,
                3 => Target::SystemError,
                other => return Err(format!("stream {other} in a frame header")),
            };
            let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
            if length > MAX_FRAME {
                return Err(format!("a frame of {length} bytes"));
            }
            self.buffer.advance(8);
            self.current = Some((target, length));
        }
    }

    /// Whether the stream may end here.
    pub(crate) fn is_complete(&self) -> bool {
        self.buffer.is_empty() && self.current.is_none_or(|(_, left)| left == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn any_split_gives_the_same() {
        let stream = [
            frame(1, b"hello "),
            frame(2, b""),
            frame(2, b"oops"),
            frame(1, b"world"),
            frame(3, b"bad"),
        ]
        .concat();
        for size in 1..=stream.len() {
            let mut deframer = Deframer::default();
            let (mut out, mut err, mut system) = (Vec::new(), Vec::new(), Vec::new());
            for chunk in stream.chunks(size) {
                deframer.push(chunk);
                while let Some((target, bytes)) = deframer.next().unwrap() {
                    match target {
                        Target::Stdout => out.extend(bytes),
                        Target::Stderr => err.extend(bytes),
                        Target::SystemError => system.extend(bytes),
                    }
                }
            }
            assert!(deframer.is_complete());
            assert_eq!(
                (&out[..], &err[..], &system[..]),
                (&b"hello world"[..], &b"oops"[..], &b"bad"[..]),
                "{size}"
            );
        }
    }

    #[test]
    fn hostile_headers() {
        for bytes in [[9, 0, 0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 255, 0, 0, 0]] {
            let mut deframer = Deframer::default();
            deframer.push(&bytes);
            assert!(deframer.next().is_err(), "{bytes:?}");
        }
        let mut deframer = Deframer::default();
        deframer.push(&frame(1, b"abc")[..9]);
        assert!(deframer.next().unwrap().is_some());
        assert!(!deframer.is_complete());
    }
}
