//! Turns layer archives into directory trees, by handle only.
//!
//! No name from an archive is ever resolved by the process's own path lookup: parents are opened with
//! `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)` below the tree and everything else happens relative to such a handle
//! with a single plain name. So a name or link can at worst lead to another place of the same layer.

mod apply;
mod decompress;
mod lower;
mod meta;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use super::error::{Error, Result};
use super::tar::decode::TarReader;
use crate::digest::{Algorithm, Digest, Hasher};
pub(crate) use apply::Lowers;
pub(crate) use decompress::decompress;
pub use decompress::decompress_archive;
pub(super) use meta::{Meta, set_file_meta, set_node_meta};

/// Bounds on what one layer archive may unpack to. They are no substitute for a quota: they keep a hostile archive from
/// filling the disk or running for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Most entries of one archive.
    pub max_entries: u64,
    /// Most bytes of one archive after decompression, and of all its files with their holes.
    pub max_bytes: u64,
    /// Unpacking stops when less than this is free on the file system (or a hundredth of it, if that is less).
    pub min_free_bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            max_entries: 10_000_000,
            max_bytes: 1 << 40,
            min_free_bytes: 256 << 20,
        }
    }
}

/// How to unpack.
pub(crate) struct Options<'a> {
    pub(crate) limits: &'a UnpackLimits,
    /// Algorithm of the digest to compute over the decompressed archive.
    pub(crate) algorithm: Algorithm,
    /// What lies below, for archives that lean on it.
    pub(crate) lowers: Lowers<'a>,
    /// A bottom layer by definition: deletions in it mean nothing and its end mark is required.
    pub(crate) import: bool,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the decompressed archive.
    pub(crate) digest: Digest,
    /// Size of the decompressed archive.
    pub(crate) size: u64,
    /// The tree depends on what lies below it (or would, were it not the bottom).
    pub(crate) dependent: bool,
}

/// Unpacks `archive` (plain, gzip or zstd; bzip2 and xz too where it is imported) into the empty directory `tree`.
pub(crate) fn unpack(archive: &mut dyn Read, tree: OwnedFd, options: Options<'_>) -> Result<Unpacked> {
    let plain = decompress(archive, options.import)?;
    let hashing = Hashing {
        inner: plain,
        hasher: options.algorithm.hasher(),
        size: 0,
        limit: options.limits.max_bytes,
        free: FreeSpace::of(&tree, options.limits)?,
    };
    let mut reader = TarReader::new(hashing, options.import);
    let mut applier = apply::Applier::new(tree, &options);
    let mut entries = 0u64;
    while let Some(entry) = reader.next_entry()? {
        entries += 1;
        if entries > options.limits.max_entries {
            return Err(Error::Archive(format!(
                "more than {} entries",
                options.limits.max_entries
            )));
        }
        applier.apply(&entry, &mut reader)?;
    }
    let dependent = applier.finish()?;
    // Everything up to the real end counts for the digest: tar fills its last record with zeros.
    let mut hashing = reader.into_inner();
    let mut rest = vec![0u8; 64 << 10];
    loop {
        match hashing.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Archive(error.to_string())),
        }
    }
    Ok(Unpacked {
        digest: hashing.hasher.finish(),
        size: hashing.size,
        dependent,
    })
}

/// Hashes and bounds what passes.
struct Hashing<'a> {
    inner: Box<dyn Read + 'a>,
    hasher: Hasher,
    size: u64,
    limit: u64,
    free: FreeSpace,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.size += got as u64;
        if self.size > self.limit {
            return Err(std::io::Error::other(format!(
                "larger than {} bytes when decompressed",
                self.limit
            )));
        }
        self.free.spend(got as u64)?;
        Ok(got)
    }
}

/// Looks at the file system now and then, so that a bomb stops before the disk is full.
struct FreeSpace {
    tree: OwnedFd,
    reserve: u64,
    until_check: u64,
}

impl FreeSpace {
    const INTERVAL: u64 = 32 << 20;

    fn of(tree: &OwnedFd, limits: &UnpackLimits) -> Result<Self> {
        let tree = tree.try_clone().map_err(|error| Error::io("tree", error))?;
        Ok(Self {
            tree,
            reserve: limits.min_free_bytes,
            until_check: Self::INTERVAL,
        })
    }

    fn spend(&mut self, bytes: u64) -> std::io::Result<()> {
        self.until_check = self.until_check.saturating_sub(bytes);
        if self.until_check > 0 {
            return Ok(());
        }
        self.until_check = Self::INTERVAL;
        let stat = rustix::fs::fstatvfs(self.tree.as_fd())?;
        let reserve = self
            .reserve
            .min(stat.f_blocks.saturating_mul(stat.f_frsize) / 100);
        if stat.f_bavail.saturating_mul(stat.f_frsize) < reserve {
            return Err(std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                "not enough free space to unpack the layer",
            ));
        }
        Ok(())
    }
}
