//! Several layers as one.
//!
//! Trees are put over each other bottom first, as overlayfs would show them, but deletions stay deletions: what lies below
//! the merged layers is still hidden by them. Both sides are trees of this store, walked by handle and without following
//! links.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::blobs::open_dir;
use super::error::{Error, Result};
use super::handle::Store;
use super::layout::LayerKey;
use super::tar::tree::read_names;
use super::tar::xattr::Target;
use super::types::Layer;
use super::unpack::{Meta, set_file_meta, set_node_meta};
use crate::digest::DiffId;

const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];
const WHITEOUT: [&[u8]; 2] = [b"trusted.overlay.whiteout", b"user.overlay.whiteout"];

impl Store {
    /// One layer that does what `layers` (bottom first) do together. With `bottom` nothing lies below, and deletions leave
    /// nothing.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] for a layer that is not here as a tree of its own.
    pub fn merge_layers(&self, layers: &[DiffId], bottom: bool) -> Result<Layer> {
        let snapshot = self.new_snapshot()?;
        let upper = snapshot.upper();
        let marks = Marks {
            opaque: if rustix::process::geteuid().is_root() {
                OPAQUE[0]
            } else {
                OPAQUE[1]
            },
            keep: !bottom,
        };
        for diff_id in layers {
            let key = LayerKey::Diff(diff_id.clone());
            if self.load_layer(&key)?.is_none() {
                return Err(Error::NoSuchBlob(diff_id.0.clone()));
            }
            let tree = self.inner.layout.layer(&key).join("tree");
            let (from, to) = (open_dir(&tree)?, open_dir(&upper)?);
            let mut merge = Merge {
                marks: &marks,
                root: open_dir(&upper)?,
                links: HashMap::new(),
                path: Vec::new(),
            };
            merge
                .directory(&from, &to, false)
                .map_err(|errno| Error::io(tree.join(merge.at()), errno))?;
        }
        self.commit_snapshot(snapshot, None)
    }
}

/// How deletions are written.
struct Marks {
    opaque: &'static [u8],
    keep: bool,
}

/// One layer on its way over the others.
struct Merge<'a> {
    marks: &'a Marks,
    /// Where all goes.
    root: OwnedFd,
    /// Path of the first name of a hard link, by inode of the source.
    links: HashMap<(u64, u64), std::path::PathBuf>,
    path: Vec<Vec<u8>>,
}

impl Merge<'_> {
    fn at(&self) -> std::path::PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        self.path
            .iter()
            .map(|name| std::ffi::OsStr::from_bytes(name))
            .collect()
    }

    /// Puts what `from` holds over what `to` holds. `hides`: the target must hide what lies below it.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, hides: bool) -> Result<(), Errno> {
        let attributes = Target::File(from.as_fd()).all()?;
        let opaque = OPAQUE
            .iter()
            .any(|name| attributes.get(*name).is_some_and(|value| value == b"y"));
        if opaque {
            for name in read_names(to)? {
                remove(to, &name)?;
            }
        }
        if (opaque || hides) && self.marks.keep {
            Target::File(to.as_fd()).set(self.marks.opaque, b"y")?;
        }
        for name in read_names(from)? {
            self.path.push(name.clone());
            self.entry(from, to, &name)?;
            self.path.pop();
        }
        let stat = rustix::fs::fstat(from)?;
        set_file_meta(to, &Meta::of_file(&stat, Target::File(from.as_fd()))?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let below = match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(stat),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        if kind == FileType::Directory {
            return self.merge_directory(from, to, name, below.as_ref());
        }
        if below.is_some() {
            remove(to, name)?;
        }
        if is_whiteout(from, name, &stat)? {
            if self.marks.keep {
                mknodat(to, name, FileType::CharacterDevice, Mode::empty(), 0)?;
            }
            return Ok(());
        }
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                // Directories on the way are of this layer: nothing of it can have become a link since.
                return linkat(&self.root, first, to, name, AtFlags::empty());
            }
            self.links.insert(identity, self.at());
        }
        copy_node(from, to, name, &stat, kind)
    }

    fn merge_directory(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &[u8],
        below: Option<&Stat>,
    ) -> Result<(), Errno> {
        let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let mut hides = false;
        if !below.is_some_and(is_dir) {
            // What was deleted or was no directory hid what lies below; the new directory must, too.
            hides = below.is_some();
            if hides {
                remove(to, name)?;
            }
            mkdirat(to, name, Mode::RWXU)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, flags, Mode::empty())?;
        let target = openat(to, name, flags, Mode::empty())?;
        self.directory(&source, &target, hides)
    }
}

fn is_whiteout(dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<bool, Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => Ok(stat.st_rdev == 0),
        FileType::RegularFile if stat.st_size == 0 => {
            let attributes = Target::Name(dir.as_fd(), name).all()?;
            Ok(WHITEOUT.iter().any(|mark| attributes.contains_key(*mark)))
        }
        _ => Ok(false),
    }
}

/// Removes a name with all below it.
fn remove(dir: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let child = openat(dir, name, flags, Mode::empty())?;
    for name in read_names(&child)? {
        remove(&child, &name)?;
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

fn copy_node(from: &OwnedFd, to: &OwnedFd, name: &[u8], stat: &Stat, kind: FileType) -> Result<(), Errno> {
    if kind == FileType::RegularFile {
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(from, name, read, Mode::empty())?;
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = File::from(openat(to, name, write, Mode::RUSR | Mode::WUSR)?);
        let meta = Meta::of_file(stat, Target::File(source.as_fd()))?;
        // The standard library copies in the kernel where it can, and shares blocks where the file system does.
        io::copy(&mut File::from(source), &mut &target)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        return set_file_meta(&target.into(), &meta);
    }
    let meta = Meta::of_file(stat, Target::Name(from.as_fd(), name))?;
    match kind {
        FileType::Symlink => symlinkat(readlinkat(from, name, Vec::new())?, to, name)?,
        FileType::Socket => return Ok(()),
        _ => mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
    }
    set_node_meta(to, name, kind == FileType::Symlink, &meta)
}
