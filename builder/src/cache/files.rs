//! What a COPY read, file by file, small enough to be kept with every record.
//!
//! One entry: length of the prefix shared with the path before, length of the rest, the rest, mode with file type, user,
//! group (all LEB128), eight bytes of a hash of the content and eight of one of the extended attributes. The hashes only
//! tell *that* something changed, the key has the real ones.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::cause::{Cause, FileChange};

/// Bytes kept of one list; of what comes after only the key tells.
const MAX_BYTES: usize = 16 << 20;
/// A list from elsewhere is not believed to have longer paths.
const MAX_PATH: usize = 1 << 20;

/// What is remembered of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    /// `st_mode`
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// [`fingerprint`] of the bytes, a link's target or a device's number.
    pub(crate) content: u64,
    /// [`fingerprint`] of the extended attributes; 0 if there are none.
    pub(crate) attributes: u64,
}

/// The files of one source in the order they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FileList {
    top: PathBuf,
    bytes: Vec<u8>,
    last: Vec<u8>,
    cut: bool,
}

impl FileList {
    /// For files found at and below `top`.
    pub(crate) fn new(top: &Path) -> Self {
        Self {
            top: top.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a file; `path` is relative to the top.
    pub(crate) fn push(&mut self, path: &Path, fact: Fact) {
        if self.bytes.len() >= MAX_BYTES {
            self.cut = true;
            return;
        }
        let path = path.as_os_str().as_encoded_bytes();
        let shared = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        put(&mut self.bytes, shared as u64);
        put(&mut self.bytes, (path.len() - shared) as u64);
        self.bytes.extend_from_slice(&path[shared..]);
        for number in [fact.mode, fact.user, fact.group] {
            put(&mut self.bytes, number.into());
        }
        self.bytes.extend_from_slice(&fact.content.to_le_bytes());
        self.bytes.extend_from_slice(&fact.attributes.to_le_bytes());
        self.last.truncate(shared);
        self.last.extend_from_slice(&path[shared..]);
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.top.as_os_str().len()
    }

    /// Appends the list to a pre-image.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let top = self.top.as_os_str().as_encoded_bytes();
        put(out, top.len() as u64);
        out.extend_from_slice(top);
        out.push(u8::from(self.cut));
        put(out, self.bytes.len() as u64);
        out.extend_from_slice(&self.bytes);
    }

    /// Takes a list from the front of a pre-image.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let length = take(bytes)?;
        let top = cut(bytes, length)?;
        let [flag] = cut(bytes, 1)? else { return None };
        let length = take(bytes)?;
        Some(Self {
            top: to_path(top),
            bytes: cut(bytes, length)?.to_vec(),
            last: Vec::new(),
            cut: *flag != 0,
        })
    }

    /// The files with their whole paths. Stops where the bytes make no sense.
    fn entries(&self) -> Vec<(PathBuf, Fact)> {
        let mut rest = self.bytes.as_slice();
        let mut path = Vec::new();
        let mut all = Vec::new();
        while let Some(fact) = entry(&mut rest, &mut path) {
            all.push((self.place(&path), fact));
        }
        all
    }

    fn place(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            self.top.clone()
        } else {
            self.top.join(to_path(path))
        }
    }
}

fn entry(rest: &mut &[u8], path: &mut Vec<u8>) -> Option<Fact> {
    let shared = take(rest)?;
    if shared > path.len() {
        return None;
    }
    path.truncate(shared);
    let length = take(rest)?;
    path.extend_from_slice(cut(rest, length)?);
    if path.len() > MAX_PATH {
        return None;
    }
    let mut number = || u32::try_from(take(rest)?).ok();
    let (mode, user, group) = (number()?, number()?, number()?);
    Some(Fact {
        mode,
        user,
        group,
        content: u64::from_le_bytes(cut(rest, 8)?.try_into().ok()?),
        attributes: u64::from_le_bytes(cut(rest, 8)?.try_into().ok()?),
    })
}

/// How the files that one step reads changed from `old` to `new`. What is below an added or removed directory is not
/// mentioned.
pub(super) fn compare(old: &[FileList], new: &[FileList], from: Option<&str>) -> Vec<Cause> {
    // A source that was renamed as a whole is compared with what it was; several are told apart by their paths.
    let renamed = old.len() == 1 && new.len() == 1 && old[0].top != new[0].top;
    let is_cut = old.iter().chain(new).any(|list| list.cut);
    let entries = |lists: &[FileList]| {
        let mut all: Vec<(PathBuf, Fact)> = lists.iter().flat_map(FileList::entries).collect();
        if renamed {
            for (path, _) in &mut all {
                if let Ok(rest) = path.strip_prefix(&old[0].top) {
                    *path = if rest.as_os_str().is_empty() {
                        new[0].top.clone()
                    } else {
                        new[0].top.join(rest)
                    };
                }
            }
        }
        all
    };
    let (old, new) = (entries(old), entries(new));
    let mut before: HashMap<&Path, Fact> = old.iter().map(|(path, fact)| (path.as_path(), *fact)).collect();
    let mut causes = Vec::new();
    // Where a list was cut off, nothing is known about what comes after the last file that both have.
    let end = |files: &[(PathBuf, Fact)], others: &[(PathBuf, Fact)]| {
        if !is_cut {
            return files.len();
        }
        let others: HashSet<&Path> = others.iter().map(|(path, _)| path.as_path()).collect();
        let last = files
            .iter()
            .rposition(|(path, _)| others.contains(path.as_path()));
        last.map_or(0, |last| last + 1)
    };
    let (old_end, new_end) = (end(&old, &new), end(&new, &old));
    let mut told: Option<&Path> = None;
    let mut tell = |path: &Path, change: FileChange| {
        causes.push(Cause::File {
            path: if path.as_os_str().is_empty() {
                ".".to_owned()
            } else {
                path.to_string_lossy().into_owned()
            },
            from: from.map(str::to_owned),
            change,
        });
    };
    for (path, fact) in &new[..new_end] {
        match before.remove(path.as_path()) {
            Some(old) => differences(old, *fact)
                .into_iter()
                .for_each(|change| tell(path, change)),
            None if told.is_some_and(|dir| path.starts_with(dir)) => {}
            None => {
                tell(path, FileChange::Added);
                told = (kind(fact.mode) == "directory").then_some(path);
            }
        }
    }
    let mut told: Option<&Path> = None;
    for (path, fact) in &old[..old_end] {
        if !before.contains_key(path.as_path()) || told.is_some_and(|dir| path.starts_with(dir)) {
            continue;
        }
        tell(path, FileChange::Removed);
        told = (kind(fact.mode) == "directory").then_some(path);
    }
    causes
}

