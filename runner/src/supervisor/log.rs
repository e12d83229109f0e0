//! The json-file log exactly as dockerd writes it (moby `daemon/logger/jsonfilelog`, `loggerutils`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::protocol::Frame;
use crate::spec::LogConfig;

/// Longest piece of a line in one entry (moby `defaultBufSize`); the pieces before the last have no newline.
const MAX_PIECE: usize = 16 << 10;
/// Bytes of entries that are written together, at least.
const BATCH: usize = 32 << 10;

/// Splits both streams into lines and writes them.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    config: LogConfig,
    /// Unfinished lines of stdout and stderr.
    partial: [Vec<u8>; 2],
    /// Number of rotations so far.
    pub(super) rotations: u64,
}

impl Log {
    pub(super) fn open(path: PathBuf, config: LogConfig) -> io::Result<Self> {
        let file = open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            size,
            config,
            partial: [Vec::new(), Vec::new()],
            rotations: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes output; complete lines are written, the rest is kept. A full disk loses log lines, never the container.
    pub(super) fn write(&mut self, stream: Frame, mut bytes: &[u8]) {
        let slot = slot(stream);
        let mut partial = std::mem::take(&mut self.partial[slot]);
        let mut out = Vec::new();
        let end = end(stream);
        while !bytes.is_empty() {
            let room = &bytes[..bytes.len().min(MAX_PIECE - partial.len())];
            let newline = room.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = bytes.split_at(newline.map_or(room.len(), |index| index + 1));
            bytes = rest;
            if newline.is_none() && partial.len() + piece.len() < MAX_PIECE {
                partial.extend_from_slice(piece);
                continue;
            }
            self.make_room(&mut out);
            if partial.is_empty() {
                entry(&mut out, piece, &end);
            } else {
                partial.extend_from_slice(piece);
                entry(&mut out, &partial, &end);
                partial.clear();
            }
        }
        self.flush(&mut out);
        self.partial[slot] = partial;
    }

    /// Writes what is left of unfinished lines, without adding newlines.
    pub(super) fn finish(&mut self) {
        for stream in [Frame::Stdout, Frame::Stderr] {
            let rest = std::mem::take(&mut self.partial[slot(stream)]);
            if !rest.is_empty() {
                let mut out = Vec::new();
                self.make_room(&mut out);
                entry(&mut out, &rest, &end(stream));
                self.flush(&mut out);
            }
        }
    }

    /// The unfinished line of a stream, which readers of the file do not see yet.
    pub(super) fn partial(&self, stream: Frame) -> &[u8] {
        &self.partial[slot(stream)]
    }

    /// Before each entry: rotates where dockerd would, and keeps what waits to be written small.
    fn make_room(&mut self, out: &mut Vec<u8>) {
        let full = self.config.max_size > 0 && self.size + out.len() as u64 >= self.config.max_size;
        if full || out.len() >= BATCH {
            self.flush(out);
        }
        if full {
            let _ = self.rotate();
        }
    }

    /// Writes whole entries at once: a system call for each would make a container with short lines several times slower.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if self.file.write_all(out).is_ok() {
            self.size += out.len() as u64;
        }
        out.clear();
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.config.max_files > 1 {
            for index in (1..self.config.max_files - 1).rev() {
                let _ = std::fs::rename(numbered(&self.path, index), numbered(&self.path, index + 1));
            }
            std::fs::rename(&self.path, numbered(&self.path, 1))?;
            self.file = open(&self.path)?;
            self.rotations += 1;
        } else {
            self.file.set_len(0)?;
        }
        self.size = 0;
        Ok(())
    }
}

fn slot(stream: Frame) -> usize {
    usize::from(stream == Frame::Stderr)
}

