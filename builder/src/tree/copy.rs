//! Copies selected files into a root file system.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, chownat, fchmod, fchown, fstat, futimens, linkat, mkdirat,
    mknodat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::data::{copy_data, set_xattrs, xattrs};
use super::entry::{Entry, FileKind, RootHandle, dot_if_empty};
use super::owner::Owner;
use super::parents::{Touched, modified, only_modified};
use super::resolve::resolve;
use super::select::Selection;
use crate::build::{Error, IoContext as _};

/// Owner and mode of what is written.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CopyOptions {
    /// `--chown`, or root for files of the context; none keeps each file's own.
    pub(crate) owner: Option<Owner>,
    /// `--chmod`
    pub(crate) mode: Option<u32>,
}

impl CopyOptions {
    fn made_dirs(&self) -> (u32, Owner) {
        (self.mode.unwrap_or(0o755), self.owner.unwrap_or_default())
    }

    fn owner_of(&self, stat: &Stat) -> Owner {
        self.owner.unwrap_or(Owner {
            user: stat.st_uid,
            group: stat.st_gid,
        })
    }
}

/// Writes into one root; hard links are kept among all that one copier writes.
#[derive(Debug)]
pub(crate) struct Copier<'a> {
    dest: &'a RootHandle,
    options: CopyOptions,
    cancelled: &'a AtomicBool,
    touched: Touched,
    links: HashMap<(u64, u64), PathBuf>,
    buffer: Vec<u8>,
    last_dir: Option<(PathBuf, Rc<OwnedFd>)>,
    changed: bool,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(dest: &'a RootHandle, options: CopyOptions, cancelled: &'a AtomicBool) -> Self {
        Self {
            dest,
            options,
            cancelled,
            touched: Touched::default(),
            links: HashMap::new(),
            buffer: Vec::new(),
            last_dir: None,
            changed: false,
        }
    }

    /// Copies one selection to `dest`, an absolute path; one that ends with `/` is a directory. Links in it are followed
    /// inside the root, the last one too.
    pub(crate) fn copy(
        &mut self,
        source: &RootHandle,
        selection: &Selection,
        dest: &str,
    ) -> Result<(), Error> {
        let Some((top, below)) = selection.entries.split_first() else {
            return Ok(());
        };
        if !top.is_dir() {
            let real = self.file_target(dest, &selection.name)?;
            return self.entry(source, top, real);
        }
        let (base, _) = self.resolve(dest)?;
        let (mode, owner) = self.options.made_dirs();
        self.touched
            .make_dirs(self.dest, &base, mode, owner)
            .map_err(|error| match error {
                Error::File {
                    path,
                    errno: Errno::NOTDIR,
                } => cannot_copy_to_non_directory(&path),
                error => error,
            })?;
        self.touched.set(base.clone(), modified(&top.stat));
        for entry in below {
            self.entry(source, entry, base.join(&entry.rel))?;
        }
        Ok(())
    }

    /// Writes `bytes` to a file of mode 0644 (a here-document).
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8], dest: &str) -> Result<(), Error> {
        let real = self.file_target(dest, Path::new(name))?;
        let (parent, name) = self.make_room(&real)?;
        let file = create(&parent, &name).at(&real)?;
        (&file)
            .write_all(bytes)
            .map_err(|error| Error::io(&real, &error))?;
        let owner = self.options.owner.unwrap_or_default();
        fchown(&file, Some(owner.uid()), Some(owner.gid())).at(&real)?;
        fchmod(&file, Mode::from_raw_mode(self.options.mode.unwrap_or(0o644))).at(&real)
    }

    /// Puts the directories' times right. Says whether a source changed after it was listed.
    pub(crate) fn finish(self) -> Result<bool, Error> {
        self.touched.finish(self.dest)?;
        Ok(self.changed)
    }

    /// Where a file named `name` goes that is copied to `dest`; makes the directory.
    fn file_target(&mut self, dest: &str, name: &Path) -> Result<PathBuf, Error> {
        let (mut real, stat) = self.resolve(dest)?;
        let is_dir = stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        if is_dir || dest.ends_with('/') {
            real.push(name);
        }
        let (mode, owner) = self.options.made_dirs();
        let parent = real.parent().unwrap_or(Path::new("")).to_owned();
        self.touched.make_dirs(self.dest, &parent, mode, owner)?;
        Ok(real)
    }

    fn resolve(&self, dest: &str) -> Result<(PathBuf, Option<Stat>), Error> {
        let found = resolve(self.dest, Path::new(dest)).at(dest)?;
        Ok((found.real, found.stat))
    }

    fn dir(&mut self, real: &Path) -> Result<Rc<OwnedFd>, Error> {
        if let Some((path, fd)) = &self.last_dir
            && path == real
        {
            return Ok(Rc::clone(fd));
        }
        let fd = Rc::new(self.dest.open_dir(real).at(real)?);
        self.last_dir = Some((real.to_owned(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Opens the parent of `real` and removes a file that is in the way.
    fn make_room(&mut self, real: &Path) -> Result<(Rc<OwnedFd>, std::ffi::OsString), Error> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::Source(
                "cannot replace the root directory with a file".to_owned(),
            ));
        };
        self.touched.touch(self.dest, parent)?;
        let fd = self.dir(parent)?;
        match statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(Error::Source(format!(
                    "cannot replace directory /{} with a file",
                    real.display()
                )));
            }
            Ok(_) => {
                unlinkat(&*fd, name, AtFlags::empty()).at(real)?;
                // What an earlier source put here is gone: nothing may be linked to it any more.
                self.links.retain(|_, first| first != real);
            }
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).at(real),
        }
        Ok((fd, name.to_owned()))
    }

    fn entry(&mut self, source: &RootHandle, entry: &Entry, real: PathBuf) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if entry.is_dir() {
            return self.directory(source, entry, real);
        }
        let (parent, name) = self.make_room(&real)?;
        let identity = (entry.stat.st_dev, entry.stat.st_ino);
        if entry.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                let first = first.clone();
                let first_parent = self
                    .dest
                    .open_dir(first.parent().unwrap_or(Path::new("")))
                    .at(&first)?;
                let first_name = first.file_name().unwrap_or(OsStr::new("."));
                return linkat(&first_parent, first_name, &*parent, &name, AtFlags::empty()).at(&real);
            }
            self.links.insert(identity, real.clone());
        }
        match &entry.kind {
            FileKind::Regular => return self.regular(source, entry, &parent, &name, &real),
            FileKind::Symlink(target) => symlinkat(target, &*parent, &name).at(&real)?,
            FileKind::Device(_, 0) => {
                return Err(Error::Source(format!(
                    "/{} is a whiteout, which cannot be copied",
                    entry.real.display()
                )));
            }
            FileKind::Device(kind, number) => make_node(&parent, &name, *kind, *number).at(&real)?,
            FileKind::Fifo => make_node(&parent, &name, FileType::Fifo, 0).at(&real)?,
            FileKind::Socket => make_node(&parent, &name, FileType::Socket, 0).at(&real)?,
            FileKind::Directory => return Err(Error::internal("a directory is not copied as a file")),
        }
        let owner = self.options.owner_of(&entry.stat);
        chownat(
            &*parent,
            &name,
            Some(owner.uid()),
            Some(owner.gid()),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .at(&real)?;
        if !matches!(entry.kind, FileKind::Symlink(_)) {
            // The node was made just now in a directory nobody else writes to, so its name is no link.
            let mode = Mode::from_raw_mode(self.options.mode.unwrap_or(entry.mode()));
            rustix::fs::chmodat(&*parent, &name, mode, AtFlags::empty()).at(&real)?;
        }
        let times = only_modified(modified(&entry.stat));
        utimensat(&*parent, &name, &times, AtFlags::SYMLINK_NOFOLLOW).at(&real)
    }

    fn regular(
        &mut self,
        source: &RootHandle,
        entry: &Entry,
        parent: &OwnedFd,
        name: &OsStr,
        real: &Path,
    ) -> Result<(), Error> {
        let from = source.open_file(&entry.real).at(&entry.real)?;
        let to = create(parent, name).at(real)?;
        let stat = fstat(&from).at(&entry.real)?;
        copy_data(&from, &to, &stat, &mut self.buffer).at(real)?;
        let now = fstat(&from).at(&entry.real)?;
        if !entry.same_version(&now) {
            self.changed = true;
        }
        self.finish_file(entry, &to, &xattrs(&from), real)?;
        futimens(&to, &only_modified(modified(&entry.stat))).at(real)
    }

    /// Owner first: changing it clears set-uid and capabilities.
    fn finish_file(
        &self,
        entry: &Entry,
        to: &impl std::os::fd::AsFd,
        attributes: &[(Vec<u8>, Vec<u8>)],
        real: &Path,
    ) -> Result<(), Error> {
        let owner = self.options.owner_of(&entry.stat);
        fchown(to, Some(owner.uid()), Some(owner.gid())).at(real)?;
        fchmod(to, Mode::from_raw_mode(self.options.mode.unwrap_or(entry.mode()))).at(real)?;
        set_xattrs(to, attributes);
        Ok(())
    }

    /// A directory below the top: an existing one takes the source's attributes, as in BuildKit.
    fn directory(&mut self, source: &RootHandle, entry: &Entry, real: PathBuf) -> Result<(), Error> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::internal("a copied directory has a name"));
        };
        let fd = self.dir(parent)?;
        match statat(&*fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(_) => return Err(cannot_copy_to_non_directory(&real)),
            Err(Errno::NOENT) => {
                self.touched.touch(self.dest, parent)?;
                mkdirat(&*fd, name, Mode::RWXU).at(&real)?;
            }
            Err(errno) => return Err(errno).at(&real),
        }
        let made = self.dest.open_dir(&real).at(&real)?;
        let attributes = source.open_dir(&entry.real).map(xattrs).unwrap_or_default();
        self.finish_file(entry, &made, &attributes, &real)?;
        self.touched.set(real, modified(&entry.stat));
        Ok(())
    }
}

fn cannot_copy_to_non_directory(path: &Path) -> Error {
    Error::Source(format!("cannot copy to non-directory: /{}", path.display()))
}

fn create(parent: &OwnedFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn make_node(parent: &OwnedFd, name: &OsStr, kind: FileType, number: u64) -> Result<(), Errno> {
    mknodat(
        parent,
        dot_if_empty(Path::new(name)),
        kind,
        Mode::RUSR | Mode::WUSR,
        number,
    )
}
