//! `/dev`: nodes and links relative to a handle on its tmpfs, never by path (CVE-2026-41579). In a user namespace the nodes
//! are mounts of the host's.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, Uid, makedev};

use super::error::{Doing, Result, SetupError};
use super::mounts::clone_tree;
use super::rootfs::attach;
use crate::rootless::in_user_namespace;

/// (name, major, minor); all mode 0666 (moby `specconv`, runc `AllowedDevices`).
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// A device node of the host, for privileged containers.
#[derive(Debug)]
pub(super) struct HostDevice {
    path: PathBuf,
    kind: FileType,
    device: u64,
    mode: u32,
    owner: (u32, u32),
}

/// All nodes below the host's `/dev` except those a container has of its own (moby `HostDevices`).
pub(super) fn host_devices() -> Vec<HostDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), Path::new(""), &mut found, 0);
    found
}

fn collect(dir: &Path, below: &Path, found: &mut Vec<HostDevice>, depth: u32) {
    const MAX_DEPTH: u32 = 8;
    let own: [OsString; 10] = [
        "pts",
        "shm",
        "fd",
        "mqueue",
        ".lxc",
        ".lxd-mounts",
        ".udev",
        "console",
        "ptmx",
        "core",
    ]
    .map(OsString::from);
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let (Ok(kind), false) = (entry.file_type(), depth == 0 && own.contains(&name)) else {
            continue;
        };
        let path = below.join(&name);
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(&entry.path(), &path, found, depth + 1);
            continue;
        }
        let file_type = if kind.is_char_device() {
            FileType::CharacterDevice
        } else if kind.is_block_device() {
            FileType::BlockDevice
        } else {
            continue;
        };
        let Ok(metadata) = entry.metadata() else { continue };
        found.push(HostDevice {
            path,
            kind: file_type,
            device: metadata.rdev(),
            mode: metadata.mode() & 0o777,
            owner: (metadata.uid(), metadata.gid()),
        });
    }
}

/// Fills a fresh tmpfs. The caller's umask is 0.
pub(super) fn populate(dev: &OwnedFd, host: &[HostDevice]) -> Result<()> {
    let borrow = in_user_namespace();
    for (name, major, minor) in NODES {
        let device = makedev(major, minor);
        if borrow {
            borrow_node(dev, Path::new(name), FileType::CharacterDevice, device)?;
            continue;
        }
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(dev, name, FileType::CharacterDevice, mode, device)
            .doing(format_args!("create /dev/{name}"))?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, dev, name).doing(format_args!("create /dev/{name}"))?;
    }
    for device in host {
        if borrow {
            make_ancestors(dev, &device.path);
            // Left out like one that cannot be made.
            let _ = borrow_node(dev, &device.path, device.kind, device.device);
        } else {
            add_host_device(dev, device);
        }
    }
    Ok(())
}

/// In a user namespace nobody makes device nodes: the host's is mounted over an empty file, after a look at what it is.
fn borrow_node(dev: &OwnedFd, name: &Path, kind: FileType, device: u64) -> Result<()> {
    let action = || format!("mount the host's /dev/{}", name.display());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(CWD, Path::new("/dev").join(name), flags, Mode::empty()).doing(action())?;
    let stat = rustix::fs::fstat(&node).doing(action())?;
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != device {
        return Err(SetupError::other(format!("{}: it is another device", action())));
    }
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    rustix::fs::openat(dev, name, create, Mode::from_raw_mode(0o666)).doing(action())?;
    let target = rustix::fs::openat(dev, name, flags, Mode::empty()).doing(action())?;
    let tree = clone_tree(&node, false).doing(action())?;
    attach(tree, target).doing(action())
}

/// A node that exists already (null, tty) or cannot be made is left out, as Docker leaves out what it cannot stat.
fn add_host_device(dev: &OwnedFd, device: &HostDevice) {
    make_ancestors(dev, &device.path);
    let mode = Mode::from_raw_mode(device.mode);
    if rustix::fs::mknodat(dev, &device.path, device.kind, mode, device.device).is_ok() {
        let (uid, gid) = device.owner;
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let _ = rustix::fs::chownat(
            dev,
            &device.path,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            flags,
        );
    }
}

fn make_ancestors(dev: &OwnedFd, path: &Path) {
    for ancestor in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        if !ancestor.as_os_str().is_empty() {
            let _ = rustix::fs::mkdirat(dev, ancestor, Mode::from_raw_mode(0o755));
        }
    }
}

/// The host's `/dev/null` as a handle, checked to be the real device (CVE-2025-31133). To be opened before the root is
/// switched.
pub(super) fn host_null() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty()).doing("open /dev/null")?;
    if is_null(&null) {
        Ok(null)
    } else {
        Err(SetupError::other("open /dev/null: it is not the null device"))
    }
}

pub(super) fn is_null(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    })
}
