//! Detach keys: the sequence that ends an attach without touching the process.

use crate::error::{ApiError, ApiResult};

/// ctrl-p ctrl-q.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// Finds the sequence in typed bytes, also across reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// `ctrl-p,ctrl-q`, `a,b`; empty is the default. Docker's grammar: a character, or `ctrl-` with `a-z@[\]^_`.
    pub(crate) fn parse(text: &str) -> ApiResult<Self> {
        if text.is_empty() {
            return Ok(Self {
                sequence: DEFAULT.to_vec(),
                matched: 0,
            });
        }
        let key = |key: &str| match (key.strip_prefix("ctrl-").map(str::as_bytes), key.as_bytes()) {
            (Some([letter @ b'a'..=b'z']), _) => Some(letter - b'a' + 1),
            (Some(b"@"), _) => Some(0),
            (Some([sign @ b'['..=b'_']), _) => Some(sign - b'[' + 27),
            (None, [byte]) => Some(*byte),
            _ => None,
        };
        let sequence: Option<Vec<u8>> = text.split(',').map(key).collect();
        match sequence {
            Some(sequence) => Ok(Self { sequence, matched: 0 }),
            None => Err(ApiError::bad(format!("Invalid detach keys ({text}) provided"))),
        }
    }

    /// Takes typed bytes and gives those that belong to the process; `true` when the sequence is complete.
    ///
    /// A begun sequence is held back until it is completed or broken.
    pub(crate) fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut output = Vec::with_capacity(input.len());
        for &byte in input {
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return (output, true);
                }
                continue;
            }
            output.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = 0;
            if byte == self.sequence[0] && self.sequence.len() > 1 {
                self.matched = 1;
            } else {
                output.push(byte);
            }
        }
        (output, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_sequences_across_reads_and_gives_back_broken_ones() {
        let check = |keys: &str, reads: &[&[u8]], expected: &[u8], detached: bool| {
            let mut keys = DetachKeys::parse(keys).unwrap();
            let mut output = Vec::new();
            let mut found = false;
            for read in reads {
                let (bytes, end) = keys.filter(read);
                output.extend(bytes);
                found |= end;
            }
            assert_eq!((output.as_slice(), found), (expected, detached));
        };
        check("", &[b"ab\x10\x11"], b"ab", true);
        check("", &[b"ab\x10", b"\x11"], b"ab", true);
        check("", &[b"\x10x"], b"\x10x", false);
        check("", &[b"\x10\x10\x11"], b"\x10", true);
        check("ctrl-[,q", &[b"\x1bq"], b"", true);
        check("x", &[b"ax"], b"a", true);
        for bad in ["ctrl-", "ctrl-1", "ab", ","] {
            assert!(DetachKeys::parse(bad).is_err(), "{bad}");
        }
    }
}
