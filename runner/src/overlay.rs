//! Overlay mounts of layers, for containers and for tools that read and write their trees.
//!
//! Linux 6.7 takes the layers one by one (`lowerdir+` of fsconfig(2)) and so any number of them up to overlayfs's own limit
//! of 500. Older kernels take all options as one string. fsconfig(2) cuts a value at 256 bytes, so that string goes through
//! mount(2), which takes one page: enough for Docker's 127 layers, since directories are named by descriptor
//! (`/proc/self/fd/N`). These names also contain nothing that overlayfs's option syntax would need escaped. mount(2) cannot
//! make a mount that is attached nowhere; a thread in a mount namespace of its own makes it and hands out a copy.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::rootless::in_user_namespace;
use crate::sys::{MountAttr, set_mount_attr, unshare_mount_namespace};

/// Keep an upper directory self-contained, so that it can become a layer, and follow nothing that a layer may have
/// smuggled in.
const OPTIONS: [(&str, &str); 3] = [
    ("index", "off"),
    ("metacopy", "off"),
    ("redirect_dir", "nofollow"),
];
/// In a user namespace overlayfs keeps its notes in `user.overlay.*`, since `trusted.*` is the host's.
const USER_ATTRIBUTES: &str = "userxattr";
/// `OVL_MAX_STACK` of the kernel.
const MAX_LAYERS: usize = 500;
/// What mount(2) takes where pages are smallest, less the terminating zero.
const MAX_OPTIONS: usize = 4095;

/// What to mount.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// Layers, the topmost first.
    pub lowers: &'a [PathBuf],
    /// The writable directory and its work directory, which must be empty and on the same file system.
    pub upper: Option<(&'a Path, &'a Path)>,
    /// An empty directory: a layer where overlayfs wants one more than there are, and a mount point.
    pub empty: &'a Path,
    /// Skip writing back at unmount: what is written does not outlive the mount, or is made durable by its owner.
    pub volatile: bool,
    /// Mount nosuid, nodev and noatime: for tools that handle the tree and run nothing in it.
    pub inert: bool,
}

/// Why layers cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// A layer or another directory is not there.
    #[error("open {}: {}", path.display(), crate::init::errno_text(source))]
    Open {
        /// The directory.
        path: PathBuf,
        /// What open(2) says.
        source: io::Error,
    },
    /// More than overlayfs can stack.
    #[error("mount {count} layers: the kernel takes at most {MAX_LAYERS}")]
    TooManyLayers {
        /// How many there are.
        count: usize,
    },
    /// More than a kernel before 6.7 can be told of.
    #[error(
        "mount {count} layers: they take {bytes} bytes of mount options, of which this kernel takes at most {limit} (Linux 6.7 \
         has no such limit)"
    )]
    OptionsTooLong {
        /// How many layers there are.
        count: usize,
        /// The length of the options.
        bytes: usize,
        /// What mount(2) takes.
        limit: usize,
    },
    /// In a user namespace, where not every kernel and file system can do it.
    #[error(
        "mount an overlay of layers in a user namespace: {} (it takes Linux 5.11 and a file system with user extended \
         attributes)",
        crate::init::errno_text(.0)
    )]
    Unprivileged(io::Error),
    /// A system call on the way failed.
    #[error("mount an overlay of layers: {}", crate::init::errno_text(.0))]
    Mount(#[from] io::Error),
}

impl From<Errno> for OverlayError {
    fn from(errno: Errno) -> Self {
        Self::Mount(errno.into())
    }
}

fn too_old(errno: Errno) -> OverlayError {
    OverlayError::Unprivileged(errno.into())
}

