//! Output of a process on its way to events and error texts.

use std::collections::VecDeque;

/// Output shown again when a process fails.
const TAIL_LINES: usize = 20;
const TAIL_LINE: usize = 4096;

/// The last lines of a process's output.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<Vec<u8>>,
    open: bool,
}

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            if !self.open {
                self.lines.push_back(Vec::new());
                if self.lines.len() > TAIL_LINES {
                    self.lines.pop_front();
                }
            }
            if let Some(line) = self.lines.back_mut() {
                let room = TAIL_LINE.saturating_sub(line.len());
                line.extend_from_slice(&part[..part.len().min(room)]);
            }
            self.open = !part.ends_with(b"\n");
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(String::from_utf8_lossy(line).trim_end_matches('\n'));
            text.push('\n');
        }
        text
    }
}

/// Turns chunks of bytes into text without breaking characters between chunks.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut used = 0;
        for chunk in self.rest.utf8_chunks() {
            text.push_str(chunk.valid());
            used += chunk.valid().len();
            let invalid = chunk.invalid();
            // An incomplete character at the very end may still be completed.
            let partial =
                used + invalid.len() == self.rest.len() && invalid.len() < 4 && could_continue(invalid);
            if invalid.is_empty() || partial {
                continue;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            used += invalid.len();
        }
        self.rest.drain(..used);
        text
    }

    pub(super) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

fn could_continue(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stay_whole() {
        let mut decoder = Utf8::default();
        let parts: [&[u8]; 5] = [b"a\xc3", b"\xa9b\xff", b"c\xf0\x9f", b"\x98\x80", b"\xe2\x82"];
        let texts: Vec<String> = parts.iter().map(|part| decoder.push(part)).collect();
        assert_eq!(texts, ["a", "éb\u{fffd}", "c", "😀", ""]);
        assert_eq!(decoder.finish(), "\u{fffd}");
    }

    #[test]
    fn tail_keeps_last_lines() {
        let mut tail = Tail::default();
        for i in 0..50 {
            tail.push(format!("line {i}\nnext").as_bytes());
            tail.push(b"\n");
        }
        assert_eq!(tail.lines.len(), TAIL_LINES);
        assert!(tail.text().ends_with("line 49\nnext\n"));
    }
}
