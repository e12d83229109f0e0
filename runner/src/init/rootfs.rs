//! Leaving the host's mounts for the container's root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MoveMountFlags, UnmountFlags};

use super::error::{Doing, Result};
use crate::sys::{MountAttr, set_mount_attr};

/// Detaches this mount namespace from the host's: nothing that is mounted here from now on propagates out.
pub(super) fn isolate_propagation() -> Result<()> {
    let host_root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).doing("open /")?;
    set_mount_attr(&host_root, true, MountAttr::propagation(libc::MS_SLAVE))
        .or_else(|_| {
            let flags =
                rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", flags).map_err(std::io::Error::from)
        })
        .doing("make mounts private")
}

/// Attaches a detached mount to a handle.
pub(super) fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// Makes `root` the root of the mount namespace and drops the old one (pivot_root, never chroot).
pub(super) fn pivot(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).doing("enter the root file system")?;
    // With both arguments equal the old root ends up mounted on top of the new one (pivot_root(2), NOTES).
    rustix::process::pivot_root(".", ".").doing("pivot_root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).doing("unmount the host's root")?;
    rustix::process::chdir("/").doing("enter the root file system")
}

/// A handle relative to the current directory, for sources on the host.
pub(super) fn host_handle(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}
