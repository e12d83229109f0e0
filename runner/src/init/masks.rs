//! Masked and read-only paths (moby `oci.defaultLinuxMaskedPaths`, `defaultLinuxReadonlyPaths`).

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use super::error::{Doing, Result};
use super::mounts::{clone_tree, new_fs};
use super::paths::{Kind, Root, kind_of};
use super::rootfs::attach;
use crate::sys::{MountAttr, set_mount_attr};

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Docker's default list for this machine: the fixed part and each CPU's `thermal_throttle` directory.
pub(super) fn default_masked() -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = MASKED.iter().map(PathBuf::from).collect();
    let cpus = Path::new("/sys/devices/system/cpu");
    if cpus.join("cpu0/thermal_throttle").exists() {
        let entries = std::fs::read_dir(cpus).into_iter().flatten().flatten();
        paths.extend(
            entries
                .map(|entry| entry.path().join("thermal_throttle"))
                .filter(|path| path.exists()),
        );
    }
    paths
}

pub(super) fn default_read_only() -> Vec<PathBuf> {
    READ_ONLY.iter().map(PathBuf::from).collect()
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Hides `paths`: files behind the host's null device, directories behind one shared empty read-only tmpfs. Paths that
/// do not exist need no hiding.
pub(super) fn mask(root: &Root, null: &OwnedFd, paths: &[PathBuf]) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let action = || format!("mask {}", path.display());
        let target = match root.open(path, HANDLE) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            result => result.doing(action())?,
        };
        let mount = match (kind_of(&target).doing(action())?, &empty) {
            (Kind::File, _) => clone_tree(null, false).doing(action())?,
            (Kind::Dir, Some(attached)) => clone_tree(attached, false).doing(action())?,
            (Kind::Dir, None) => {
                let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
                    | MountAttrFlags::MOUNT_ATTR_NOSUID
                    | MountAttrFlags::MOUNT_ATTR_NODEV
                    | MountAttrFlags::MOUNT_ATTR_NOEXEC;
                let options = [("nr_blocks", "1"), ("nr_inodes", "1")];
                new_fs("tmpfs", &options, attributes).doing(action())?
            }
        };
        attach(&mount, target).doing(action())?;
        if empty.is_none() && kind_of(&mount).doing(action())? == Kind::Dir {
            // Kernels before 6.15 clone only attached mounts, which this one is from now on.
            empty = Some(mount);
        }
    }
    Ok(())
}

/// Makes `paths` read-only, recursively.
pub(super) fn make_read_only(root: &Root, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let action = || format!("make {} read-only", path.display());
        let target = match root.open(path, HANDLE) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            result => result.doing(action())?,
        };
        let tree = clone_tree(&target, true).doing(action())?;
        set_mount_attr(&tree, true, MountAttr::set(MountAttr::RDONLY)).doing(action())?;
        attach(tree, target).doing(action())?;
    }
    Ok(())
}
