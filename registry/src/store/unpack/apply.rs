//! Applies archive entries to a tree.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, RawMode, ResolveFlags, Stat, Timespec, Timestamps, Uid, fchmod,
    fchown, ftruncate, futimens, linkat, makedev, mkdirat, mknodat, openat, openat2, readlinkat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::confined::{device_note, is_confined, unmapped};
use super::super::error::{Error, IoContext, Result};
use super::super::tar::decode::{Kind, TarEntry, TarReader};
use super::super::tar::xattr::{Target, set_opaque};
use super::super::tar::{OPAQUE, WHITEOUT};
use super::Options;
use super::lower::{Lookup, is_whiteout, lookup, open_dir};
use super::meta::{Meta, set_file_meta, set_node_meta};

/// Gives the trees of the layers below, top first; called at most once and only by an archive that leans on them.
/// `None`: there are none.
pub(crate) type Lowers<'a> = Option<&'a (dyn Fn() -> Result<Vec<PathBuf>> + 'a)>;

const MAX_CACHED_DIRS: usize = 256;
const MAX_SYMLINKS: usize = 40;
const BUFFER: usize = 256 << 10;

type Components = Vec<Vec<u8>>;

/// Applies entries in order; see the parent module.
pub(super) struct Applier<'a> {
    root: OwnedFd,
    lowers: Lowers<'a>,
    opened: OnceCell<Vec<OwnedFd>>,
    import: bool,
    max_bytes: u64,
    written: u64,
    dependent: bool,
    dirs: HashMap<Vec<u8>, Rc<OwnedFd>>,
    /// Set last, because making entries touches them.
    dir_times: Vec<(Components, Timespec)>,
    buffer: Vec<u8>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(root: OwnedFd, options: &Options<'a>) -> Self {
        Self {
            root,
            lowers: options.lowers,
            opened: OnceCell::new(),
            import: options.import,
            max_bytes: options.limits.max_bytes,
            written: 0,
            dependent: false,
            dirs: HashMap::new(),
            dir_times: Vec::new(),
            buffer: vec![0; BUFFER],
        }
    }

    /// Applies one entry, reading its data from `reader`.
    pub(super) fn apply<R: Read>(&mut self, entry: &TarEntry, reader: &mut TarReader<R>) -> Result<()> {
        let path = clean(&entry.path).map_err(|reason| Error::entry(&entry.path, reason))?;
        let Some((name, parents)) = path.split_last() else {
            if entry.kind != Kind::Directory {
                return Err(Error::entry(&entry.path, "the root must be a directory"));
            }
            return self
                .set_dir_meta(&[], &Meta::of_entry(entry))
                .map_err(|e| refused(entry, e));
        };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, name, hidden, parents);
        }
        let parent = self.parent(parents, entry)?;
        match entry.kind {
            Kind::Directory => {
                self.make_dir(&parent, name, entry)?;
                self.set_dir_meta(&path, &Meta::of_entry(entry))
                    .map_err(|e| refused(entry, e))
            }
            Kind::Regular => self.make_file(&parent, name, entry, reader),
            Kind::Hardlink => self.make_hardlink(&parent, name, entry),
            Kind::Symlink => {
                if entry.link.is_empty() {
                    return Err(Error::entry(&entry.path, "symbolic link without a target"));
                }
                self.create(&parent, name, entry, |parent| {
                    symlinkat(entry.link.as_slice(), parent, name)
                })?;
                set_node_meta(&parent, name, true, &Meta::of_entry(entry)).map_err(|e| refused(entry, e))
            }
            Kind::Char | Kind::Block if is_confined() => {
                let file = self.create(&parent, name, entry, |parent| new_file(parent, name))?;
                let note = device_note(entry.kind == Kind::Char, entry.device);
                let meta = Meta {
                    device: Some(note),
                    ..Meta::of_entry(entry)
                };
                set_file_meta(&file, &meta).map_err(|e| refused(entry, e))
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Char => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                self.create(&parent, name, entry, |parent| {
                    mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
                })?;
                set_node_meta(&parent, name, false, &Meta::of_entry(entry)).map_err(|e| refused(entry, e))
            }
        }
    }

    /// Sets the times of directories. True when the tree depends on what lies below it.
    pub(super) fn finish(self) -> Result<bool> {
        for (path, time) in &self.dir_times {
            let full = path.join(&b'/');
            let mut resolve = ResolveFlags::IN_ROOT;
            resolve |= ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
            let name = if full.is_empty() { b".".to_vec() } else { full };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            match openat2(&self.root, name.as_slice(), flags, Mode::empty(), resolve) {
                Ok(dir) => futimens(
                    &dir,
                    &Timestamps {
                        last_access: *time,
                        last_modification: *time,
                    },
                )
                .at(OsStr::from_bytes(&name))?,
                // Replaced by a later entry.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(Error::io(OsStr::from_bytes(&name), error)),
            }
        }
        Ok(self.dependent)
    }

    fn whiteout(&mut self, entry: &TarEntry, name: &[u8], hidden: &[u8], parents: &[Vec<u8>]) -> Result<()> {
        if self.import {
            return Ok(());
        }
        if name == OPAQUE {
            let dir = self.parent(parents, entry)?;
            let dir = open_dir(&*dir, b".").map_err(|e| refused(entry, e))?;
            return set_opaque(&dir).map_err(|e| refused(entry, e));
        }
        // Other names of this form are aufs's own files.
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == b"." || hidden == b".." {
            return Err(Error::entry(&entry.path, "deletes nothing that has a name"));
        }
        let parent = self.parent(parents, entry)?;
        let mode = Mode::from_raw_mode(0);
        match mknodat(&*parent, hidden, FileType::CharacterDevice, mode, 0) {
            Ok(()) => Ok(()),
            // Made by this layer already: the deletion is about what lies below it.
            Err(Errno::EXIST) => match open_dir(&*parent, hidden) {
                Ok(dir) => set_opaque(&dir).map_err(|e| refused(entry, e)),
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => Ok(()),
                Err(error) => Err(refused(entry, error)),
            },
            Err(Errno::PERM) if is_confined() => Err(Error::entry(
                &entry.path,
                "a deletion is marked by a 0:0 device, which takes Linux 5.8 in a user namespace",
            )),
            Err(error) => Err(refused(entry, error)),
        }
    }

    /// Runs `make`; if the name is taken, clears it and runs `make` again.
    fn create<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &TarEntry,
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T> {
        match make(parent) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| refused(entry, e)),
        }
        self.clear(parent, name, entry)?;
        make(parent).map_err(|e| refused(entry, e))
    }

    /// Removes what an earlier entry made. A directory that holds something is not given up for another kind of file: no
    /// honest archive does that, and what was put into it would be lost.
    fn clear(&mut self, parent: &OwnedFd, name: &[u8], entry: &TarEntry) -> Result<()> {
        self.dirs.clear();
        match unlinkat(parent, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => match unlinkat(parent, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Error::entry(
                    &entry.path,
                    "would replace a directory that has entries",
                )),
                other => other.map_err(|e| refused(entry, e)),
            },
            other => other.map_err(|e| refused(entry, e)),
        }
    }

    fn make_dir(&mut self, parent: &OwnedFd, name: &[u8], entry: &TarEntry) -> Result<()> {
        let mode = Mode::from_raw_mode(0o700);
        match mkdirat(parent, name, mode) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(|e| refused(entry, e)),
        }
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| refused(entry, e))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(());
        }
        self.clear(parent, name, entry)?;
        mkdirat(parent, name, mode).map_err(|e| refused(entry, e))?;
        if is_whiteout(&stat) {
            // Deleted and made again: what lies below must stay hidden.
            let dir = open_dir(parent, name).map_err(|e| refused(entry, e))?;
            set_opaque(&dir).map_err(|e| refused(entry, e))?;
        }
        Ok(())
    }

    fn make_file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &TarEntry,
        reader: &mut TarReader<R>,
    ) -> Result<()> {
        self.written = self.written.saturating_add(entry.size);
        if self.written > self.max_bytes {
            return Err(Error::entry(
                &entry.path,
                format!("more than {} bytes in all", self.max_bytes),
            ));
        }
        let fd = self.create(parent, name, entry, |parent| new_file(parent, name))?;
        let file = File::from(fd);
        let fragments = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        if entry.sparse.is_some() {
            ftruncate(&file, entry.size).map_err(|e| refused(entry, e))?;
        }
        for (mut offset, length) in fragments {
            let mut left = length;
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let got = reader.read_data(&mut self.buffer[..want])?;
                if got == 0 {
                    return Err(Error::entry(&entry.path, "data ends early"));
                }
                file.write_all_at(&self.buffer[..got], offset)
                    .at(OsStr::from_bytes(&entry.path))?;
                offset += got as u64;
                left -= got as u64;
            }
        }
        set_file_meta(&file.into(), &Meta::of_entry(entry)).map_err(|e| refused(entry, e))
    }

    fn make_hardlink(&mut self, parent: &OwnedFd, name: &[u8], entry: &TarEntry) -> Result<()> {
        let fail = |reason: &str| {
            let target = String::from_utf8_lossy(&entry.link);
            Error::entry(&entry.path, format!("hard link to {target:?}: {reason}"))
        };
        let target = clean(&entry.link).map_err(fail)?;
        let Some((target_name, target_parents)) = target.split_last() else {
            return Err(fail("is a directory"));
        };
        let source = self.link_source(&target, target_parents, entry)?;
        let link =
            |parent: &OwnedFd| linkat(&*source, target_name.as_slice(), parent, name, AtFlags::empty());
        match link(parent) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Err(fail("no such file in the layer or below it")),
            Err(Errno::PERM) => return Err(fail("is a directory")),
            Err(error) => return Err(refused(entry, error)),
        }
        // The name is taken. If by the same file, there is nothing to do, and clearing it could lose the only name.
        let ours = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| refused(entry, e))?;
        let theirs = statat(&*source, target_name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| refused(entry, e))?;
        if (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino) {
            return Ok(());
        }
        self.clear(parent, name, entry)?;
        link(parent).map_err(|e| refused(entry, e))
    }

    /// The directory that holds a hard link's target, after copying the target up from below if need be.
    fn link_source(
        &mut self,
        target: &[Vec<u8>],
        parents: &[Vec<u8>],
        entry: &TarEntry,
    ) -> Result<Rc<OwnedFd>> {
        let (name, _) = target.split_last().expect("the caller has split it");
        let inside = self.open_parent(parents).map_err(|e| refused(entry, e))?;
        if let Some(dir) = &inside {
            match statat(&**dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if !is_whiteout(&stat) => return Ok(Rc::clone(dir)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => return Err(refused(entry, error)),
            }
        }
        self.dependent = true;
        let missing = || {
            let link = String::from_utf8_lossy(&entry.link);
            Error::entry(
                &entry.path,
                format!("hard link to {link:?}: no such file in the layer or below it"),
            )
        };
        if self.lowers.is_none() {
            return Err(missing());
        }
        let dir = self.make_parents(parents, entry)?;
        let mut real = self.resolve(parents, entry)?;
        real.push(name.clone());
        match self.find_below(&real).map_err(|e| refused(entry, e))? {
            Some((lower, stat)) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                copy_up(&lower, &dir, name, &stat).map_err(|e| refused(entry, e))?;
                Ok(dir)
            }
            _ => Err(missing()),
        }
    }

    fn set_dir_meta(&mut self, path: &[Vec<u8>], meta: &Meta) -> Result<(), Errno> {
        let dir = match path.split_last() {
            None => open_dir(&self.root, b".")?,
            Some((name, parents)) => {
                let parent = self.open_parent(parents)?.ok_or(Errno::NOENT)?;
                open_dir(&*parent, name)?
            }
        };
        fchown(&dir, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
        fchmod(&dir, meta.raw_mode())?;
        meta.set_xattrs(Target::File(dir.as_fd()))?;
        self.dir_times.push((path.to_vec(), meta.mtime));
        Ok(())
    }

    fn parent(&mut self, parents: &[Vec<u8>], entry: &TarEntry) -> Result<Rc<OwnedFd>> {
        match self.open_parent(parents).map_err(|e| refused(entry, e))? {
            Some(dir) => Ok(dir),
            None => self.make_parents(parents, entry),
        }
    }

    /// The directory at `parents` inside the tree; links are followed inside the tree only. `None` if it is not there.
    fn open_parent(&mut self, parents: &[Vec<u8>]) -> Result<Option<Rc<OwnedFd>>, Errno> {
        let key = parents.join(&b'/');
        if let Some(dir) = self.dirs.get(&key) {
            return Ok(Some(Rc::clone(dir)));
        }
        let name = if key.is_empty() { b"." } else { key.as_slice() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(&self.root, name, flags, Mode::empty(), resolve) {
            Ok(dir) => Ok(Some(self.cache(key, dir))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn cache(&mut self, key: Vec<u8>, dir: OwnedFd) -> Rc<OwnedFd> {
        if self.dirs.len() >= MAX_CACHED_DIRS {
            self.dirs.clear();
        }
        let dir = Rc::new(dir);
        self.dirs.insert(key, Rc::clone(&dir));
        dir
    }

    /// Makes the directories that the archive has no entries for: copies of those below, or plain ones.
    fn make_parents(&mut self, parents: &[Vec<u8>], entry: &TarEntry) -> Result<Rc<OwnedFd>> {
        self.dependent = true;
        let real = self.resolve(parents, entry)?;
        let mut dir = Rc::new(open_dir(&self.root, b".").map_err(|e| refused(entry, e))?);
        for depth in 0..real.len() {
            let (name, path) = (&real[depth], &real[..=depth]);
            match statat(&*dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                Ok(stat) if !is_whiteout(&stat) => {
                    return Err(Error::entry(&entry.path, "a parent is not a directory"));
                }
                Err(error) if error != Errno::NOENT => return Err(refused(entry, error)),
                found => {
                    let was_whiteout = found.is_ok();
                    if was_whiteout {
                        self.clear(&dir, name, entry)?;
                    }
                    mkdirat(&*dir, name.as_slice(), Mode::from_raw_mode(0o755))
                        .map_err(|e| refused(entry, e))?;
                    let made = open_dir(&*dir, name).map_err(|e| refused(entry, e))?;
                    if was_whiteout {
                        set_opaque(&made).map_err(|e| refused(entry, e))?;
                    }
                    let below = if was_whiteout {
                        None
                    } else {
                        self.find_below(path).map_err(|e| refused(entry, e))?
                    };
                    let meta = match below {
                        Some((lower, stat)) => {
                            let lower = open_dir(&lower, name).map_err(|e| refused(entry, e))?;
                            Meta::of_file(&stat, Target::File(lower.as_fd()))
                                .map_err(|e| refused(entry, e))?
                        }
                        None => {
                            let mtime = Timespec {
                                tv_sec: 0,
                                tv_nsec: 0,
                            };
                            Meta {
                                mode: 0o755,
                                uid: 0,
                                gid: 0,
                                mtime,
                                xattrs: Vec::new(),
                                device: None,
                            }
                        }
                    };
                    self.set_dir_meta(path, &meta).map_err(|e| refused(entry, e))?;
                }
            }
            dir = Rc::new(open_dir(&*dir, name).map_err(|e| refused(entry, e))?);
        }
        self.dirs.insert(parents.join(&b'/'), Rc::clone(&dir));
        Ok(dir)
    }

    /// The path in the merged view with every link followed. Missing directories stay as written, but not behind a link:
    /// a link that leads nowhere cannot be a parent.
    fn resolve(&self, parents: &[Vec<u8>], entry: &TarEntry) -> Result<Components> {
        // Each with whether it stands in a link's target.
        let mut pending: Vec<(Vec<u8>, bool)> =
            parents.iter().rev().map(|name| (name.clone(), false)).collect();
        let mut real = Components::new();
        let mut links = 0;
        while let Some((name, in_target)) = pending.pop() {
            if name == b".." {
                real.pop();
                continue;
            }
            real.push(name);
            let (found, stat) = match self.find(&real).map_err(|e| refused(entry, e))? {
                Some(found) => found,
                None if in_target => {
                    return Err(Error::entry(
                        &entry.path,
                        "a parent is a symbolic link to a missing directory",
                    ));
                }
                None => continue,
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(Error::entry(&entry.path, "too many symbolic links in its path"));
                    }
                    let name = real.pop().expect("pushed above");
                    let target =
                        readlinkat(&found, name.as_slice(), Vec::new()).map_err(|e| refused(entry, e))?;
                    let target = target.as_bytes();
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    let parts = target
                        .split(|&b| b == b'/')
                        .filter(|part| !part.is_empty() && *part != b".");
                    pending.extend(parts.rev().map(|part| (part.to_vec(), true)));
                }
                _ => return Err(Error::entry(&entry.path, "a parent is not a directory")),
            }
        }
        Ok(real)
    }

    /// Looks in the tree itself, then below.
    fn find(&self, path: &[Vec<u8>]) -> Result<Option<(OwnedFd, Box<Stat>)>> {
        match lookup(self.root.as_fd(), path).at("tree")? {
            Lookup::Found(dir, stat) => Ok(Some((dir, stat))),
            Lookup::Hidden => Ok(None),
            Lookup::Unknown => self.find_below_inner(path),
        }
    }

    /// Looks below, unless the tree itself hides it.
    fn find_below(&self, path: &[Vec<u8>]) -> Result<Option<(OwnedFd, Box<Stat>)>> {
        match lookup(self.root.as_fd(), path).at("tree")? {
            Lookup::Hidden => Ok(None),
            Lookup::Found(..) | Lookup::Unknown => self.find_below_inner(path),
        }
    }

    fn find_below_inner(&self, path: &[Vec<u8>]) -> Result<Option<(OwnedFd, Box<Stat>)>> {
        for lower in self.open_lowers()? {
            match lookup(lower.as_fd(), path).at("lower layer")? {
                Lookup::Found(dir, stat) => return Ok(Some((dir, stat))),
                Lookup::Hidden => return Ok(None),
                Lookup::Unknown => {}
            }
        }
        Ok(None)
    }

    fn open_lowers(&self) -> Result<&[OwnedFd]> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let mut opened = Vec::new();
        if let Some(lowers) = self.lowers {
            for tree in lowers()? {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                opened.push(rustix::fs::open(&tree, flags, Mode::empty()).at(&tree)?);
            }
        }
        Ok(self.opened.get_or_init(|| opened))
    }
}

fn new_file(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(0o600))
}

