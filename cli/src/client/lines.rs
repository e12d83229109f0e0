//! A stream of JSON lines, as builds, pulls and pushes answer.

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::error::ClientError;

/// Longest line accepted.
const MAX_LINE: usize = 16 << 20;

/// Splits a body into JSON values, one per line.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
}

impl Lines {
    /// Reads this body.
    pub(crate) fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            ended: false,
        }
    }

    /// The next value; `None` at the end. Blank lines are skipped. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ClientError> {
        loop {
            while let Some(line) = take_line(&mut self.buffer, self.ended) {
                if !line.iter().all(u8::is_ascii_whitespace) {
                    return Ok(Some(serde_json::from_slice(&line)?));
                }
            }
            if self.ended {
                return Ok(None);
            }
            if self.buffer.len() > MAX_LINE {
                return Err(ClientError::Answer(format!(
                    "a line longer than {MAX_LINE} bytes"
                )));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Some(data) = frame?.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                None => self.ended = true,
            }
        }
    }
}

/// Takes one line without its newline; at the end of input, the rest.
fn take_line(buffer: &mut BytesMut, ended: bool) -> Option<BytesMut> {
    if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        let line = buffer.split_to(end);
        buffer.advance(1);
        return Some(line);
    }
    (ended && !buffer.is_empty()).then(|| buffer.split())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut buffer = BytesMut::from(&b"{\"a\":1}\r\n\n{\"b\""[..]);
        assert_eq!(take_line(&mut buffer, false).unwrap(), &b"{\"a\":1}\r"[..]);
        assert_eq!(take_line(&mut buffer, false).unwrap(), &b""[..]);
        assert_eq!(take_line(&mut buffer, false), None);
        assert_eq!(take_line(&mut buffer, true).unwrap(), &b"{\"b\""[..]);
        assert_eq!(take_line(&mut buffer, true), None);
    }
}