fn differences(old: Fact, new: Fact) -> Vec<FileChange> {
    let mut changes = Vec::new();
    if kind(old.mode) != kind(new.mode) {
        changes.push(FileChange::Type {
            old: kind(old.mode).to_owned(),
            new: kind(new.mode).to_owned(),
        });
        return changes;
    }
    if old.content != new.content {
        changes.push(FileChange::Content);
    }
    if old.attributes != new.attributes {
        changes.push(FileChange::Attributes);
    }
    if old.mode != new.mode {
        changes.push(FileChange::Mode {
            old: format!("{:o}", old.mode & 0o7777),
            new: format!("{:o}", new.mode & 0o7777),
        });
    }
    if (old.user, old.group) != (new.user, new.group) {
        changes.push(FileChange::Owner {
            old: format!("{}:{}", old.user, old.group),
            new: format!("{}:{}", new.user, new.group),
        });
    }
    changes
}

fn kind(mode: u32) -> &'static str {
    use rustix::fs::FileType;
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}

/// FNV-1a; tells versions of one file apart, proves nothing.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// LEB128.
pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

pub(super) fn take(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

pub(super) fn cut<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(front)
}

fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Fact = Fact {
        mode: 0o100_644,
        user: 0,
        group: 0,
        content: 7,
        attributes: 0,
    };
    const DIR: Fact = Fact {
        mode: 0o40_755,
        content: 0,
        ..FILE
    };

    fn list(top: &str, files: &[(&str, Fact)]) -> FileList {
        let mut list = FileList::new(Path::new(top));
        files
            .iter()
            .for_each(|(path, fact)| list.push(Path::new(path), *fact));
        let mut bytes = Vec::new();
        list.encode(&mut bytes);
        let mut rest = bytes.as_slice();
        let decoded = FileList::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        // Whatever is cut off, nothing breaks.
        for end in 0..bytes.len() {
            let mut part = &bytes[..end];
            drop(FileList::decode(&mut part).map(|list| list.entries()));
        }
        decoded
    }

    #[test]
    fn cut_off() {
        let mut old = list("", &[("a", FILE), ("b", FILE), ("c", FILE)]);
        let new = list("", &[("0", FILE), ("a", FILE), ("b", FILE), ("z", FILE)]);
        old.cut = true;
        let texts: Vec<String> = compare(&[old], &[new], None)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts, ["0: added"]);
    }

    #[test]
    fn changes() {
        let old = || vec![("", DIR), ("a", FILE), ("d", DIR), ("d/b", FILE), ("d/c", FILE)];
        type Files<'a> = Vec<(&'a str, Fact)>;
        let cases: [(&str, Files<'_>, &[&str]); 8] = [
            ("s", old(), &[]),
            (
                "s",
                vec![
                    ("", DIR),
                    (
                        "a",
                        Fact {
                            content: 8,
                            mode: 0o100_600,
                            ..FILE
                        },
                    ),
                    ("d", DIR),
                    ("d/b", FILE),
                    ("d/c", FILE),
                ],
                &["s/a: content changed", "s/a: mode changed: 644 -> 600"],
            ),
            ("s", vec![("", DIR), ("a", FILE)], &["s/d: removed"]),
            (
                "s",
                vec![("", DIR), ("a", FILE), ("d", DIR), ("d/c", FILE)],
                &["s/d/b: removed"],
            ),
            (
                "s",
                [old(), vec![("n", DIR), ("n/x", FILE), ("o", FILE)]].concat(),
                &["s/n: added", "s/o: added"],
            ),
            ("t", old(), &[]),
            (
                "s",
                vec![
                    ("", Fact { user: 5, ..DIR }),
                    ("a", DIR),
                    ("d", DIR),
                    ("d/b", FILE),
                    (
                        "d/c",
                        Fact {
                            attributes: 1,
                            ..FILE
                        },
                    ),
                ],
                &[
                    "s: owner changed: 0:0 -> 5:0",
                    "s/a: type changed: file -> directory",
                    "s/d/c: extended attributes changed",
                ],
            ),
            ("", vec![], &["s: removed"]),
        ];
        for (top, new, expected) in cases {
            let lists = if new.is_empty() {
                vec![]
            } else {
                vec![list(top, &new)]
            };
            let causes = compare(&[list("s", &old())], &lists, None);
            let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
            assert_eq!(texts, expected);
        }
    }
}
