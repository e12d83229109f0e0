//! Notes: small files that a builder keeps beside the store for its own use. Any of them may be gone at any time.
//!
//! `notes/<name>` is `"cooper-note 1\n"`, the first 16 bytes of the SHA-256 of the rest, and the rest. Written whole by rename
//! and never synced: one that a power cut damaged does not match its digest and is taken for missing. What was not read or
//! written for [`MAX_AGE`], and beyond [`MAX_BYTES`] the oldest, are removed by collections and by [`Store::trim_notes`].

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::error::{Error, IoContext, Result};
use super::handle::Store;
use super::layout::{make_dir, random_id};
use crate::digest::Algorithm;

const MAGIC: &[u8] = b"cooper-note 1\n";
const DIGEST: usize = 16;
/// A longer note is not written.
const MAX_NOTE: usize = 64 << 20;
/// All notes together, as `du` counts them.
const MAX_BYTES: u64 = 256 << 20;
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The time of last use is not written more often than this.
const USED_GRANULARITY: Duration = Duration::from_secs(3600);
/// A temporary file that is older has lost its writer.
const ABANDONED: Duration = Duration::from_secs(600);

impl Store {
    /// The note of this name, if there is one and it is whole. Counts as a use.
    pub fn note(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.note_path(name)?;
        let mut file = match fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at(&path)?,
        };
        let metadata = file.metadata().at(&path)?;
        let limit = MAGIC.len() + DIGEST + MAX_NOTE;
        let Some(size) = usize::try_from(metadata.len()).ok().filter(|&size| size <= limit) else {
            return Ok(None);
        };
        let mut head = [0; MAGIC.len() + DIGEST];
        if size < head.len() {
            return Ok(None);
        }
        file.read_exact(&mut head).at(&path)?;
        let mut bytes = Vec::with_capacity(size - head.len());
        std::io::Read::by_ref(&mut file)
            .take(limit as u64)
            .read_to_end(&mut bytes)
            .at(&path)?;
        if head[..MAGIC.len()] != *MAGIC || head[MAGIC.len()..] != checksum(&bytes) {
            return Ok(None);
        }
        let used = metadata.modified().ok().and_then(|time| time.elapsed().ok());
        if used.is_some_and(|age| age > USED_GRANULARITY) {
            // It may have been replaced or removed meanwhile; its age matters little.
            let _ = file.set_modified(SystemTime::now());
        }
        Ok(Some(bytes))
    }

    /// Writes a note, replacing the one of this name. One that is too long, or for which there is no room, is not written.
    pub fn put_note(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.note_path(name)?;
        if bytes.len() > MAX_NOTE {
            return Ok(());
        }
        let dir = self.inner.layout.dir("notes");
        let temporary = dir.join(format!(".{}", random_id()?));
        let mut content = Vec::with_capacity(MAGIC.len() + DIGEST + bytes.len());
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&checksum(bytes));
        content.extend_from_slice(bytes);
        let written = match fs::write(&temporary, &content) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make_dir(&dir, 0o700)?;
                fs::write(&temporary, &content)
            }
            other => other,
        };
        let result = written.and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = result {
            let _ = fs::remove_file(&temporary);
            if matches!(
                error.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) {
                return Ok(());
            }
            return Err(Error::io(&path, error));
        }
        Ok(())
    }

    /// Names of the notes that begin with `prefix`, the last used ones first.
    pub fn notes(&self, prefix: &str) -> Result<Vec<String>> {
        let mut found: Vec<_> = self
            .note_files()?
            .into_iter()
            .filter(|note| note.name.starts_with(prefix))
            .collect();
        found.sort_by(|a, b| (b.used, &a.name).cmp(&(a.used, &b.name)));
        Ok(found.into_iter().map(|note| note.name).collect())
    }

    /// Removes what is too old or too much.
    pub fn trim_notes(&self) -> Result<()> {
        let mut notes = self.note_files()?;
        notes.sort_by_key(|note| std::cmp::Reverse(note.used));
        let mut total = 0;
        for note in notes {
            total += note.bytes;
            let age = note.used.elapsed().unwrap_or_default();
            let limit = if note.name.starts_with('.') {
                ABANDONED
            } else {
                MAX_AGE
            };
            if age > limit || total > MAX_BYTES {
                match fs::remove_file(&note.path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io(&note.path, error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn note_files(&self) -> Result<Vec<NoteFile>> {
        let dir = self.inner.layout.dir("notes");
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.at(&dir)?,
        };
        let mut notes = Vec::new();
        for entry in entries {
            let entry = entry.at(&dir)?;
            // One that is gone has just been replaced or trimmed.
            let Ok(metadata) = entry.metadata() else { continue };
            notes.push(NoteFile {
                name: entry.file_name().to_string_lossy().into_owned(),
                path: entry.path(),
                used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                bytes: metadata.blocks() * 512,
            });
        }
        Ok(notes)
    }

    fn note_path(&self, name: &str) -> Result<PathBuf> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || name.is_empty() || name.len() > 128 {
            return Err(Error::Damaged(format!("{name:?} is no name for a note")));
        }
        Ok(self.inner.layout.dir("notes").join(name))
    }
}

struct NoteFile {
    name: String,
    path: PathBuf,
    used: SystemTime,
    bytes: u64,
}

fn checksum(bytes: &[u8]) -> [u8; DIGEST] {
    let mut hasher = Algorithm::Sha256.hasher();
    hasher.update(bytes);
    let hex = hasher.finish();
    let mut sum = [0; DIGEST];
    for (byte, pair) in sum.iter_mut().zip(hex.hex().as_bytes().chunks(2)) {
        let digit = |c: u8| {
            char::from(c)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .unwrap_or(0)
        };
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_read_damaged_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        assert_eq!(store.note("a").unwrap(), None);
        assert!(store.notes("").unwrap().is_empty());
        for text in ["first", "", "second"] {
            store.put_note("a", text.as_bytes()).unwrap();
            assert_eq!(store.note("a").unwrap().unwrap(), text.as_bytes());
        }
        store.put_note("b", b"x").unwrap();
        let path = store.root().join("notes/b");
        let whole = fs::read(&path).unwrap();
        for damaged in [
            &whole[..whole.len() - 1],
            &[whole.as_slice(), b"y"].concat(),
            b"",
            b"cooper-note 2\n",
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.note("b").unwrap(), None);
        }
        for name in ["", "../a", ".a", "a/b"] {
            assert!(store.put_note(name, b"").is_err(), "{name}");
        }
        fs::write(store.root().join("notes/.dead"), "").unwrap();
        let old = SystemTime::now() - MAX_AGE - Duration::from_secs(1);
        for name in ["b", ".dead"] {
            fs::File::options()
                .write(true)
                .open(store.root().join("notes").join(name))
                .unwrap()
                .set_modified(old)
                .unwrap();
        }
        store.trim_notes().unwrap();
        let left: Vec<_> = fs::read_dir(store.root().join("notes"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, ["a"]);
    }
}
