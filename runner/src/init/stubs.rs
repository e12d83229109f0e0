//! Mount points that had to be created in a build step's upper directory, and their removal.
//!
//! BuildKit semantics: a mount point that the runtime created is removed after the step if nothing was put there, and
//! the times of its parent are restored, so that an unchanged file system gives an empty layer. The removal works on
//! the upper directory after the step's mount namespace is gone, by handles below it (CVE-2024-23652).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps};
use serde::{Deserialize, Serialize};

/// One created mount point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stub {
    /// Its directory relative to the root, without links; empty for the root itself.
    parent: PathBuf,
    /// Its name.
    name: PathBuf,
    /// What the parent looked like before.
    before: Before,
    /// The parent's time of modification right after.
    after: (i64, i64),
    /// Ancestors (the parent first) that exist in the upper directory only because of this creation.
    copied_up: Vec<(PathBuf, Before)>,
}

/// Metadata that tells whether a directory was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Before {
    mode: u32,
    uid: u32,
    gid: u32,
    accessed: (i64, i64),
    modified: (i64, i64),
}

impl Before {
    #[expect(
        clippy::unnecessary_cast,
        reason = "the field types differ between architectures"
    )]
    fn of(stat: &Stat) -> Self {
        Self {
            mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            accessed: (stat.st_atime as i64, stat.st_atime_nsec as i64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        }
    }

    fn same_owner_and_mode(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
    }

    fn times(&self) -> Timestamps {
        let time = |(seconds, nanoseconds)| Timespec {
            tv_sec: seconds,
            tv_nsec: nanoseconds,
        };
        Timestamps {
            last_access: time(self.accessed),
            last_modification: time(self.modified),
        }
    }
}

/// Notes created mount points while the root is being set up.
#[derive(Debug)]
pub(super) struct Recorder {
    upper: OwnedFd,
    stubs: Vec<Stub>,
}

/// A directory just before something is created in it.
#[derive(Debug)]
pub(super) struct Snapshot {
    parent: PathBuf,
    before: Before,
    copied_up: Vec<(PathBuf, Before)>,
}

impl Recorder {
    pub(super) fn new(upper: OwnedFd) -> Self {
        Self {
            upper,
            stubs: Vec::new(),
        }
    }

    pub(super) fn into_stubs(self) -> Vec<Stub> {
        self.stubs
    }

    /// To be called before something is created in `dir`. `None` for a directory on another mount than the root's (a
    /// tmpfs), which is not the upper directory's business.
    pub(super) fn snapshot(&self, root: &OwnedFd, dir: &OwnedFd) -> Option<Snapshot> {
        let parent = relative(root, dir)?;
        let before = Before::of(&rustix::fs::statat(dir, "", AtFlags::EMPTY_PATH).ok()?);
        let mut copied_up = Vec::new();
        for ancestor in parent.ancestors().filter(|path| !path.as_os_str().is_empty()) {
            if rustix::fs::statat(&self.upper, ancestor, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                break;
            }
            let stat = rustix::fs::statat(root, ancestor, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            copied_up.push((ancestor.to_path_buf(), Before::of(&stat)));
        }
        Some(Snapshot {
            parent,
            before,
            copied_up,
        })
    }

    /// `name` was created where `snapshot` was taken.
    pub(super) fn record(&mut self, dir: &OwnedFd, snapshot: Snapshot, name: &OsStr) {
        let Snapshot {
            parent,
            before,
            copied_up,
        } = snapshot;
        let after = rustix::fs::statat(dir, "", AtFlags::EMPTY_PATH).map(|stat| Before::of(&stat).modified);
        self.stubs.push(Stub {
            parent,
            name: PathBuf::from(name),
            before,
            after: after.unwrap_or(before.modified),
            copied_up,
        });
    }
}

/// Path of `dir` below `root` by what the kernel says their paths are.
fn relative(root: &OwnedFd, dir: &OwnedFd) -> Option<PathBuf> {
    let path = |fd: &OwnedFd| {
        use std::os::fd::AsRawFd as _;
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let path = rustix::fs::readlink(link, Vec::new()).ok()?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
    };
    let device = |fd: &OwnedFd| {
        rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)
            .ok()
            .map(|stat| stat.st_dev)
    };
    if device(root)? != device(dir)? {
        return None;
    }
    path(dir)?.strip_prefix(path(root)?).ok().map(Path::to_path_buf)
}

fn open_below(upper: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat2(
        upper,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    )
}

/// Removes what is still empty of `stubs` from `upper` and restores the parents' times. Goes on after failures; a stub
/// that cannot be removed stays in the layer.
pub(crate) fn remove_stubs(upper: &Path, stubs: &[Stub]) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(upper) = rustix::fs::open(upper, flags, Mode::empty()) else {
        return;
    };
    for stub in stubs.iter().rev() {
        let Ok(parent) = open_below(&upper, &stub.parent) else {
            continue;
        };
        let Ok(stat) = rustix::fs::statat(&parent, &stub.name, AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let Ok(now) = rustix::fs::fstat(&parent).map(|stat| Before::of(&stat)) else {
            continue;
        };
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(&parent, &stub.name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => {
                rustix::fs::unlinkat(&parent, &stub.name, AtFlags::empty())
            }
            _ => continue,
        };
        if removed.is_err() {
            continue;
        }
        // A parent that the step itself changed has that time.
        let times = if now.modified == stub.after {
            stub.before.times()
        } else {
            now.times()
        };
        let _ = rustix::fs::futimens(&parent, &times);
        for (path, before) in &stub.copied_up {
            if remove_unchanged_copy(&upper, path, before).is_err() {
                break;
            }
        }
    }
}

/// Removes an empty directory of the upper layer that only repeats the lower one.
fn remove_unchanged_copy(upper: &OwnedFd, path: &Path, before: &Before) -> rustix::io::Result<()> {
    let dir = open_below(upper, path)?;
    let now = Before::of(&rustix::fs::fstat(&dir)?);
    if !now.same_owner_and_mode(before) || now.modified != before.modified || has_foreign_xattrs(&dir)? {
        return Err(rustix::io::Errno::NOTEMPTY);
    }
    let parent_path = path.parent().unwrap_or(Path::new(""));
    let parent = open_below(upper, parent_path)?;
    let times = Before::of(&rustix::fs::fstat(&parent)?).times();
    let name = path.file_name().unwrap_or_default();
    rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
    let _ = rustix::fs::futimens(&parent, &times);
    Ok(())
}

fn has_foreign_xattrs(dir: &OwnedFd) -> rustix::io::Result<bool> {
    let mut names = vec![0_u8; 4096];
    let length = match rustix::fs::flistxattr(dir, &mut names[..]) {
        Err(rustix::io::Errno::NOTSUP) => 0,
        result => result?,
    };
    // What overlayfs notes on a plain copy-up; `opaque` or `redirect` would mean that the step replaced the directory.
    let plain = [
        &b""[..],
        b"trusted.overlay.origin",
        b"trusted.overlay.impure",
        b"user.overlay.origin",
        b"user.overlay.impure",
        b"security.selinux",
    ];
    Ok(names[..length]
        .split(|byte| *byte == 0)
        .any(|name| !plain.contains(&name)))
}
