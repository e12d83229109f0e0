//! Contents of files: digests and extended attributes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::fd::AsFd;

use cooper_registry::digest::Algorithm;
use rustix::fs::{Stat, fgetxattr, flistxattr};
use rustix::io::Errno;

use super::entry::{Entry, RootHandle};
use crate::build::{Error, IoContext as _};

const CHUNK: usize = 1 << 20;
/// The kernel's own limit on names and values.
const XATTR_LIMIT: usize = 64 << 10;

/// Digest of a file's bytes and of the attributes that would be copied with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataDigest(pub(crate) String);

/// Hashes a regular file. The state it had then tells whether it changed since it was listed.
pub(crate) fn hash_file(root: &RootHandle, entry: &Entry) -> Result<(DataDigest, Stat), Error> {
    let mut file = root.open_file(&entry.real).at(&entry.real)?;
    let mut hasher = Algorithm::Sha256.hasher();
    let size = usize::try_from(entry.stat.st_size).unwrap_or(0);
    let mut buffer = vec![0; size.clamp(1, CHUNK)];
    loop {
        match file
            .read(&mut buffer)
            .map_err(|error| Error::io(&entry.real, &error))?
        {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let mut digest = hasher.finish().hex().to_owned();
    if let Some(attributes) = hash_xattrs(&file) {
        digest.push('+');
        digest.push_str(&attributes);
    }
    let stat = rustix::fs::fstat(&file).at(&entry.real)?;
    Ok((DataDigest(digest), stat))
}

/// Digest of the attributes of a directory that would be copied with it, if it has any.
pub(crate) fn hash_directory(root: &RootHandle, entry: &Entry) -> Result<Option<String>, Error> {
    Ok(hash_xattrs(root.open_dir(&entry.real).at(&entry.real)?))
}

fn hash_xattrs(file: impl AsFd) -> Option<String> {
    let attributes = xattrs(file);
    if attributes.is_empty() {
        return None;
    }
    let mut hasher = Algorithm::Sha256.hasher();
    for (name, value) in &attributes {
        for part in [name.as_slice(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Some(hasher.finish().hex().to_owned())
}

/// All attributes of a directory of a layer, as they are in the layer's archive.
pub(super) fn layer_xattrs(file: impl AsFd) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let all = |_: &[u8]| true;
    read_xattrs(file, all).into_iter().collect()
}

/// The attributes that COPY keeps, sorted: a user's own and file capabilities. Never `trusted.*` (overlayfs's own are
/// there), nor labels of this host. Best effort, as BuildKit: file systems without attributes have none.
pub(super) fn xattrs(file: impl AsFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    read_xattrs(file, is_copied)
}

fn read_xattrs(file: impl AsFd, wanted: impl Fn(&[u8]) -> bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Most files have none, and that is cheaper to learn than by making room for all there could be.
    if !matches!(flistxattr(&file, &mut [0u8; 1][..]), Err(Errno::RANGE)) {
        return Vec::new();
    }
    let mut list = vec![0; XATTR_LIMIT];
    let Ok(length) = flistxattr(&file, &mut list[..]) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in list[..length]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty() && wanted(name))
    {
        let mut value = vec![0; XATTR_LIMIT];
        if let Ok(length) = fgetxattr(&file, name, &mut value[..]) {
            value.truncate(length);
            found.push((name.to_owned(), value));
        }
    }
    found.sort();
    found
}

fn is_copied(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
}
