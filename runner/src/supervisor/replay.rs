//! Feeding the log to a client that attaches with `logs=1` before it gets live output.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

use super::client::Outlet;
use super::log::{Log, numbered};
use super::protocol::Frame;
use crate::container::AttachOptions;

/// Position of a client in the log. A line at a time is read, and only when the client's queue is empty, so a replay
/// costs no memory.
#[derive(Debug)]
pub(super) struct Replay {
    /// Files still to read, the next one last.
    files: Vec<BufReader<File>>,
    /// The log's rotation count when the last of `files` was current.
    rotations: u64,
}

#[derive(Deserialize)]
struct Entry {
    log: String,
    stream: String,
}

impl Replay {
    pub(super) fn new(log: &Log) -> Self {
        let open = |path: &Path| File::open(path).ok().map(BufReader::new);
        let mut files: Vec<BufReader<File>> = open(log.path()).into_iter().collect();
        files.extend((1_u32..).map_while(|index| open(&numbered(log.path(), index))));
        Self {
            files,
            rotations: log.rotations,
        }
    }

    /// Sends the next lines until the client's queue is not empty. True when the client has caught up with everything
    /// logged and now also got the unfinished lines, so that live output continues exactly here.
    pub(super) fn feed(&mut self, log: &Log, outlet: &mut Outlet, options: AttachOptions, raw: bool) -> bool {
        while outlet.is_empty() && !outlet.is_broken() {
            let mut line = Vec::new();
            let read = self
                .files
                .last_mut()
                .map_or(Ok(0), |file| file.read_until(b'\n', &mut line));
            if matches!(read, Ok(0) | Err(_)) {
                if self.files.len() > 1 {
                    self.files.pop();
                } else if !self.follow_rotation(log) {
                    for stream in [Frame::Stdout, Frame::Stderr] {
                        send(outlet, options, raw, stream, log.partial(stream));
                    }
                    return true;
                }
                continue;
            }
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else {
                continue;
            };
            let stream = if entry.stream == "stderr" {
                Frame::Stderr
            } else {
                Frame::Stdout
            };
            send(outlet, options, raw, stream, entry.log.as_bytes());
        }
        outlet.is_broken()
    }

    /// Opens the file after the one that was read last, if the log was rotated meanwhile.
    fn follow_rotation(&mut self, log: &Log) -> bool {
        let behind = log.rotations - self.rotations;
        if behind == 0 {
            return false;
        }
        self.rotations += 1;
        let index = u32::try_from(behind - 1).unwrap_or(u32::MAX);
        let path = if index == 0 {
            log.path().to_path_buf()
        } else {
            numbered(log.path(), index)
        };
        self.files = File::open(path).ok().map(BufReader::new).into_iter().collect();
        true
    }
}

/// Sends output to a client if it asked for that stream.
pub(super) fn send(outlet: &mut Outlet, options: AttachOptions, raw: bool, stream: Frame, bytes: &[u8]) {
    let wanted = if stream == Frame::Stderr {
        options.stderr
    } else {
        options.stdout
    };
    if !wanted || bytes.is_empty() {
        return;
    }
    let header = stream.header(bytes.len());
    outlet.push(if raw { &[] } else { &header }, bytes);
}
