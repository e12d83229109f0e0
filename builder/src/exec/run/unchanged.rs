//! Copies in the upper directory that repeat what lies below.
//!
//! Opening a file for writing, or setting the mode or owner that it has, makes overlayfs copy it up. Such copies would be
//! in the layer without meaning anything.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, OFlags, Stat, Timespec, Timestamps, fgetxattr, flistxattr, unlinkat};
use rustix::io::Errno;

use crate::build::{Error, IoContext as _};
use crate::tree::{RootHandle, list, mount_readonly};

const CHUNK: usize = 256 << 10;
const XATTR_LIMIT: usize = 64 << 10;
/// Deeper trees are left as they are.
const MAX_DEPTH: usize = 200;

/// Removes from `upper` every file and directory that is the same in `lowers` (top first), with the times of the
/// directories around it kept. What differs in mode, owner, time, attributes or content stays, as do hard links.
pub(super) fn drop_unchanged(upper: &Path, lowers: &[PathBuf], empty: &Path) -> Result<(), Error> {
    let upper = RootHandle::open_host(upper)?;
    if lowers.is_empty()
        || upper
            .list(Path::new(""))
            .doing("read the upper directory")?
            .is_empty()
    {
        return Ok(());
    }
    let lower = mount_readonly(lowers, empty)?;
    Trees { upper, lower }.directory(Path::new(""), 0).map(drop)
}

struct Trees {
    upper: RootHandle,
    lower: RootHandle,
}

impl Trees {
    /// Goes through a directory that is in both trees. True if nothing is left in the upper one.
    fn directory(&self, path: &Path, depth: usize) -> Result<bool, Error> {
        let dir = self.upper.open_dir(path).at(path)?;
        // An opaque directory hides all that would be the same; one that was renamed hides it as well.
        if depth > MAX_DEPTH || is_replaced(&dir) {
            return Ok(false);
        }
        let before = rustix::fs::fstat(&dir).at(path)?;
        let mut left = false;
        let mut removed = false;
        for name in list(&dir).at(path)? {
            let child = path.join(&name);
            let Some((upper, lower)) = self.both(&child)? else {
                left = true;
                continue;
            };
            let kind = FileType::from_raw_mode(upper.st_mode);
            let flags = if kind == FileType::Directory {
                if !self.directory(&child, depth + 1)? || !self.same(&child, &upper, &lower)? {
                    left = true;
                    continue;
                }
                AtFlags::REMOVEDIR
            } else if self.same(&child, &upper, &lower)? {
                AtFlags::empty()
            } else {
                left = true;
                continue;
            };
            unlinkat(&dir, &name, flags).at(&child)?;
            removed = true;
        }
        if removed {
            rustix::fs::futimens(&dir, &times(&before)).at(path)?;
        }
        Ok(!left)
    }

    /// The states of `path` in both trees if it is a file of the same type in both.
    fn both(&self, path: &Path) -> Result<Option<(Stat, Stat)>, Error> {
        let lower = match self.lower.stat(path) {
            Ok(stat) => stat,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
            Err(errno) => return Err(errno).at(path),
        };
        let upper = self.upper.stat(path).at(path)?;
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        Ok((kind(&upper) == kind(&lower)).then_some((upper, lower)))
    }

    fn same(&self, path: &Path, upper: &Stat, lower: &Stat) -> Result<bool, Error> {
        let seen = |stat: &Stat| {
            (
                stat.st_mode,
                stat.st_uid,
                stat.st_gid,
                stat.st_mtime,
                stat.st_mtime_nsec,
            )
        };
        if seen(upper) != seen(lower) {
            return Ok(false);
        }
        match FileType::from_raw_mode(upper.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let open = |root: &RootHandle| root.open(path, flags).at(path);
                Ok(attributes(open(&self.upper)?) == attributes(open(&self.lower)?))
            }
            FileType::RegularFile if upper.st_nlink == 1 && upper.st_size == lower.st_size => {
                let (mut upper, mut lower) = (
                    self.upper.open_file(path).at(path)?,
                    self.lower.open_file(path).at(path)?,
                );
                let same = attributes(&upper) == attributes(&lower);
                Ok(same && same_content(&mut upper, &mut lower).map_err(|error| Error::io(path, &error))?)
            }
            FileType::Symlink => {
                let target = |root: &RootHandle| root.read_link(path).at(path);
                Ok(target(&self.upper)? == target(&self.lower)?)
            }
            _ => Ok(false),
        }
    }
}

fn times(stat: &Stat) -> Timestamps {
    #[expect(
        clippy::cast_possible_wrap,
        reason = "nanoseconds are below 10^9; the fields' sign differs by platform"
    )]
    let time = |tv_sec, nanoseconds| Timespec {
        tv_sec,
        tv_nsec: nanoseconds as i64,
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn is_replaced(dir: &OwnedFd) -> bool {
    ["opaque", "redirect"].iter().any(|name| {
        ["trusted", "user"]
            .iter()
            .any(|space| fgetxattr(dir, format!("{space}.overlay.{name}"), &mut [0_u8; 256][..]).is_ok())
    })
}

/// All attributes but overlayfs's own, sorted.
fn attributes(file: impl AsFd) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; XATTR_LIMIT];
    let length = flistxattr(&file, &mut names[..]).unwrap_or(0);
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let mut value = vec![0; XATTR_LIMIT];
        let length = fgetxattr(&file, name, &mut value[..]).unwrap_or(0);
        value.truncate(length);
        found.push((name.to_owned(), value));
    }
    found.sort();
    found
}

fn same_content(one: &mut File, other: &mut File) -> std::io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = one.read(&mut left)?;
        if length == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..length]) {
            Ok(()) if left[..length] == right[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
