//! The files of an archive, in the store: small JSON files in memory, all else as blobs, links resolved by name only.

use std::collections::BTreeMap;
use std::io::Read;

use super::compression;
use super::layout::{INDEX, MANIFEST, OCI_LAYOUT, REPOSITORIES, blob_digest};
use crate::digest::Digest;
use crate::store::tar::decode::{Kind, TarEntry, TarReader};
use crate::store::{Error, Lease, Result, Store};

const MAX_ENTRIES: usize = 100_000;
/// Bound on each JSON file of the archive itself.
const MAX_JSON_BYTES: u64 = 16 << 20;
/// Links that may lead to a file.
const MAX_LINKS: usize = 8;
const BUFFER: usize = 1 << 20;

/// What an archive held. Its blobs are in the store, leased while this lives.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) lease: Lease,
    json: BTreeMap<String, Vec<u8>>,
    blobs: BTreeMap<String, Digest>,
    links: BTreeMap<String, String>,
}

impl Files {
    /// Reads a whole archive.
    pub(super) fn read(store: &Store, archive: &mut dyn Read) -> Result<Self> {
        let mut files = Self {
            lease: store.lease()?,
            json: BTreeMap::new(),
            blobs: BTreeMap::new(),
            links: BTreeMap::new(),
        };
        let (_, plain) = compression::open(archive)?;
        let mut tar = TarReader::new(plain, true);
        let mut buffer = vec![0; BUFFER];
        let mut count = 0;
        while let Some(entry) = tar.next_entry()? {
            count += 1;
            if count > MAX_ENTRIES {
                return Err(Error::Archive(format!("more than {MAX_ENTRIES} entries")));
            }
            let path = clean(&entry.path, "")?;
            match entry.kind {
                Kind::Directory => {}
                Kind::Regular => files.file(store, &mut tar, &entry, path, &mut buffer)?,
                Kind::Symlink => {
                    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
                    files.links.insert(path, clean(&entry.link, &parent)?);
                }
                Kind::Hardlink => {
                    files.links.insert(path, clean(&entry.link, "")?);
                }
                Kind::Char | Kind::Block | Kind::Fifo => {
                    return Err(refuse(&entry.path, "neither file, directory nor link"));
                }
            }
        }
        Ok(files)
    }

    fn file<R: Read>(
        &mut self,
        store: &Store,
        tar: &mut TarReader<R>,
        entry: &TarEntry,
        path: String,
        buffer: &mut [u8],
    ) -> Result<()> {
        if entry.sparse.is_some() {
            return Err(refuse(
                &entry.path,
                "sparse files have no place in an image archive",
            ));
        }
        self.links.remove(&path);
        if [INDEX, MANIFEST, OCI_LAYOUT, REPOSITORIES].contains(&path.as_str()) {
            if entry.size > MAX_JSON_BYTES {
                return Err(refuse(&entry.path, format!("larger than {MAX_JSON_BYTES} bytes")));
            }
            let mut bytes = Vec::new();
            loop {
                match tar.read_data(buffer)? {
                    0 => break,
                    got => bytes.extend_from_slice(&buffer[..got]),
                }
            }
            self.json.insert(path, bytes);
            return Ok(());
        }
        // Docker 1.9's metadata, of use to nobody.
        if path.ends_with("/VERSION") || path.ends_with("/json") {
            return Ok(());
        }
        let expected = blob_digest(&path);
        if let Some(digest) = &expected {
            self.lease.blob(digest)?;
            if store.blob_info(digest)?.is_some() {
                self.blobs.insert(path, digest.clone());
                return Ok(());
            }
        }
        let mut ingest = store.ingest()?;
        loop {
            match tar.read_data(buffer)? {
                0 => break,
                got => ingest.write(&buffer[..got])?,
            }
        }
        let (digest, _) = ingest.commit(expected.as_ref())?;
        self.lease.blob(&digest)?;
        self.blobs.insert(path, digest);
        Ok(())
    }

    /// One of the archive's JSON files.
    pub(super) fn json(&self, name: &str) -> Option<&[u8]> {
        self.json.get(name).map(Vec::as_slice)
    }

    /// The blob that a path of the archive leads to.
    pub(super) fn blob(&self, path: &str) -> Result<&Digest> {
        let mut path = clean(path.as_bytes(), "")?;
        for _ in 0..=MAX_LINKS {
            if let Some(digest) = self.blobs.get(&path) {
                return Ok(digest);
            }
            match self.links.get(&path) {
                Some(target) => path.clone_from(target),
                None => return Err(Error::Archive(format!("{path} is missing"))),
            }
        }
        Err(Error::Archive(format!("{path} is behind too many links")))
    }
}

/// A path inside of the archive: relative, without `.` and empty parts, `..` resolved by name and never beyond the top.
fn clean(path: &[u8], base: &str) -> Result<String> {
    let text = std::str::from_utf8(path).map_err(|_| refuse(path, "name is not UTF-8"))?;
    if text.starts_with('/') {
        return Err(refuse(path, "absolute path"));
    }
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => return Err(refuse(path, "path leads out of the archive")),
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn refuse(entry: &[u8], reason: impl Into<String>) -> Error {
    Error::Entry {
        entry: String::from_utf8_lossy(entry).into_owned(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let cases = [
            ("a/b", "", Some("a/b")),
            ("./a//b/", "", Some("a/b")),
            ("../b/layer.tar", "a", Some("b/layer.tar")),
            ("a/../b", "", Some("b")),
            ("../x", "", None),
            ("../../x", "a", None),
            ("/etc/passwd", "", None),
            ("a/../../x", "", None),
        ];
        for (path, base, expected) in cases {
            assert_eq!(
                clean(path.as_bytes(), base).ok().as_deref(),
                expected,
                "{path} in {base:?}"
            );
        }
        assert!(clean(b"\xff", "").is_err());
    }
}
