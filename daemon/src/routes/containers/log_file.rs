//! Reading a container's log files while they are written and rotated.
//!
//! The current file has the plain name; rotation renames it to `.1`, `.1` to `.2`, and so on. A reader keeps the file it
//! is in open, so a rename loses nothing; which file comes next is found by inode.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

/// A line longer than this is not one of ours (payloads are cut at 16 KiB).
const LINE_LIMIT: usize = 1 << 20;
/// More files than the runner keeps.
const FILES_LIMIT: usize = 1000;
const BLOCK: usize = 64 << 10;

/// One line of the file, as dockerd's json-file driver writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    pub(super) log: String,
    pub(super) stream: String,
    /// RFC 3339 with nanoseconds.
    pub(super) time: String,
}

/// Reads entries in order; at the end of what is written it says so and can be asked again.
#[derive(Debug)]
pub(super) struct LogReader {
    path: PathBuf,
    /// Files still to read, oldest first; the first is being read.
    files: Vec<File>,
    /// Bytes read and not yet a whole line.
    pending: Vec<u8>,
}

impl LogReader {
    /// Opens all files of the log, oldest first; `tail` skips to the last so many entries.
    pub(super) fn open(path: &Path, tail: Option<usize>) -> io::Result<Self> {
        let mut files: Vec<File> = Vec::new();
        // From the newest to the oldest: a rotation in between shows a file twice, which its inode tells, and never
        // hides one.
        for index in 0..FILES_LIMIT {
            match open_file(&rotated(path, index)) {
                Ok(file) => {
                    let inode = file.metadata()?.ino();
                    let mut known = false;
                    for other in &files {
                        known |= other.metadata()?.ino() == inode;
                    }
                    if !known {
                        files.push(file);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if index > 0 {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(tail) = tail {
            let mut wanted = tail;
            let mut keep = 0;
            for file in &mut files {
                keep += 1;
                let found = seek_to_last_lines(file, wanted)?;
                wanted -= found;
                if wanted == 0 {
                    break;
                }
            }
            files.truncate(keep);
        }
        files.reverse();
        Ok(Self {
            path: path.to_owned(),
            files,
            pending: Vec::new(),
        })
    }

    /// Up to a block's worth of entries; empty at the end of what is written.
    pub(super) fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while entries.is_empty() {
            if self.files.is_empty() {
                match open_file(&self.path) {
                    Ok(file) => self.files.push(file),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
                    Err(error) => return Err(error),
                }
            }
            let mut block = vec![0; BLOCK];
            let count = self.files[0].read(&mut block)?;
            if count > 0 {
                self.take_lines(&block[..count], &mut entries)?;
                continue;
            }
            if self.files.len() > 1 {
                self.next_file();
            } else if !self.follow_rotation()? {
                break;
            }
        }
        Ok(entries)
    }

    fn next_file(&mut self) {
        self.files.remove(0);
        // A line that was never finished: its writer was killed.
        self.pending.clear();
    }

    /// After a rotation: reads what was still written to the file we are in, then goes on with its successors.
    fn follow_rotation(&mut self) -> io::Result<bool> {
        let current = match self.files[0].metadata() {
            Ok(metadata) => metadata.ino(),
            Err(error) => return Err(error),
        };
        let mut successors = Vec::new();
        let mut found = false;
        for index in 0..FILES_LIMIT {
            match open_file(&rotated(&self.path, index)) {
                Ok(file) if file.metadata()?.ino() == current => {
                    found = true;
                    break;
                }
                Ok(file) => successors.push(file),
                // The current file is missing for a moment in the middle of a rotation.
                Err(error) if error.kind() == io::ErrorKind::NotFound && index == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        if successors.is_empty() {
            return Ok(false);
        }
        if !found {
            tracing::debug!(path = %self.path.display(), "log was rotated faster than it was read");
        }
        successors.reverse();
        // Nothing is written to a file after its rename, so one more look at it is the last one.
        let mut rest = Vec::new();
        self.files[0].read_to_end(&mut rest)?;
        if !rest.is_empty() {
            let length = i64::try_from(rest.len()).map_err(io::Error::other)?;
            self.files[0].seek(SeekFrom::Current(-length))?;
        }
        self.files.truncate(1);
        self.files.append(&mut successors);
        Ok(true)
    }

    fn take_lines(&mut self, block: &[u8], entries: &mut Vec<Entry>) -> io::Result<()> {
        for part in block.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            if self.pending.last() != Some(&b'\n') {
                if self.pending.len() > LINE_LIMIT {
                    return Err(io::Error::other(
                        "a line of the log is longer than any that is written",
                    ));
                }
                continue;
            }
            match serde_json::from_slice(&self.pending) {
                Ok(entry) => entries.push(entry),
                Err(error) => {
                    tracing::warn!(path = %self.path.display(), %error, "leaving out a damaged log line");
                }
            }
            self.pending.clear();
        }
        Ok(())
    }
}

/// `x.log`, `x.log.1`, `x.log.2`, …
fn rotated(path: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Puts the position before the last `wanted` lines; how many there are from there.
fn seek_to_last_lines(file: &mut File, wanted: usize) -> io::Result<usize> {
    let end = file.seek(SeekFrom::End(0))?;
    if wanted == 0 {
        return Ok(0);
    }
    let mut position = end;
    let mut found = 0;
    let mut block = vec![0; BLOCK];
    while position > 0 {
        let size = usize::try_from(position.min(BLOCK as u64)).map_err(io::Error::other)?;
        position -= size as u64;
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut block[..size])?;
        for index in (0..size).rev() {
            let offset = position + index as u64;
            // The newline before a line marks its start; the one at the very end ends the last line.
            if block[index] == b'\n' && offset + 1 < end {
                found += 1;
                if found == wanted {
                    file.seek(SeekFrom::Start(offset + 1))?;
                    return Ok(found);
                }
            }
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(if end > 0 { found + 1 } else { 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(number: usize) -> String {
        format!(
            "{{\"log\":\"{number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00.{number:09}Z\"}}\n"
        )
    }

    fn append(path: &Path, numbers: std::ops::Range<usize>) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for number in numbers {
            file.write_all(line(number).as_bytes()).unwrap();
        }
    }

    fn rotate(path: &Path) {
        for index in (0..5).rev() {
            let from = rotated(path, index);
            if from.exists() {
                std::fs::rename(from, rotated(path, index + 1)).unwrap();
            }
        }
    }

    fn all(reader: &mut LogReader) -> Vec<usize> {
        let mut numbers = Vec::new();
        loop {
            let entries = reader.read().unwrap();
            if entries.is_empty() {
                return numbers;
            }
            numbers.extend(
                entries
                    .iter()
                    .map(|entry| entry.log.trim().parse::<usize>().unwrap()),
            );
        }
    }

    #[test]
    fn reads_over_rotated_files_and_from_the_tail() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        for part in 0..3 {
            rotate(&path);
            append(&path, part * 1000..(part + 1) * 1000);
        }
        let check = |tail: Option<usize>, expected: std::ops::Range<usize>| {
            let mut reader = LogReader::open(&path, tail).unwrap();
            assert_eq!(all(&mut reader), expected.collect::<Vec<_>>(), "{tail:?}");
        };
        check(None, 0..3000);
        check(Some(0), 0..0);
        check(Some(1), 2999..3000);
        check(Some(1000), 2000..3000);
        check(Some(1500), 1500..3000);
        check(Some(9999), 0..3000);
    }

    #[test]
    fn follows_over_rotations_without_loss_or_repetition() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut reader = LogReader::open(&path, None).unwrap();
        assert!(all(&mut reader).is_empty());
        append(&path, 0..2);
        assert_eq!(all(&mut reader), [0, 1]);
        append(&path, 2..3);
        rotate(&path);
        assert_eq!(all(&mut reader), [2], "what was written before the rename");
        append(&path, 3..5);
        rotate(&path);
        append(&path, 5..6);
        rotate(&path);
        append(&path, 6..7);
        assert_eq!(all(&mut reader), [3, 4, 5, 6]);
        assert!(all(&mut reader).is_empty());
    }

    #[test]
    fn waits_for_the_end_of_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let text = line(7);
        let (head, tail) = text.split_at(20);
        std::fs::write(&path, head).unwrap();
        let mut reader = LogReader::open(&path, None).unwrap();
        assert!(all(&mut reader).is_empty());
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(tail.as_bytes())
            .unwrap();
        assert_eq!(all(&mut reader), [7]);
    }
}
