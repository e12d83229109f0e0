//! A stack of layer trees seen as overlayfs would show it, without a mount.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fgetxattr, fstat, open, openat, statat};
use rustix::io::Errno;

use super::data::layer_xattrs;
use super::entry::dot_if_empty;
use super::resolve::{Look, PATH_MAX, Seen};
use crate::build::{Error, IoContext as _};

/// As many merged directories are kept open.
const MAX_OPEN: usize = 64;

/// The directories of one path in the layers that have a say in it, top first.
type Merged = Rc<Vec<OwnedFd>>;

/// The layers below a step, top first. For one thread.
#[derive(Debug, Default)]
pub(crate) struct Lowers {
    roots: Option<Merged>,
    open: RefCell<HashMap<PathBuf, Merged>>,
}

/// What a directory of the stack has besides its entries.
#[derive(Debug)]
pub(crate) struct DirState {
    pub(crate) stat: Stat,
    /// All that belong to a layer.
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Lowers {
    /// Opens the trees (top first).
    pub(crate) fn open(trees: &[PathBuf]) -> Result<Self, Error> {
        let mut roots = Vec::new();
        for tree in trees {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            roots.push(open(tree, flags, Mode::empty()).at(tree)?);
        }
        cut_below_opaque(&mut roots);
        Ok(Self {
            roots: (!roots.is_empty()).then(|| Rc::new(roots)),
            open: RefCell::default(),
        })
    }

    /// The state of `name` in the directory `dir`; none if there is nothing.
    pub(crate) fn child(&self, dir: &Path, name: &OsStr) -> Result<Option<Stat>, Errno> {
        Ok(match self.merged(dir)? {
            Some(dirs) => find(&dirs, name)?.map(|(stat, _)| stat),
            None => None,
        })
    }

    /// Attributes of the directory `real`; none if it is not there, or a link or file.
    pub(crate) fn dir(&self, real: &Path) -> Result<Option<DirState>, Errno> {
        let dirs = match self.merged(real) {
            Ok(dirs) => dirs,
            Err(Errno::NOTDIR) => None,
            Err(errno) => return Err(errno),
        };
        let Some(dirs) = dirs else { return Ok(None) };
        Ok(Some(DirState {
            stat: fstat(&dirs[0])?,
            xattrs: layer_xattrs(&dirs[0]),
        }))
    }

    /// The directories that make up `real`; none if it is not there, `ENOTDIR` if it or a parent is no directory.
    fn merged(&self, real: &Path) -> Result<Option<Merged>, Errno> {
        let Some(roots) = &self.roots else { return Ok(None) };
        if real.as_os_str().len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        // Down from the nearest directory that is open already, not by recursion: a path has up to 2048 names.
        let (mut at, mut missing) = (real, Vec::new());
        let mut dirs = loop {
            if let Some(known) = self.open.borrow().get(at) {
                break Rc::clone(known);
            }
            let Some((parent, name)) = split(at) else {
                break Rc::clone(roots);
            };
            missing.push((at, name));
            at = parent;
        };
        for (at, name) in missing.into_iter().rev() {
            match self.below(&dirs, at, name)? {
                Some(found) => dirs = found,
                None => return Ok(None),
            }
        }
        Ok(Some(dirs))
    }

    /// The directories `name`, whose path is `real`, in merged ones.
    fn below(&self, parents: &Merged, real: &Path, name: &OsStr) -> Result<Option<Merged>, Errno> {
        let (Some((stat, top)), last) = (find(parents, name)?, parents.len()) else {
            return Ok(None);
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let mut dirs = Vec::new();
        for parent in &parents[top..last] {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(parent, name, flags, Mode::empty()) {
                Ok(dir) => dirs.push(dir),
                Err(Errno::NOENT) => continue,
                // A file or a deletion ends the stack here.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(errno) => return Err(errno),
            }
        }
        cut_below_opaque(&mut dirs);
        let dirs = Rc::new(dirs);
        let mut open = self.open.borrow_mut();
        if open.len() >= MAX_OPEN {
            open.clear();
        }
        open.insert(real.to_owned(), Rc::clone(&dirs));
        Ok(Some(dirs))
    }
}

impl Look for Lowers {
    fn look(&self, real: &Path) -> Result<Option<Seen>, Errno> {
        let Some((dir, name)) = split(real) else {
            return Ok(Some(Seen::Other(FileType::Directory)));
        };
        let Some(dirs) = self.merged(dir)? else {
            return Ok(None);
        };
        let Some((stat, at)) = find(&dirs, name)? else {
            return Ok(None);
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                use std::os::unix::ffi::OsStringExt as _;
                let target = rustix::fs::readlinkat(&dirs[at], name, Vec::new())?;
                Seen::Link(std::ffi::OsString::from_vec(target.into_bytes()))
            }
            other => Seen::Other(other),
        }))
    }

    fn open_file(&self, real: &Path) -> Result<File, Errno> {
        let (dir, name) = split(real).ok_or(Errno::ISDIR)?;
        let dirs = self.merged(dir)?.ok_or(Errno::NOENT)?;
        let (stat, at) = find(&dirs, name)?.ok_or(Errno::NOENT)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            _ => return Err(Errno::INVAL),
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat(&dirs[at], name, flags, Mode::empty())?.into())
    }
}

