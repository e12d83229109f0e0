//! Opening and describing files of a tree that may change.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fstat, futimens, openat, utimensat,
};
use rustix::io::Errno;

use super::super::tar::xattr::{Target, in_layer};

/// Deeper trees than this are refused: every level holds descriptors.
pub(super) const MAX_DEPTH: usize = 2048;

/// Owner, mode, time and attributes of something that is made.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) mode: u32,
    /// User and group; `None` leaves them.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) modified: (i64, i64),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Meta {
    pub(super) fn new(stat: &Stat, xattrs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Self {
        Self {
            mode: stat.st_mode & 0o7777,
            owner: Some((stat.st_uid, stat.st_gid)),
            modified: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            xattrs: xattrs.into_iter().collect(),
        }
    }

    pub(super) fn times(&self) -> Timestamps {
        let time = Timespec {
            tv_sec: self.modified.0,
            tv_nsec: self.modified.1,
        };
        Timestamps {
            last_access: time,
            last_modification: time,
        }
    }

    fn set_xattrs(&self, target: Target<'_>) -> Result<(), Errno> {
        for (name, value) in self.xattrs.iter().filter(|(name, _)| in_layer(name)) {
            match target.set(name, value) {
                // A file system without such attributes, or a kind of file that cannot have them.
                Err(Errno::OPNOTSUPP | Errno::PERM) if !name.starts_with(b"security.") => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Owner, then mode (a change of owner clears set-uid), then attributes (it clears capabilities too), then time.
    pub(super) fn set(&self, file: &OwnedFd) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner {
            fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        fchmod(file, Mode::from_raw_mode(self.mode))?;
        self.set_xattrs(Target::File(file.as_fd()))?;
        futimens(file, &self.times())
    }

    /// The same for what cannot be opened.
    pub(super) fn set_node(&self, parent: &OwnedFd, name: &[u8], is_link: bool) -> Result<(), Errno> {
        if let Some((uid, gid)) = self.owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if !is_link {
            // The name was made a moment ago; if it is a link now, its target stays as it is.
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = openat(parent, name, flags, Mode::empty())?;
            if kind(&fstat(&handle)?) == FileType::Symlink {
                return Err(Errno::LOOP);
            }
            chmodat(
                rustix::fs::CWD,
                magic(&handle),
                Mode::from_raw_mode(self.mode),
                AtFlags::empty(),
            )?;
        }
        self.set_xattrs(Target::Name(parent.as_fd(), name))?;
        utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
    }
}

pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn magic(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

/// Opens a directory by plain name; `None` if it is gone or something else now.
pub(super) fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, flags, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a regular file by plain name and says what it is; `None` if it is gone or something else now. Opening a device
/// could act, so the kind is settled on a handle first.
pub(super) fn open_file(parent: impl AsFd, name: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        result => result?,
    };
    if kind(&fstat(&handle)?) != FileType::RegularFile {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |more| rustix::fs::open(magic(&handle), flags | more, Mode::empty());
    let file = match open(OFlags::NOATIME) {
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) => open(OFlags::empty())?,
        result => result?,
    };
    let stat = fstat(&file)?;
    Ok(Some((file, stat)))
}

/// Marks the open directory `to` as overlayfs's opaque one if `from` is.
pub(super) fn copy_opaque(
    attributes: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
    to: &OwnedFd,
) -> Result<bool, Errno> {
    let name = super::super::tar::xattr::overlay_opaque();
    let opaque = attributes.get(name).is_some_and(|value| value == b"y");
    if opaque {
        rustix::fs::fsetxattr(to, name, b"y", XattrFlags::empty())?;
    }
    Ok(opaque)
}
