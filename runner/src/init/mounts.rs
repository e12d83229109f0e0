//! Docker's default mounts and the ones the spec adds (moby `daemon/pkg/oci`).

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::error::{Doing, Result, SetupError};
use super::paths::{Kind, Root, kind_of};
use super::rootfs::{attach, host_handle};
use super::staged;
use crate::overlay::Overlay;
use crate::rootless::{IdMap, in_user_namespace};
use crate::spec::{ContainerSpec, MountSource, MountSpec, NetworkMode, Propagation};
use crate::sys::{MountAttr, set_mount_attr};

/// A host file bound read-write over a file of the container (`/etc/hosts`).
#[derive(Debug, Clone)]
pub(crate) struct FileMount {
    pub(crate) target: PathBuf,
    pub(crate) source: PathBuf,
}

/// What the container sees at `/sys/fs/cgroup`.
#[derive(Debug)]
pub(crate) enum CgroupView {
    /// The unified hierarchy.
    V2,
    /// Directory name and host directory of the container's group in each hierarchy.
    V1(Vec<(String, PathBuf)>),
}

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const INERT: MountAttrFlags = NOSUID.union(NODEV).union(NOEXEC);

/// A fresh file system, not attached anywhere yet.
pub(super) fn new_fs(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            rustix::mount::fsconfig_set_string(&context, *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// A detached copy of the mount tree at `source`.
pub(super) fn clone_tree(source: impl AsFd, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let recursive = if recursive {
        OpenTreeFlags::AT_RECURSIVE
    } else {
        OpenTreeFlags::empty()
    };
    rustix::mount::open_tree(source, "", flags | recursive)
}

/// Trees of the spec's bind sources. They are copied before the namespace stops propagating so that `shared` and
/// `slave` binds stay in the host's peer groups.
pub(super) fn open_binds(spec: &ContainerSpec) -> Result<Vec<Option<OwnedFd>>> {
    let open = |mount: &MountSpec| {
        let MountSource::Bind { path, .. } = &mount.source else {
            return Ok(None);
        };
        let action = || format!("mount {} on {}", path.display(), mount.target.display());
        let handle = host_handle(path).doing(action())?;
        clone_tree(handle, true).doing(action()).map(Some)
    };
    spec.mounts.iter().map(open).collect()
}

/// Stacks of layers that the spec mounts, attached nowhere. They are made before the root covers the directory `empty`,
/// which some of them have as a layer.
pub(super) fn open_overlays(spec: &ContainerSpec, empty: &Path) -> Result<Vec<Option<OwnedFd>>> {
    let open = |mount: &MountSpec| {
        let MountSource::Overlay { lowers, upper, .. } = &mount.source else {
            return Ok(None);
        };
        let overlay = Overlay {
            lowers,
            upper: upper
                .as_ref()
                .map(|(upper, work)| (upper.as_path(), work.as_path())),
            empty,
            volatile: true,
            inert: false,
        };
        let mounted = overlay.mount_detached_here().map(Some);
        mounted.map_err(|error| SetupError::other(format!("mount on {}: {error}", mount.target.display())))
    };
    spec.mounts.iter().map(open).collect()
}

/// The file systems every container gets, leaving out those that a mount of the spec replaces. Returns handles that
/// later steps need.
pub(super) fn mount_defaults(root: &mut Root, spec: &ContainerSpec, cgroup: &CgroupView) -> Result<Defaults> {
    let replaced: BTreeSet<&Path> = spec.mounts.iter().map(|mount| mount.target.as_path()).collect();
    let wanted = |path: &str| !replaced.contains(Path::new(path));
    let read_only = if spec.privileged {
        MountAttrFlags::empty()
    } else {
        RDONLY
    };
    let shm_size = spec.shm_size.to_string();

    // Never left out: a mount on top must be another procfs, see `refuse_proc`.
    mount_no_links(root, "/proc", "proc", &[], INERT).map_err(covered)?;
    let mut defaults = Defaults {
        dev: None,
        devpts: None,
    };
    if wanted("/dev") {
        let options = [("mode", "755"), ("size", "65536k")];
        let dev = mount_no_links(
            root,
            "/dev",
            "tmpfs",
            &options,
            NOSUID | MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        )?;
        defaults.dev = Some(dev);
        if wanted("/dev/pts") {
            let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
            // The group `tty`, unless the user namespace has no such id.
            if !in_user_namespace() || IdMap::of_groups().contains(5) {
                options.push(("gid", "5"));
            }
            let pts = mount_no_links(root, "/dev/pts", "devpts", &options, NOSUID | NOEXEC)?;
            defaults.devpts = Some(pts);
        }
        if wanted("/dev/shm") {
            mount_no_links(
                root,
                "/dev/shm",
                "tmpfs",
                &[("mode", "1777"), ("size", &shm_size)],
                INERT,
            )?;
        }
        if wanted("/dev/mqueue") {
            match mount_no_links(root, "/dev/mqueue", "mqueue", &[], INERT) {
                Ok(_) => {}
                // A kernel without POSIX message queues.
                Err(error) if error.message.ends_with("no such device") => {}
                Err(error) => return Err(error),
            }
        }
    }
    if wanted("/sys") {
        mount_sys(root, spec, read_only)?;
        if wanted("/sys/fs/cgroup") {
            mount_cgroups(root, cgroup, read_only)?;
        }
    }
    Ok(defaults)
}

/// A sysfs of the container's network namespace. A user namespace may mount one only if it owns that network namespace,
/// and if nothing of the host's is covered (`mount_too_revealing` in the kernel); else the container gets the host's.
fn mount_sys(root: &mut Root, spec: &ContainerSpec, read_only: MountAttrFlags) -> Result<()> {
    let confined = in_user_namespace();
    if !(confined && spec.network == NetworkMode::Host) {
        match mount_no_links(root, "/sys", "sysfs", &[], INERT | read_only) {
            Err(error) if confined && error.message.ends_with("operation not permitted") => {}
            result => return result.map(drop),
        }
    }
    let action = "mount the host's /sys";
    let tree = host_handle(Path::new("/sys"))
        .and_then(|handle| clone_tree(handle, true))
        .doing(action)?;
    set_mount_attr(&tree, true, MountAttr::propagation(libc::MS_PRIVATE)).doing(action)?;
    let attributes = u64::from((INERT | read_only).bits());
    set_mount_attr(&tree, true, MountAttr::set(attributes)).doing(action)?;
    let target = root.make_no_links(Path::new("/sys"))?;
    attach(tree, target).doing(action)
}

/// What the kernel does not tell.
pub(super) fn covered(error: SetupError) -> SetupError {
    if in_user_namespace() && error.message.ends_with("operation not permitted") {
        let message = format!(
            "{}: parts of this machine's own /proc are covered by other mounts, as in a container",
            error.message
        );
        return SetupError { message, ..error };
    }
    error
}

/// Handles on default mounts.
#[derive(Debug)]
pub(super) struct Defaults {
    /// The tmpfs at `/dev`; `None` if the spec mounts its own.
    pub(super) dev: Option<OwnedFd>,
    /// The container's own devpts.
    pub(super) devpts: Option<OwnedFd>,
}

fn mount_no_links(
    root: &mut Root,
    path: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd> {
    let target = root.make_no_links(Path::new(path))?;
    let action = || format!("mount {kind} on {path}");
    let mount = new_fs(kind, options, attributes).doing(action())?;
    attach(&mount, target).doing(action())?;
    Ok(mount)
}

fn mount_cgroups(root: &mut Root, view: &CgroupView, read_only: MountAttrFlags) -> Result<()> {
    let path = "/sys/fs/cgroup";
    match view {
        CgroupView::V2 => mount_no_links(root, path, "cgroup2", &[], INERT | read_only).map(drop),
        CgroupView::V1(groups) => {
            let tmpfs = mount_no_links(root, path, "tmpfs", &[("mode", "755")], INERT)?;
            for (name, group) in groups {
                let action = || format!("mount cgroup {name}");
                let tree = match host_handle(group).and_then(|handle| clone_tree(handle, false)) {
                    // The controller has no group of ours.
                    Err(Errno::NOENT) => continue,
                    result => result.doing(action())?,
                };
                let attributes = u64::from((INERT | read_only).bits());
                set_mount_attr(&tree, false, MountAttr::set(attributes)).doing(action())?;
                rustix::fs::mkdirat(&tmpfs, name, Mode::from_raw_mode(0o755)).doing(action())?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let target = rustix::fs::openat(&tmpfs, name, flags, Mode::empty()).doing(action())?;
                attach(tree, target).doing(action())?;
            }
            if read_only.is_empty() {
                return Ok(());
            }
            set_mount_attr(&tmpfs, false, MountAttr::set(MountAttr::RDONLY))
                .doing(format_args!("make {path} read-only"))
        }
    }
}

/// The spec's mounts and the file mounts, shallow targets first so that no mount hides an earlier one (Docker's order).
pub(super) fn mount_extra(
    root: &mut Root,
    spec: &ContainerSpec,
    mut trees: Vec<Option<OwnedFd>>,
    files: &[FileMount],
) -> Result<()> {
    enum Extra<'a> {
        Spec(&'a MountSpec, Option<OwnedFd>),
        File(&'a FileMount),
    }
    let mut extras: Vec<(&Path, Extra<'_>)> = Vec::new();
    for file in files
        .iter()
        .filter(|file| spec.mounts.iter().all(|mount| mount.target != file.target))
    {
        extras.push((&file.target, Extra::File(file)));
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        extras.push((
            &mount.target,
            Extra::Spec(mount, trees.get_mut(index).and_then(Option::take)),
        ));
    }
    extras.sort_by_key(|(target, _)| target.components().count());
    for (target, extra) in extras {
        if target.parent().is_none() {
            return Err(SetupError::other(
                "mount on /: the root file system cannot be replaced",
            ));
        }
        match extra {
            Extra::File(file) => {
                let action = || format!("mount {} on {}", file.source.display(), target.display());
                let tree = host_handle(&file.source)
                    .and_then(|fd| clone_tree(fd, false))
                    .doing(action())?;
                set_mount_attr(&tree, false, MountAttr::propagation(libc::MS_PRIVATE)).doing(action())?;
                let target = root.make(target, Kind::File)?;
                attach(tree, target).doing(action())?;
            }
            Extra::Spec(mount, tree) => mount_source(root, mount, tree)?,
        }
    }
    Ok(())
}

/// `tree` is what [`open_binds`] or [`open_overlays`] made.
fn mount_source(root: &mut Root, mount: &MountSpec, tree: Option<OwnedFd>) -> Result<()> {
    match (&mount.source, tree) {
        (MountSource::Bind { path, propagation }, Some(tree)) => bind(root, mount, &tree, path, *propagation),
        (MountSource::Overlay { path, .. }, Some(tree)) => {
            let part = staged::part_of(root, tree, path).doing(format_args!(
                "mount {} on {}",
                path.display(),
                mount.target.display()
            ))?;
            bind(root, mount, &part, path, Propagation::Private)
        }
        (MountSource::Tmpfs { size, mode, exec }, _) => tmpfs(root, mount, *size, *mode, *exec),
        (
            MountSource::Secret {
                content,
                mode,
                uid,
                gid,
            },
            _,
        ) => {
            let file = staged::secret(root, &content.0, *mode, (*uid, *gid))
                .doing(format_args!("mount a secret on {}", mount.target.display()))?;
            bind(root, mount, &file, Path::new("a secret"), Propagation::Private)
        }
        (MountSource::Bind { .. } | MountSource::Overlay { .. }, None) => Err(SetupError::other(format!(
            "mount on {}: its source was not opened",
            mount.target.display()
        ))),
    }
}

fn bind(
    root: &mut Root,
    mount: &MountSpec,
    tree: &OwnedFd,
    path: &Path,
    propagation: Propagation,
) -> Result<()> {
    let action = || format!("mount {} on {}", path.display(), mount.target.display());
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    };
    set_mount_attr(tree, true, MountAttr::propagation(propagation)).doing(action())?;
    if mount.readonly {
        let attr = MountAttr::set(MountAttr::RDONLY);
        // A mount below may refuse to change; Docker falls back to the top one too unless forced.
        set_mount_attr(tree, true, attr)
            .or_else(|_| set_mount_attr(tree, false, attr))
            .doing(action())?;
    }
    let kind = kind_of(tree).doing(action())?;
    let target = root.make(&mount.target, kind)?;
    let real = is_procfs(tree).doing(action())? && mount.target == Path::new("/proc");
    if !real {
        refuse_proc(&target, &mount.target)?;
    }
    attach(tree, target).map_err(|errno| match errno {
        Errno::NOTDIR => SetupError::other(format!(
            "{}: not a directory: are you trying to mount a directory onto a file (or vice-versa)?",
            action()
        )),
        errno => SetupError::other(format!("{}: {errno}", action())),
    })
}

fn tmpfs(root: &mut Root, mount: &MountSpec, size: Option<u64>, mode: Option<u32>, exec: bool) -> Result<()> {
    let action = || format!("mount tmpfs on {}", mount.target.display());
    let (size, mode) = (
        size.map(|size| size.to_string()),
        format!("{:o}", mode.unwrap_or(0o1777)),
    );
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let read_only = if mount.readonly {
        RDONLY
    } else {
        MountAttrFlags::empty()
    };
    let attributes = if exec { NOSUID } else { INERT };
    let tree = new_fs("tmpfs", &options, attributes | read_only).doing(action())?;
    let target = root.make(&mount.target, Kind::Dir)?;
    refuse_proc(&target, &mount.target)?;
    attach(tree, target).doing(action())
}

/// Files of procfs that may be replaced, as runc's `checkProcMount` has them (lxcfs needs them).
const REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

fn is_procfs(fd: &OwnedFd) -> rustix::io::Result<bool> {
    Ok(rustix::fs::fstatfs(fd)?.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// Nothing else may cover procfs: a fake one would catch the writes that confine a process (CVE-2019-16884).
fn refuse_proc(target: &OwnedFd, path: &Path) -> Result<()> {
    let inside = is_procfs(target).doing(format_args!("examine {}", path.display()))?;
    if !inside || REPLACEABLE.iter().any(|file| path == Path::new(file)) {
        return Ok(());
    }
    Err(SetupError::other(format!(
        "{} cannot be mounted because it is inside /proc",
        path.display()
    )))
}
