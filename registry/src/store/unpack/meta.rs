//! Owner, mode, attributes and times of what is unpacked.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, chmodat, chownat, fchmod, fchown, futimens,
    utimensat,
};
use rustix::io::Errno;

use super::super::confined::{DEVICE, is_confined};
use super::super::tar::decode::TarEntry;
use super::super::tar::xattr::{Target, in_layer};

/// Metadata that an entry or a copied-up file gets.
#[derive(Debug, Clone)]
pub(in crate::store) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timespec,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The device node that a file stands for, as [`DEVICE`] has it.
    pub(super) device: Option<Vec<u8>>,
}

impl Meta {
    pub(super) fn of_entry(entry: &TarEntry) -> Self {
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: Timespec {
                tv_sec: entry.mtime.0,
                tv_nsec: entry.mtime.1,
            },
            xattrs: entry.xattrs.clone(),
            device: None,
        }
    }

    pub(in crate::store) fn of_file(stat: &Stat, target: Target<'_>) -> Result<Self, Errno> {
        let xattrs = target.all()?;
        let device = xattrs.get(DEVICE).filter(|_| is_confined()).cloned();
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            xattrs: xattrs.into_iter().collect(),
            device,
        })
    }

    pub(super) fn times(&self) -> Timestamps {
        Timestamps {
            last_access: self.mtime,
            last_modification: self.mtime,
        }
    }

    pub(super) fn raw_mode(&self) -> Mode {
        Mode::from_raw_mode(self.mode)
    }

    pub(super) fn set_xattrs(&self, target: Target<'_>) -> Result<(), Errno> {
        for (name, value) in self.xattrs.iter().filter(|(name, _)| in_layer(name)) {
            match target.set(name, value) {
                // As containerd: a file system without such attributes, or a kind of file that cannot have them.
                Err(Errno::OPNOTSUPP | Errno::PERM) if !name.starts_with(b"security.") => {}
                other => other?,
            }
        }
        Ok(())
    }
}

/// Owner, then mode (a change of owner clears setuid), then attributes (it clears capabilities too), then times.
pub(in crate::store) fn set_file_meta(file: &OwnedFd, meta: &Meta) -> Result<(), Errno> {
    fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
    fchmod(file, meta.raw_mode())?;
    meta.set_xattrs(Target::File(file.as_fd()))?;
    if let Some(note) = &meta.device {
        Target::File(file.as_fd()).set(DEVICE, note)?;
    }
    futimens(file, &meta.times())
}

/// The same for what cannot be opened: links, devices, pipes.
pub(in crate::store) fn set_node_meta(
    parent: &OwnedFd,
    name: &[u8],
    symlink: bool,
    meta: &Meta,
) -> Result<(), Errno> {
    chownat(
        parent,
        name,
        Some(Uid::from_raw(meta.uid)),
        Some(Gid::from_raw(meta.gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if !symlink {
        chmodat(parent, name, meta.raw_mode(), AtFlags::empty())?;
    }
    meta.set_xattrs(Target::Name(parent.as_fd(), name))?;
    utimensat(parent, name, &meta.times(), AtFlags::SYMLINK_NOFOLLOW)
}
