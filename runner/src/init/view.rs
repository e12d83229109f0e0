//! A container's files for tools that run nothing in it: the root with the bind mounts on it, and nothing else.
//!
//! The tree is put together in a mount namespace of its own, by a thread that ends with that. What a running container has
//! mounted is copied from its own namespace by handle, so neither a link in it nor a path on the host that changes
//! meanwhile leads elsewhere, and what it mounts itself is not seen. No program or library of the container is touched
//! (CVE-2019-14271); the thread does nothing but system calls.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::{Doing, Result, SetupError};
use super::mounts::{FileMount, clone_tree, mount_extra, open_binds};
use super::paths::Root;
use super::rootfs::attach;
use crate::overlay::Overlay;
use crate::spec::{ContainerSpec, MountSource};
use crate::sys::{MountAttr, set_mount_attr, unshare_mount_namespace};

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// The tree, for as long as both handles are kept.
#[derive(Debug)]
pub(crate) struct View {
    /// Its root directory.
    pub(crate) root: OwnedFd,
    /// The mount namespace that it is in.
    pub(crate) namespace: OwnedFd,
}

/// The files of a container that does not run, writable unless the spec says otherwise. The caller sees to it that it does
/// not start meanwhile.
pub(crate) fn view_of_stopped(spec: &ContainerSpec, files: &[FileMount], empty: &Path) -> Result<View> {
    let mut spec = spec.clone();
    spec.mounts
        .retain(|mount| matches!(mount.source, MountSource::Bind { .. }));
    aside(|| {
        let namespace = own_namespace()?;
        let binds = open_binds(&spec)?;
        make_private()?;
        let overlay = Overlay {
            lowers: &spec.rootfs.lowers,
            upper: Some((&spec.rootfs.upper, &spec.rootfs.work)),
            empty,
            volatile: false,
            inert: true,
        };
        let mount = overlay
            .mount_here()
            .map_err(|error| SetupError::other(error.to_string()))?;
        let top = mount.try_clone().doing("copy a handle")?;
        let mut root = Root::new(mount, None);
        mount_extra(&mut root, &spec, binds, files)?;
        if spec.rootfs.readonly {
            set_mount_attr(&top, false, MountAttr::set(MountAttr::RDONLY))
                .doing("make the root file system read-only")?;
        }
        Ok(View { root: top, namespace })
    })
}

/// The files of the container whose processes are in `namespace`.
pub(crate) fn view_of_running(
    namespace: &OwnedFd,
    spec: &ContainerSpec,
    files: &[FileMount],
    empty: &Path,
) -> Result<View> {
    let mut targets: Vec<&Path> = spec
        .mounts
        .iter()
        .filter(|mount| matches!(mount.source, MountSource::Bind { .. }))
        .map(|mount| mount.target.as_path())
        .chain(files.iter().map(|file| file.target.as_path()))
        .collect();
    targets.sort_by_key(|target| target.components().count());
    targets.dedup();
    aside(|| {
        let own = own_namespace()?;
        make_private()?;
        enter(namespace)?;
        let inside = Root::current()?;
        let tree = clone_tree(inside.fd(), false).doing("copy the root mount")?;
        let mut binds = Vec::new();
        for target in &targets {
            match inside.open(target, HANDLE) {
                Ok(handle) => {
                    let copy = clone_tree(handle, true)
                        .doing(format_args!("copy the mount on {}", target.display()))?;
                    binds.push((target, copy));
                }
                // Its mount point was renamed or deleted in the container.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                Err(errno) => return Err(errno).doing(format_args!("open {}", target.display())),
            }
        }
        drop(inside);
        enter(&own)?;
        let private = MountAttr::propagation(libc::MS_PRIVATE);
        set_mount_attr(&tree, true, private).doing("make mounts private")?;
        let point = rustix::fs::open(empty, HANDLE | OFlags::DIRECTORY, Mode::empty())
            .doing(format_args!("open {}", empty.display()))?;
        attach(&tree, point).doing("mount the root file system")?;
        let root = Root::new(tree.try_clone().doing("copy a handle")?, None);
        for (target, copy) in binds {
            set_mount_attr(&copy, true, private).doing("make mounts private")?;
            match root.open(target, HANDLE) {
                Ok(point) => attach(copy, point).doing(format_args!("mount on {}", target.display()))?,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno).doing(format_args!("open {}", target.display())),
            }
        }
        Ok(View {
            root: tree,
            namespace: own,
        })
    })
}

/// A detached read-only copy of the root mount of `namespace`, without what is mounted on it.
pub(crate) fn root_of_running(namespace: &OwnedFd) -> Result<OwnedFd> {
    aside(|| {
        enter(namespace)?;
        let inside = Root::current()?;
        let tree = clone_tree(inside.fd(), false).doing("copy the root mount")?;
        set_mount_attr(&tree, false, MountAttr::set(MountAttr::RDONLY)).doing("make a mount read-only")?;
        Ok(tree)
    })
}

/// Runs `work` on a thread with a mount namespace of its own.
fn aside<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("view".to_owned())
            .spawn_scoped(scope, || {
                unshare_mount_namespace().doing("make a mount namespace")?;
                work()
            })
            .doing("start a thread")?
            .join()
            .map_err(|_| SetupError::other("the mounting thread panicked"))?
    })
}

fn own_namespace() -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty()).doing("open the mount namespace")
}

fn make_private() -> Result<()> {
    let root = rustix::fs::open("/", HANDLE, Mode::empty()).doing("open /")?;
    set_mount_attr(&root, true, MountAttr::propagation(libc::MS_PRIVATE)).doing("make mounts private")
}

fn enter(namespace: &OwnedFd) -> Result<()> {
    use std::os::fd::AsFd as _;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .doing("enter the container's mount namespace")
}
