//! Copies an overlay's upper directory, which may be in use, into a snapshot.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, linkat, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat,
};
use rustix::io::Errno;

use super::super::blobs::open_dir as open_path;
use super::super::confined::{DEVICE, is_confined};
use super::super::error::{Error, IoContext, Result};
use super::super::handle::Store;
use super::super::snapshot::Snapshot;
use super::super::tar::tree::read_names;
use super::super::tar::xattr::Target;
use super::node::{MAX_DEPTH, Meta, copy_opaque, kind, open_dir, open_file};

impl Store {
    /// A new snapshot with a copy of an overlay's upper directory, deletions included. Of what is not in an opaque directory,
    /// only the paths (relative, without a leading slash) for which `wanted` is true are copied. Sockets are left out.
    ///
    /// # Errors
    /// The system's.
    pub fn snapshot_of(&self, upper: BorrowedFd<'_>, wanted: &dyn Fn(&Path) -> bool) -> Result<Snapshot> {
        let snapshot = self.new_snapshot()?;
        let to = open_path(&snapshot.upper())?;
        let from = open_dir(upper, b".")
            .at("/")?
            .ok_or_else(|| Error::io("/", Errno::NOENT))?;
        let mut copier = Copier {
            root: to.try_clone().at("/")?,
            wanted,
            path: Vec::new(),
            links: HashMap::new(),
        };
        copier.tree(from, to)?;
        Ok(snapshot)
    }
}

struct Copier<'a> {
    root: OwnedFd,
    wanted: &'a dyn Fn(&Path) -> bool,
    path: Vec<u8>,
    links: HashMap<(u64, u64), Vec<u8>>,
}

struct Level {
    from: OwnedFd,
    to: OwnedFd,
    names: Vec<Vec<u8>>,
    base: usize,
    meta: Meta,
    /// Everything in it counts.
    opaque: bool,
}

impl Copier<'_> {
    fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    fn level(&self, from: OwnedFd, to: OwnedFd, base: usize, opaque: bool) -> Result<Level> {
        let attributes = Target::File(from.as_fd()).all().at(self.at())?;
        let opaque = copy_opaque(&attributes, &to).at(self.at())? || opaque;
        let stat = fstat(&from).at(self.at())?;
        Ok(Level {
            names: read_names(&from).at(self.at())?,
            meta: Meta::new(&stat, attributes),
            from,
            to,
            base,
            opaque,
        })
    }

    fn tree(&mut self, from: OwnedFd, to: OwnedFd) -> Result<()> {
        let mut stack = vec![self.level(from, to, 0, false)?];
        while let Some(level) = stack.last_mut() {
            let Some(name) = level.names.pop() else {
                level.meta.set(&level.to).at(self.at())?;
                self.path.truncate(level.base);
                stack.pop();
                continue;
            };
            let base = self.path.len();
            if base > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            if !level.opaque && !(self.wanted)(self.at()) {
                self.path.truncate(base);
                continue;
            }
            let opaque = level.opaque;
            match self.visit(level, &name)? {
                Some(_) if stack.len() >= MAX_DEPTH => {
                    return Err(Error::Tree {
                        path: self.at().to_owned(),
                        reason: "too deeply nested".into(),
                    });
                }
                Some((from, to)) => {
                    let next = self.level(from, to, base, opaque)?;
                    stack.push(next);
                }
                None => self.path.truncate(base),
            }
        }
        Ok(())
    }

    /// Copies one name; gives the directories to go into.
    fn visit(&mut self, level: &Level, name: &[u8]) -> Result<Option<(OwnedFd, OwnedFd)>> {
        let stat = match statat(&level.from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.at(self.at())?,
        };
        match kind(&stat) {
            FileType::Directory => {
                let Some(from) = open_dir(&level.from, name).at(self.at())? else {
                    return Ok(None);
                };
                mkdirat(&level.to, name, Mode::from_raw_mode(0o700)).at(self.at())?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let to = openat(&level.to, name, flags, Mode::empty()).at(self.at())?;
                return Ok(Some((from, to)));
            }
            FileType::RegularFile => self.file(level, name)?,
            FileType::CharacterDevice if stat.st_rdev == 0 => self.whiteout(level, name)?,
            FileType::Socket | FileType::Unknown => {}
            _ if self.linked(level, name, &stat)? => {}
            FileType::Symlink => {
                let target = match readlinkat(&level.from, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                    result => result.at(self.at())?,
                };
                symlinkat(&target, &level.to, name).at(self.at())?;
                self.node_meta(level, name, &stat, true)?;
            }
            node => {
                let mode = Mode::from_raw_mode(0o600);
                mknodat(&level.to, name, node, mode, stat.st_rdev).at(self.at())?;
                self.node_meta(level, name, &stat, false)?;
            }
        }
        Ok(None)
    }

    fn whiteout(&self, level: &Level, name: &[u8]) -> Result<()> {
        let mode = Mode::from_raw_mode(0);
        mknodat(&level.to, name, FileType::CharacterDevice, mode, 0).at(self.at())
    }

    fn node_meta(&self, level: &Level, name: &[u8], stat: &Stat, is_link: bool) -> Result<()> {
        let attributes = match Target::Name(level.from.as_fd(), name).all() {
            Err(Errno::NOENT) => Ok(std::collections::BTreeMap::new()),
            result => result,
        };
        let meta = Meta::new(stat, attributes.at(self.at())?);
        meta.set_node(&level.to, name, is_link).at(self.at())
    }

    fn file(&mut self, level: &Level, name: &[u8]) -> Result<()> {
        let Some((from, stat)) = open_file(&level.from, name).at(self.at())? else {
            return Ok(());
        };
        let attributes = Target::File(from.as_fd()).all().at(self.at())?;
        let marks = [&b"trusted.overlay.whiteout"[..], b"user.overlay.whiteout"];
        if stat.st_size == 0 && marks.iter().any(|mark| attributes.contains_key(*mark)) {
            return self.whiteout(level, name);
        }
        if self.linked(level, name, &stat)? {
            return Ok(());
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(&level.to, name, flags, Mode::from_raw_mode(0o600)).at(self.at())?;
        let mut to = File::from(to);
        // By the kernel where it can, on file systems with shared extents without moving data.
        std::io::copy(&mut File::from(from), &mut to).at(self.at())?;
        let to = OwnedFd::from(to);
        if let Some(note) = attributes.get(DEVICE).filter(|_| is_confined()) {
            Target::File(to.as_fd()).set(DEVICE, note).at(self.at())?;
        }
        Meta::new(&stat, attributes).set(&to).at(self.at())
    }

    /// Links to the copy of the same file under its first name, if that was made.
    fn linked(&mut self, level: &Level, name: &[u8], stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = (stat.st_dev, stat.st_ino);
        let Some(first) = self.links.get(&key) else {
            self.links.insert(key, self.path.clone());
            return Ok(false);
        };
        // Ours alone, so no link stands in the way.
        linkat(&self.root, first.as_slice(), &level.to, name, AtFlags::empty()).at(self.at())?;
        Ok(true)
    }
}