impl Overlay<'_> {
    /// A mount that no namespace sees: used through its handle, gone when that is closed.
    ///
    /// # Errors
    /// A directory is missing, there are too many layers, or the kernel refuses (`EPERM` without CAP_SYS_ADMIN, `ENODEV`
    /// without overlayfs, `EINVAL` for an upper directory on a file system that cannot hold one).
    pub fn mount_detached(&self) -> Result<OwnedFd, OverlayError> {
        match self.mount_by_fsconfig()? {
            Some(mount) => Ok(mount),
            None => self.mount_aside(),
        }
    }

    /// Mounts over the empty directory and returns a handle on the root. For a process whose mount namespace is its own
    /// and does not propagate to others.
    ///
    /// # Errors
    /// As [`Overlay::mount_detached`].
    pub(crate) fn mount_here(&self) -> Result<OwnedFd, OverlayError> {
        let Some(mount) = self.mount_by_fsconfig()? else {
            return self.mount_by_string();
        };
        let target = open(self.empty)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&mount, "", &target, "", flags)?;
        Ok(mount)
    }

    /// As [`Overlay::mount_detached`], for a process whose mount namespace is its own and does not propagate to others.
    ///
    /// # Errors
    /// As [`Overlay::mount_detached`].
    pub(crate) fn mount_detached_here(&self) -> Result<OwnedFd, OverlayError> {
        match self.mount_by_fsconfig()? {
            Some(mount) => Ok(mount),
            None => Ok(self.mount_and_detach()?),
        }
    }

    /// `None` from kernels that do not take layers one by one.
    fn mount_by_fsconfig(&self) -> Result<Option<OwnedFd>, OverlayError> {
        let dirs = Dirs::open(self)?;
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // Before 6.5 options are collected unseen and found wrong only at the end, with a line in the kernel's log: an
        // option that cannot exist tells.
        if rustix::mount::fsconfig_set_flag(&context, "cooper-probe").is_ok() {
            return Ok(None);
        }
        let set = |key: &str, value: &str| rustix::mount::fsconfig_set_string(&context, key, value);
        for (index, lower) in dirs.lowers.iter().enumerate() {
            match set("lowerdir+", &name(lower)) {
                // 6.5 and 6.6 check options as they come but know no lowerdir+.
                Err(Errno::INVAL) if index == 0 => return Ok(None),
                result => result?,
            }
        }
        if let Some((upper, work)) = &dirs.upper {
            set("upperdir", &name(upper))?;
            set("workdir", &name(work))?;
            if self.volatile {
                rustix::mount::fsconfig_set_flag(&context, "volatile")?;
            }
        }
        for (key, value) in OPTIONS {
            set(key, value)?;
        }
        let confined = in_user_namespace();
        if confined {
            rustix::mount::fsconfig_set_flag(&context, USER_ATTRIBUTES).map_err(too_old)?;
        }
        rustix::mount::fsconfig_create(&context).map_err(|errno| match errno {
            Errno::PERM | Errno::INVAL if confined => too_old(errno),
            errno => errno.into(),
        })?;
        let attributes = if self.inert {
            MountAttrFlags::MOUNT_ATTR_NOSUID
                | MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOATIME
        } else {
            MountAttrFlags::empty()
        };
        let mount = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        Ok(Some(mount))
    }

    /// Detached with mount(2).
    fn mount_aside(&self) -> Result<OwnedFd, OverlayError> {
        thread::scope(|scope| {
            let made = thread::Builder::new()
                .name("overlay".to_owned())
                .spawn_scoped(scope, || {
                    unshare_mount_namespace()?;
                    let root = open(Path::new("/"))?;
                    set_mount_attr(&root, true, MountAttr::propagation(libc::MS_PRIVATE))?;
                    self.mount_and_detach()
                })?;
            made.join()
                .map_err(|_| io::Error::other("the mounting thread panicked"))?
        })
    }

    /// Detached with mount(2), in a namespace that may have a mount of ours for a moment.
    fn mount_and_detach(&self) -> Result<OwnedFd, OverlayError> {
        let mount = self.mount_by_string()?;
        let flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let detached = rustix::mount::open_tree(&mount, "", flags)?;
        // The end of the namespace would unmount too, but some time after the thread's end; until then the upper
        // directory would count as in use.
        drop(mount);
        rustix::mount::unmount(self.empty, UnmountFlags::DETACH)?;
        Ok(detached)
    }

    /// Over the empty directory with mount(2).
    fn mount_by_string(&self) -> Result<OwnedFd, OverlayError> {
        let dirs = Dirs::open(self)?;
        let lowers: Vec<String> = dirs.lowers.iter().map(name).collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = &dirs.upper {
            // Writing to a String cannot fail.
            let _ = write!(options, ",upperdir={},workdir={}", name(upper), name(work));
            if self.volatile {
                options.push_str(",volatile");
            }
        }
        for (key, value) in OPTIONS {
            let _ = write!(options, ",{key}={value}");
        }
        let confined = in_user_namespace();
        if confined {
            options.push(',');
            options.push_str(USER_ATTRIBUTES);
        }
        let limit = MAX_OPTIONS;
        if options.len() > limit {
            return Err(OverlayError::OptionsTooLong {
                count: lowers.len(),
                bytes: options.len(),
                limit,
            });
        }
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        let flags = if self.inert {
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME
        } else {
            MountFlags::empty()
        };
        rustix::mount::mount("overlay", self.empty, "overlay", flags, options.as_c_str()).map_err(
            |errno| match errno {
                Errno::PERM | Errno::INVAL if confined => too_old(errno),
                errno => errno.into(),
            },
        )?;
        open(self.empty)
    }
}

/// Handles on everything that is mounted. Overlayfs refuses those of another mount namespace.
struct Dirs {
    lowers: Vec<OwnedFd>,
    upper: Option<(OwnedFd, OwnedFd)>,
}

impl Dirs {
    fn open(overlay: &Overlay<'_>) -> Result<Self, OverlayError> {
        let count = overlay.lowers.len();
        if count > MAX_LAYERS {
            return Err(OverlayError::TooManyLayers { count });
        }
        let mut lowers = overlay
            .lowers
            .iter()
            .map(|lower| open(lower))
            .collect::<Result<Vec<_>, _>>()?;
        // Without an upper directory overlayfs wants two layers, with one it wants one.
        let least = if overlay.upper.is_some() { 1 } else { 2 };
        if lowers.len() < least {
            lowers.push(open(overlay.empty)?);
        }
        let upper = match overlay.upper {
            Some((upper, work)) => Some((open(upper)?, open(work)?)),
            None => None,
        };
        Ok(Self { lowers, upper })
    }
}

fn open(path: &Path) -> Result<OwnedFd, OverlayError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| OverlayError::Open {
        path: path.to_owned(),
        source: errno.into(),
    })
}

fn name(dir: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", dir.as_raw_fd())
}

#[cfg(test)]
mod tests;