/// Copies a file of a lower layer, as overlayfs does when a lower file is linked to.
fn copy_up(lower: &OwnedFd, dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<()> {
    let path = || PathBuf::from(OsStr::from_bytes(name));
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(Error::io(path(), error)),
    }
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut from = File::from(openat(lower, name, flags, Mode::empty()).at(path())?);
        let meta = Meta::of_file(stat, Target::File(from.as_fd())).at(path())?;
        let mut to = File::from(new_file(dir, name).at(path())?);
        std::io::copy(&mut from, &mut to).at(path())?;
        return set_file_meta(&to.into(), &meta).at(path());
    }
    let meta = Meta::of_file(stat, Target::Name(lower.as_fd(), name)).at(path())?;
    if kind == FileType::Symlink {
        let target = readlinkat(lower, name, Vec::new()).at(path())?;
        symlinkat(&target, dir, name).at(path())?;
    } else {
        let mode = Mode::from_raw_mode(0o600 as RawMode);
        mknodat(dir, name, kind, mode, stat.st_rdev).at(path())?;
    }
    set_node_meta(dir, name, kind == FileType::Symlink, &meta).at(path())
}

/// Splits a name into plain components. Leading slashes are dropped, as every tool of the container world does (images made
/// by ko have absolute names); `..` is refused wherever it stands.
fn clean(path: &[u8]) -> Result<Components, &'static str> {
    if path.contains(&0) {
        return Err("NUL in the name");
    }
    let mut components = Components::new();
    for part in path
        .split(|&b| b == b'/')
        .filter(|part| !part.is_empty() && part != b".")
    {
        if part == b".." {
            return Err("leads out of the layer");
        }
        if part.len() > 255 {
            return Err("name too long");
        }
        components.push(part.to_vec());
    }
    Ok(components)
}

