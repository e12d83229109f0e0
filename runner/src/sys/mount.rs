//! mount_setattr(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What [`set_mount_attr`] changes.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`; 0 leaves propagation alone.
    pub propagation: u64,
    userns_fd: u64,
}

impl MountAttr {
    /// `MOUNT_ATTR_RDONLY`.
    pub const RDONLY: u64 = 0x1;

    /// Sets `attributes`.
    pub fn set(attributes: u64) -> Self {
        Self {
            set: attributes,
            ..Self::default()
        }
    }

    /// Changes propagation only.
    pub fn propagation(kind: u64) -> Self {
        Self {
            propagation: kind,
            ..Self::default()
        }
    }
}

/// Changes the mount that `fd` is the root of; all mounts below it too with `recursive`.
///
/// # Errors
/// `ENOSYS` before Linux 5.12, else what mount_setattr(2) says.
pub fn set_mount_attr(fd: impl AsFd, recursive: bool, attr: MountAttr) -> io::Result<()> {
    let empty: &CStr = c"";
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attribute structure outlive the call and the size is the structure's.
    match unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            empty.as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