/// `<log>.1` is the youngest rotated file.
pub(super) fn numbered(path: &Path, index: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// One JSON line: keys and escapes as moby's `jsonlog.JSONLogs.MarshalJSONBuf` has them.
fn entry(out: &mut Vec<u8>, line: &[u8], end: &[u8]) {
    out.extend_from_slice(br#"{"log":""#);
    escape(out, line);
    out.extend_from_slice(end);
}

/// What follows the text of an entry that is made now.
fn end(stream: Frame) -> Vec<u8> {
    let stream = if stream == Frame::Stderr {
        "stderr"
    } else {
        "stdout"
    };
    let time = jiff::Timestamp::now();
    format!("\",\"stream\":\"{stream}\",\"time\":\"{time}\"}}\n").into_bytes()
}

/// Control characters, quotes, `<>&` and U+2028/2029 are escaped; invalid UTF-8 becomes U+FFFD, one per byte.
fn escape(out: &mut Vec<u8>, line: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\' | b'<' | b'>' | b'&' | 0xe2);
    for chunk in line.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(at) = rest.iter().position(special) {
            out.extend_from_slice(&rest[..at]);
            rest = &rest[at..];
            let taken = match rest {
                [0xe2, 0x80, last @ (0xa8 | 0xa9), ..] => {
                    out.extend_from_slice(if *last == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                    3
                }
                [byte @ (b'"' | b'\\'), ..] => {
                    out.extend_from_slice(&[b'\\', *byte]);
                    1
                }
                [b'\n', ..] => {
                    out.extend_from_slice(b"\\n");
                    1
                }
                [b'\r', ..] => {
                    out.extend_from_slice(b"\\r");
                    1
                }
                [0xe2, ..] => {
                    out.push(0xe2);
                    1
                }
                [byte, ..] => {
                    let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[high], HEX[low]]);
                    1
                }
                [] => 0,
            };
            rest = &rest[taken..];
        }
        out.extend_from_slice(rest);
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(config: LogConfig, writes: &[(Frame, &[u8])]) -> (Vec<String>, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x-json.log");
        let mut log = Log::open(path.clone(), config).unwrap();
        for (stream, bytes) in writes {
            log.write(*stream, bytes);
        }
        log.finish();
        let text = std::fs::read_to_string(path).unwrap();
        (text.lines().map(str::to_owned).collect(), dir)
    }

    #[test]
    fn entries_are_dockerd_s() {
        let check = |input: &[u8], expected: &[&str]| {
            let (lines, _dir) = lines(LogConfig::default(), &[(Frame::Stdout, input)]);
            let got: Vec<&str> = lines
                .iter()
                .map(|l| {
                    l.strip_prefix("{\"log\":\"")
                        .unwrap()
                        .split_once("\",\"stream\"")
                        .unwrap()
                        .0
                })
                .collect();
            assert_eq!(got, expected);
        };
        check(b"a\nb", &["a\\n", "b"]);
        check(b"\n", &["\\n"]);
        check(b"q\"\\\t<\r\n", &["q\\\"\\\\\\u0009\\u003c\\r\\n"]);
        check(b"\xff\xfe\n", &["\\ufffd\\ufffd\\n"]);
        check(
            "\0é€\u{2028}|\u{2029}<>&\n".as_bytes(),
            &["\\u0000é€\\u2028|\\u2029\\u003c\\u003e\\u0026\\n"],
        );
        let long = vec![b'x'; MAX_PIECE + 3];
        check(&long, &["x".repeat(MAX_PIECE).as_str(), "xxx"]);
    }

    #[test]
    fn streams_keep_their_own_lines_and_times_are_rfc3339() {
        let writes: [(Frame, &[u8]); 3] = [
            (Frame::Stdout, b"o"),
            (Frame::Stderr, b"e\n"),
            (Frame::Stdout, b"ut\n"),
        ];
        let (lines, _dir) = lines(LogConfig::default(), &writes);
        let parsed: Vec<serde_json::Value> = lines.iter().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(parsed[0]["log"], "e\n");
        assert_eq!(parsed[0]["stream"], "stderr");
        assert_eq!(parsed[1]["log"], "out\n");
        let time = parsed[1]["time"].as_str().unwrap();
        assert!(
            time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'),
            "{time}"
        );
    }

    /// However the output is cut into writes, the entries and the places of rotation are the same.
    #[test]
    fn batches_do_not_show() {
        let text: String = (0..3000).map(|line| format!("line {line}\n")).collect();
        let config = LogConfig {
            enabled: true,
            max_size: 64 << 10,
            max_files: 100,
        };
        for cut in [1, 7, 1000, text.len()] {
            let writes: Vec<(Frame, &[u8])> = text
                .as_bytes()
                .chunks(cut)
                .map(|chunk| (Frame::Stdout, chunk))
                .collect();
            let (mut entries, dir) = lines(config.clone(), &writes);
            for number in 1.. {
                let Ok(older) = std::fs::read_to_string(dir.path().join(format!("x-json.log.{number}")))
                else {
                    break;
                };
                assert!(
                    older.len() >= 64 << 10 && older.len() < (64 << 10) + 200,
                    "{}",
                    older.len()
                );
                entries.splice(0..0, older.lines().map(str::to_owned));
            }
            let read: String = entries
                .iter()
                .map(|entry| {
                    serde_json::from_str::<serde_json::Value>(entry).unwrap()["log"]
                        .as_str()
                        .unwrap()
                        .to_owned()
                })
                .collect();
            assert_eq!(read, text, "cut {cut}");
        }
    }

    #[test]
    fn rotation_keeps_the_newest_files() {
        let config = LogConfig {
            enabled: true,
            max_size: 1,
            max_files: 3,
        };
        let writes: [(Frame, &[u8]); 1] = [(Frame::Stdout, b"1\n2\n3\n4\n")];
        let (current, dir) = lines(config, &writes);
        let rotated = |n| std::fs::read_to_string(dir.path().join(format!("x-json.log.{n}"))).unwrap();
        assert!(current[0].contains("\"4\\n\""), "{current:?}");
        assert!(rotated(1).contains("\"3\\n\"") && rotated(2).contains("\"2\\n\""));
        assert!(!dir.path().join("x-json.log.3").exists());
    }
}