/// A system error while an entry is made; errors that are already told stay as they are.
fn refused(entry: &TarEntry, error: impl Into<Refusal>) -> Error {
    match error.into() {
        Refusal::Told(error) => error,
        // What chown(2) says of an id that the user namespace does not have.
        Refusal::System(Errno::INVAL) if let Some(reason) = unmapped(entry.uid, entry.gid) => {
            Error::entry(&entry.path, reason)
        }
        // Setting an attribute is tolerated to fail but for those that a store cannot do without.
        Refusal::System(Errno::OPNOTSUPP) if is_confined() => Error::entry(
            &entry.path,
            "the store's file system has no extended attributes of users (user.*)",
        ),
        Refusal::System(error) => {
            let error = std::io::Error::from(error);
            match error.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    Error::io(OsStr::from_bytes(&entry.path), error)
                }
                _ => Error::entry(&entry.path, error.to_string()),
            }
        }
    }
}

enum Refusal {
    Told(Error),
    System(Errno),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::System(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn check(name: &[u8], expected: Result<&[&[u8]], ()>) {
            let got = clean(name).map_err(|_| ());
            assert_eq!(
                got,
                expected.map(|parts| parts.iter().map(|part| part.to_vec()).collect()),
                "{name:?}"
            );
        }
        check(b"a/b", Ok(&[b"a", b"b"]));
        check(b"./a//b/.", Ok(&[b"a", b"b"]));
        check(b"/a", Ok(&[b"a"]));
        check(b".", Ok(&[]));
        check(b"/", Ok(&[]));
        check(b"..", Err(()));
        check(b"a/../b", Err(()));
        check(b"a/..", Err(()));
        check(b"...", Ok(&[b"..."]));
        check(b"a\0b", Err(()));
        check(&[b'n'; 256], Err(()));
    }
}
