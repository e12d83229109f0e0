//! Contents of files: digests, copying, extended attributes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;

use cooper_registry::digest::Algorithm;
use rustix::fs::{
    SeekFrom, Stat, XattrFlags, copy_file_range, fgetxattr, flistxattr, fsetxattr, ftruncate, seek,
};
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

/// The attributes that COPY keeps, sorted: a user's own and file capabilities. Never `trusted.*` (overlayfs's own are
/// there), nor labels of this host. Best effort, as BuildKit: file systems without attributes have none.
pub(super) fn xattrs(file: impl AsFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    // Almost all files have none: no large buffer for those.
    if flistxattr(&file, &mut [0u8; 16][..]) == Ok(0) {
        return Vec::new();
    }
    let mut list = vec![0; XATTR_LIMIT];
    let Ok(length) = flistxattr(&file, &mut list[..]) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for name in list[..length].split(|&b| b == 0).filter(|name| is_copied(name)) {
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

pub(super) fn set_xattrs(file: impl AsFd, attributes: &[(Vec<u8>, Vec<u8>)]) {
    for (name, value) in attributes {
        if let Err(errno) = fsetxattr(&file, name.as_slice(), value, XattrFlags::empty()) {
            tracing::debug!(name = %String::from_utf8_lossy(name), %errno, "an extended attribute could not be copied");
        }
    }
}

/// Copies all bytes of `from` into the empty file `to`, holes kept.
pub(super) fn copy_data(from: &File, to: &File, stat: &Stat, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let blocks = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX);
    if blocks.saturating_mul(512) >= size {
        return copy_range(from, to, 0, u64::MAX, buffer);
    }
    let mut at = 0;
    while at < size {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return copy_range(from, to, at, u64::MAX, buffer),
            Err(errno) => return Err(errno),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end - start, buffer)?;
        at = end;
    }
    ftruncate(to, size)
}

/// Copies up to `length` bytes at `offset`, or to the end of the file.
fn copy_range(from: &File, to: &File, offset: u64, length: u64, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    let (mut read_at, mut write_at, mut left) = (offset, offset, length);
    while left > 0 {
        let want = usize::try_from(left.min(1 << 30)).unwrap_or(CHUNK);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), want) {
            // The end, or a file system that claims so (copy_file_range(2), BUGS): reading tells.
            Ok(0) => break,
            Ok(n) => left -= n as u64,
            // Not between these file systems.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => break,
            Err(errno) => return Err(errno),
        }
    }
    if left == 0 {
        return Ok(());
    }
    buffer.resize(CHUNK, 0);
    let (mut from, mut to) = (from, to);
    seek(from, SeekFrom::Start(read_at))?;
    seek(to, SeekFrom::Start(write_at))?;
    let errno = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let n = from.read(&mut buffer[..want]).map_err(errno)?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n]).map_err(errno)?;
        left -= n as u64;
    }
    Ok(())
}