fn split(real: &Path) -> Option<(&Path, &OsStr)> {
    Some((real.parent()?, real.file_name()?))
}

/// The topmost entry `name` of merged directories, and the number of its layer.
fn find(dirs: &[OwnedFd], name: &OsStr) -> Result<Option<(Stat, usize)>, Errno> {
    for (at, dir) in dirs.iter().enumerate() {
        match statat(dir, dot_if_empty(Path::new(name)), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if is_whiteout(&stat) => return Ok(None),
            Ok(stat) => return Ok(Some((stat, at))),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// An opaque directory hides those of lower layers.
fn cut_below_opaque(dirs: &mut Vec<OwnedFd>) {
    let last = dirs.len().saturating_sub(1);
    if let Some(at) = dirs[..last].iter().position(is_opaque) {
        dirs.truncate(at + 1);
    }
}

fn is_opaque(dir: &OwnedFd) -> bool {
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| {
            let mut value = [0u8; 8];
            matches!(fgetxattr(dir.as_fd(), *name, &mut value[..]), Ok(1)) && value[0] == b'y'
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::resolve::resolve_in;

    /// The same answers as the kernel's overlay gives.
    #[test]
    fn as_overlayfs() {
        let dir = tempfile::tempdir().unwrap();
        let trees: Vec<PathBuf> = ["top", "middle", "bottom"]
            .iter()
            .map(|name| dir.path().join(name))
            .collect();
        let make = |layer: usize, path: &str, text: &str| {
            let path = trees[layer].join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make(2, "d/low", "low");
        make(2, "d/both", "low");
        make(2, "gone/x", "x");
        make(2, "hidden/x", "x");
        make(2, "file", "low");
        make(1, "d/both", "middle");
        make(1, "hidden/y", "y");
        make(0, "d/top", "top");
        make(0, "file/now-a-dir", "");
        std::os::unix::fs::symlink("/d/both", trees[0].join("link")).unwrap();
        let whiteout = rustix::fs::mknodat(
            rustix::fs::CWD,
            trees[1].join("gone"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        let opaque = rustix::fs::setxattr(
            trees[1].join("hidden"),
            "trusted.overlay.opaque",
            b"y",
            rustix::fs::XattrFlags::empty(),
        );
        if whiteout.is_err() || opaque.is_err() {
            println!("skipped: devices and trusted attributes need root");
            return;
        }
        let lowers = Lowers::open(&trees).unwrap();
        for (path, expected) in [
            ("d/low", Ok(Some("low"))),
            ("d/both", Ok(Some("middle"))),
            ("d/top", Ok(Some("top"))),
            ("gone", Ok(None)),
            ("gone/x", Ok(None)),
            ("hidden/x", Ok(None)),
            ("hidden/y", Ok(Some("y"))),
            ("file/now-a-dir", Ok(Some(""))),
            ("link", Ok(Some("middle"))),
            ("d/top/below", Err(Errno::NOTDIR)),
        ] {
            let found = resolve_in(&lowers, Path::new(path)).map(|(real, seen)| {
                seen.map(|_| std::io::read_to_string(lowers.open_file(&real).unwrap()).unwrap())
            });
            assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{path}");
        }
        assert!(lowers.dir(Path::new("d")).unwrap().is_some());
        assert!(lowers.dir(Path::new("link")).unwrap().is_none());
        assert!(Lowers::default().dir(Path::new("d")).unwrap().is_none());
    }
}
