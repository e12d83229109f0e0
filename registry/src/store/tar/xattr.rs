//! Extended attributes: which ones belong to a layer, and reading and writing them by handle.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;

use super::super::confined::{DEVICE, is_confined};

/// Overlay's mark of an opaque directory; in a user namespace overlays are mounted with `userxattr`.
pub(crate) fn overlay_opaque() -> &'static [u8] {
    if is_confined() {
        b"user.overlay.opaque"
    } else {
        b"trusted.overlay.opaque"
    }
}

const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Whether `name` is overlayfs's own bookkeeping, which never crosses a layer archive in either direction: a layer that
/// could set `redirect` or `metacopy` would choose which file of the host a lookup ends in.
pub(crate) fn is_overlay(name: &[u8]) -> bool {
    OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether `name` belongs to a layer. Security labels other than file capabilities belong to the host.
pub(crate) fn in_layer(name: &[u8]) -> bool {
    if is_overlay(name) || name.contains(&b'=') || name.contains(&0) || (name == DEVICE && is_confined()) {
        return false;
    }
    name == b"security.capability"
        || (name.starts_with(b"user.") && name.len() > 5)
        || (name.starts_with(b"trusted.") && name.len() > 8)
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// Something that has extended attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// An open file or directory (not `O_PATH`).
    File(BorrowedFd<'a>),
    /// A name in an open directory; a symbolic link is not followed.
    Name(BorrowedFd<'a>, &'a [u8]),
}

impl Target<'_> {
    /// The last component is a plain name, so this magic path cannot lead out of the directory.
    fn path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
        [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat()
    }

    /// All attributes, overlay's included.
    pub(crate) fn all(self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let mut attributes = BTreeMap::new();
        // 64 KiB is the kernel's limit for both a list and a value (XATTR_LIST_MAX, XATTR_SIZE_MAX).
        let mut list = [0u8; 1024];
        let length = match self.list(&mut list) {
            Ok(0) => return Ok(attributes),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(attributes),
            Ok(length) => Ok(length),
            Err(error) => Err(error),
        };
        let names = match length {
            Ok(length) => list[..length].to_vec(),
            Err(Errno::RANGE) => {
                let mut long = vec![0u8; 65536];
                let length = self.list(&mut long)?;
                long.truncate(length);
                long
            }
            Err(error) => return Err(error),
        };
        let mut value = vec![0u8; 65536];
        for name in names.split(|&b| b == 0).filter(|name| !name.is_empty()) {
            match self.get(name, &mut value) {
                Ok(length) => attributes.insert(name.to_vec(), value[..length].to_vec()),
                Err(Errno::NODATA) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(attributes)
    }

    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::File(fd) => flistxattr(fd, buffer),
            Self::Name(dir, name) => llistxattr(Self::path(dir, name), buffer),
        }
    }

    fn get(self, attribute: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::File(fd) => fgetxattr(fd, attribute, buffer),
            Self::Name(dir, name) => lgetxattr(Self::path(dir, name), attribute, buffer),
        }
    }

    /// Sets one attribute.
    pub(crate) fn set(self, attribute: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::File(fd) => fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Self::Name(dir, name) => lsetxattr(Self::path(dir, name), attribute, value, XattrFlags::empty()),
        }
    }
}

/// Marks the open directory as opaque.
pub(crate) fn set_opaque(dir: impl AsFd) -> Result<(), Errno> {
    fsetxattr(dir, overlay_opaque(), b"y", XattrFlags::empty())
}
