//! Looks paths up in a stack of layer trees as overlayfs would.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::super::tar::xattr::{Target, overlay_opaque};

/// What one layer says about a path.
#[derive(Debug)]
pub(super) enum Lookup {
    /// It has it: the directory that holds it, and its status.
    Found(OwnedFd, Box<Stat>),
    /// It says nothing; lower layers decide.
    Unknown,
    /// It hides whatever lower layers have.
    Hidden,
}

/// Whether `stat` is an overlay whiteout.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Opens a directory by plain name without following a link.
pub(super) fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty())
}

/// Looks up a path whose inner components are directories in the merged view.
pub(super) fn lookup(root: BorrowedFd<'_>, path: &[Vec<u8>]) -> Result<Lookup, Errno> {
    let mut dir = open_dir(root, b".")?;
    let mut opaque = is_opaque(&dir)?;
    let Some((last, parents)) = path.split_last() else {
        let stat = rustix::fs::fstat(&dir)?;
        return Ok(Lookup::Found(dir, Box::new(stat)));
    };
    let missing = |opaque| if opaque { Lookup::Hidden } else { Lookup::Unknown };
    for name in parents {
        match statat(&dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(missing(opaque)),
            Err(error) => return Err(error),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                return Ok(Lookup::Hidden);
            }
            Ok(_) => dir = open_dir(&dir, name)?,
        }
        opaque |= is_opaque(&dir)?;
    }
    match statat(&dir, last.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(missing(opaque)),
        Err(error) => Err(error),
        Ok(stat) if is_whiteout(&stat) => Ok(Lookup::Hidden),
        Ok(stat) => Ok(Lookup::Found(dir, Box::new(stat))),
    }
}

fn is_opaque(dir: &OwnedFd) -> Result<bool, Errno> {
    let attributes = Target::File(dir.as_fd()).all()?;
    Ok(attributes
        .get(overlay_opaque())
        .is_some_and(|value| value == b"y"))
}
