//! The index of a mount: what is written for others and believed only after a look.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use cooper_registry::digest::Digest;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
/// Most files of a mount.
pub(super) const MAX_ENTRIES: usize = 2_000_000;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Dir,
    /// Size in bytes.
    File(u64),
    /// Target, escaped.
    Link(String),
    /// Another name of the entry with this number.
    Same(usize),
}

/// One file; the first one is the mount's own directory, with an empty path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Relative and escaped, see [`escape`].
    pub(super) path: String,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, u32),
}

/// The bytes of a pack before compression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PackInfo {
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listing {
    version: u32,
    pub(super) entries: Vec<Entry>,
    pub(super) packs: Vec<PackInfo>,
}

impl Listing {
    pub(super) fn new(entries: Vec<Entry>, packs: Vec<PackInfo>) -> Self {
        Self {
            version: VERSION,
            entries,
            packs,
        }
    }

    /// Reads an index and checks that it makes sense: parents before children, no path out of the mount, as many bytes in
    /// packs as in files, links to earlier files.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let listing: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if listing.version != VERSION {
            return Err(format!("version {}, expected {VERSION}", listing.version));
        }
        if listing.entries.len() > MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} files"));
        }
        let root = listing.entries.first();
        if !root.is_some_and(|root| root.path.is_empty() && root.kind == Kind::Dir) {
            return Err("the first entry is not the mount's directory".to_owned());
        }
        let mut dirs = std::collections::HashSet::from([PathBuf::new()]);
        let mut seen = std::collections::HashSet::from([PathBuf::new()]);
        let mut files = 0u64;
        for (at, entry) in listing.entries.iter().enumerate().skip(1) {
            let path = plain(&entry.path).ok_or_else(|| format!("unusable path {:?}", entry.path))?;
            let parent = path.parent().unwrap_or(Path::new(""));
            if !dirs.contains(parent) || !seen.insert(path.clone()) {
                return Err(format!("misplaced path {:?}", entry.path));
            }
            match &entry.kind {
                Kind::Dir => drop(dirs.insert(path)),
                Kind::File(size) => files = files.saturating_add(*size),
                Kind::Link(_) => {}
                Kind::Same(other) => {
                    let target = listing.entries[..at].get(*other).map(|target| &target.kind);
                    if !matches!(target, Some(Kind::File(_))) {
                        return Err(format!("{:?} is a link to no file", entry.path));
                    }
                }
            }
        }
        let packed = listing
            .packs
            .iter()
            .fold(0u64, |sum, pack| sum.saturating_add(pack.size));
        if packed != files {
            return Err(format!("{packed} bytes in packs, {files} in files"));
        }
        Ok(listing)
    }
}

/// A path of plain components, none empty, `.` or `..`.
fn plain(text: &str) -> Option<PathBuf> {
    let bytes = unescape(text)?;
    let path = PathBuf::from(OsStr::from_bytes(&bytes));
    let fine = path.components().all(|part| matches!(part, Component::Normal(_)));
    let whole = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (fine && whole && !bytes.is_empty() && !bytes.contains(&0)).then_some(path)
}

/// The path of an entry that was checked.
pub(super) fn path_of(entry: &Entry) -> PathBuf {
    plain(&entry.path).unwrap_or_default()
}

/// Bytes as text: what is no UTF-8, and `%`, as `%XX`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' {
                text.push_str("%25");
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The reverse of [`escape`].
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes() {
        for bytes in [&b"a/b"[..], b"100%", b"\xff\x00x%41", "ä".as_bytes(), b""] {
            assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
        }
        assert!(unescape("%4").is_none() && unescape("%zz").is_none());
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let entry = |path: &str, kind: &str| {
            format!(r#"{{"path":"{path}","kind":{kind},"mode":420,"uid":0,"gid":0,"mtime":[0,0]}}"#)
        };
        let check = |entries: &[String], fine: bool| {
            let text = format!(r#"{{"version":1,"entries":[{}],"packs":[]}}"#, entries.join(","));
            assert_eq!(Listing::read(text.as_bytes()).is_ok(), fine, "{text}");
        };
        let (root, file) = (entry("", "\"dir\""), "{\"file\":0}");
        check(&[], false);
        check(&[entry("a", "\"dir\"")], false);
        check(std::slice::from_ref(&root), true);
        check(&[root.clone(), entry("a", "\"dir\""), entry("a/b", file)], true);
        check(
            &[root.clone(), entry("a", "{\"link\":\"/\"}"), entry("a/b", file)],
            false,
        );
        check(
            &[root.clone(), entry("a", file), entry("b", "{\"same\":1}")],
            true,
        );
        check(
            &[root.clone(), entry("a", file), entry("b", "{\"same\":2}")],
            false,
        );
        check(&[root.clone(), entry("a", file), entry("a", file)], false);
        check(&[root.clone(), entry("a", "{\"file\":7}")], false);
        for path in ["../x", "/x", "a/../b", ".", "a//b", "%00", "%2E%2E/x", "", "a/"] {
            check(&[root.clone(), entry(path, file)], false);
        }
    }
}
