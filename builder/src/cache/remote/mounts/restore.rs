//! A mount from blobs.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cooper_registry::digest::{Algorithm, Hasher};
use cooper_registry::oci::Descriptor;
use cooper_registry::store::Store;
use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, chownat, fchmod, fchown, futimens, linkat,
    mkdirat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::listing::{Entry, Kind, Listing, PackInfo, path_of, unescape};
use crate::build::reason;
use crate::tree::RootHandle;

/// Largest index, uncompressed.
const MAX_INDEX: u64 = 256 << 20;

/// Fills the empty directory `target` with the contents that `index` and `packs` have. `fetch` brings a blob into the
/// store, verified. What is left after an error is for the caller to remove.
pub(in crate::cache::remote) fn restore(
    store: &Store,
    index: &Descriptor,
    packs: &[Descriptor],
    target: &Path,
    fetch: &dyn Fn(&Descriptor) -> Result<(), String>,
) -> Result<(), String> {
    fetch(index)?;
    let listing = Listing::read(&plain(store, index, MAX_INDEX)?)?;
    if listing.packs.len() != packs.len() {
        return Err(format!(
            "{} packs in the index, {} in the cache",
            listing.packs.len(),
            packs.len()
        ));
    }
    let root = RootHandle::open_host(target).map_err(|error| error.to_string())?;
    let mut stream = Stream {
        store,
        fetch,
        packs: listing.packs.iter().zip(packs),
        current: None,
    };
    for entry in listing.entries.iter().skip(1) {
        make(&root, entry, &listing.entries, &mut stream)
            .map_err(|error| format!("/{}: {error}", entry.path))?;
    }
    stream.end().map_err(|error| error.to_string())?;
    // Last, and children first: writing into a directory changes its time, and its mode may forbid it.
    for entry in listing
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.kind == Kind::Dir)
    {
        let fail = |errno| format!("/{}: {}", entry.path, reason(errno));
        let dir = root.open_dir(&path_of(entry)).map_err(fail)?;
        finish(&dir, entry).map_err(fail)?;
    }
    Ok(())
}

fn decoder(store: &Store, blob: &Descriptor) -> Result<impl Read + use<>, String> {
    let bytes = store
        .open_blob(&blob.digest, 0)
        .map_err(|error| error.to_string())?;
    zstd::Decoder::new(bytes).map_err(|error| error.to_string())
}

fn plain(store: &Store, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    decoder(store, blob)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("its index has more than {limit} bytes"));
    }
    Ok(bytes)
}

fn make(root: &RootHandle, entry: &Entry, all: &[Entry], stream: &mut Stream<'_>) -> std::io::Result<()> {
    let path = path_of(entry);
    let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
        return Err(Errno::INVAL.into());
    };
    let dir = root.open_dir(parent)?;
    match &entry.kind {
        Kind::Dir => mkdirat(&dir, name, Mode::from_raw_mode(0o700))?,
        Kind::File(size) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&dir, name, flags, Mode::from_raw_mode(0o600))?);
            let mut part = stream.take(*size);
            if std::io::copy(&mut part, &mut file)? != *size {
                return Err(std::io::Error::other("the packs end too early"));
            }
            file.flush()?;
            finish(&OwnedFd::from(file), entry)?;
        }
        Kind::Link(text) => {
            let target = unescape(text).ok_or(Errno::INVAL)?;
            symlinkat(std::ffi::OsStr::from_bytes(&target), &dir, name)?;
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            utimensat(&dir, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::Same(other) => {
            let other = path_of(&all[*other]);
            let (Some(old), Some(place)) = (other.file_name(), other.parent()) else {
                return Err(Errno::INVAL.into());
            };
            linkat(root.open_dir(place)?, old, &dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime.0,
        tv_nsec: entry.mtime.1.min(999_999_999).into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Owner, mode and time; the owner first, because changing it clears bits of the mode.
fn finish(file: &impl AsFd, entry: &Entry) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchown(file, Some(uid), Some(gid))?;
    fchmod(file, Mode::from_raw_mode(entry.mode & 0o7777))?;
    futimens(file, &times(entry))
}

/// The bytes of all packs, each fetched when it is reached and verified before the next.
struct Stream<'a> {
    store: &'a Store,
    fetch: &'a dyn Fn(&Descriptor) -> Result<(), String>,
    packs: std::iter::Zip<std::slice::Iter<'a, PackInfo>, std::slice::Iter<'a, Descriptor>>,
    current: Option<(Box<dyn Read>, &'a PackInfo, Hasher, u64)>,
}

impl Stream<'_> {
    /// Everything was read.
    fn end(&mut self) -> std::io::Result<()> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(std::io::Error::other("more bytes in packs than in files")),
        }
    }

    fn take(&mut self, limit: u64) -> std::io::Take<&mut Self> {
        Read::take(self, limit)
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let Some((reader, info, hasher, size)) = &mut self.current else {
                let Some((info, blob)) = self.packs.next() else {
                    return Ok(0);
                };
                let open = || {
                    (self.fetch)(blob)?;
                    decoder(self.store, blob)
                };
                let reader = open().map_err(std::io::Error::other)?;
                let reader: Box<dyn Read> = Box::new(reader.take(info.size + 1));
                self.current = Some((reader, info, Algorithm::Sha256.hasher(), 0));
                continue;
            };
            let got = reader.read(buffer)?;
            if got > 0 || buffer.is_empty() {
                hasher.update(&buffer[..got]);
                *size += got as u64;
                return Ok(got);
            }
            let right = *size == info.size && hasher.clone().finish() == info.digest;
            if !right {
                return Err(std::io::Error::other(format!(
                    "a pack is not what the index says: expected {}",
                    info.digest
                )));
            }
            self.current = None;
        }
    }
}
