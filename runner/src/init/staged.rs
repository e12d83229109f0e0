//! Mounts that have to be attached for a moment before a part of them can be mounted elsewhere.

use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, UnmountFlags};

use super::mounts::{clone_tree, new_fs};
use super::paths::Root;
use super::rootfs::attach;
use crate::sys::{MountAttr, set_mount_attr};

/// A detached mount of what is at `path` in the detached file system `mount`; links stay inside of it. Kernels before 6.15
/// copy parts of attached mounts only, so it covers the root for as long as that takes.
pub(super) fn part_of(root: &Root, mount: OwnedFd, path: &Path) -> std::io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.as_os_str().is_empty() {
        return Ok(mount);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(&mount, relative, flags, Mode::empty(), resolve)?;
    attach(&mount, root.fd())?;
    let part = clone_tree(&found, false);
    rustix::mount::unmount(
        format!("/proc/self/fd/{}", mount.as_raw_fd()),
        UnmountFlags::DETACH,
    )?;
    Ok(part?)
}

/// A detached, read-only file with `content` on a tmpfs of its own, which is not swapped out where the kernel can avoid it
/// (6.4).
pub(super) fn secret(root: &Root, content: &[u8], mode: u32, owner: (u32, u32)) -> std::io::Result<OwnedFd> {
    const NAME: &str = "secret";
    let size = (content.len() + 1).next_multiple_of(1 << 16).to_string();
    let options = [("mode", "0700"), ("size", size.as_str()), ("nr_inodes", "4")];
    let inert = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let tmpfs = match new_fs("tmpfs", &[&options[..], &[("noswap", "")]].concat(), inert) {
        Err(Errno::INVAL | Errno::PERM) => new_fs("tmpfs", &options, inert),
        result => result,
    }?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&tmpfs, NAME, flags, Mode::RUSR | Mode::WUSR)?;
    let mut file = std::fs::File::from(file);
    file.write_all(content)?;
    rustix::fs::fchown(&file, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    drop(file);
    let part = part_of(root, tmpfs, Path::new(NAME))?;
    set_mount_attr(&part, false, MountAttr::set(MountAttr::RDONLY))?;
    Ok(part)
}
