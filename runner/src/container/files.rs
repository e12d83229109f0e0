//! The files of a container, running or not, through handles.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxFlags,
};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::containers::{Containers, flock};
use super::error::{Context, Error};
use super::layout::{Layout, file_mounts};
use super::types::State;
use crate::cgroup::Cgroup;
use crate::init::{View, root_of_running, view_of_running, view_of_stopped};
use crate::overlay::Overlay;
use crate::rootless::in_user_namespace;

/// How often a container that is between two states is looked at, and the pause between.
const ATTEMPTS: u32 = 3000;
const PAUSE: Duration = Duration::from_millis(20);
/// The kernel's limit of links on the way to a file.
const MAX_LINKS: usize = 40;

/// A container's root directory with its bind mounts. A container that does not run cannot be started while this exists.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    _namespace: Option<OwnedFd>,
    /// Last, so that everything is unmounted when the container may start.
    _lock: Option<File>,
}

/// What is known of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: i64,
    /// Time of last modification: unix seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Where a symbolic link ends, as a path in the container; all links on the way resolved as far as they exist.
    pub target: Option<PathBuf>,
}

/// What keeps a directory from being written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnly {
    /// The container's root file system.
    Root,
    /// A mount on it.
    Mount,
}

enum Access {
    /// The files of a container that does not run, held so.
    Stopped(File),
    /// The mount namespace of one that runs.
    Running(OwnedFd),
}

impl Containers {
    /// The files as the container sees them but for what it mounts itself, `/proc`, `/sys`, `/dev` and tmpfs.
    ///
    /// # Errors
    /// [`Error::State`] if the container is about to start or between two runs for a minute, or somebody else copies its files as long, or mounting fails.
    pub fn files(&self, id: &str) -> Result<Files, Error> {
        let access = self.access(id, FlockOperation::NonBlockingLockExclusive)?;
        let layout = self.layout(id)?;
        let spec = layout.read_spec()?;
        let (mounts, empty) = (file_mounts(&layout), Layout::empty_dir(&self.exec));
        let (view, lock) = match access {
            Access::Running(namespace) => (view_of_running(&namespace, &spec, &mounts, &empty), None),
            Access::Stopped(lock) => (view_of_stopped(&spec, &mounts, &empty), Some(lock)),
        };
        let View { root, namespace } = view.map_err(|error| Error::Supervisor(error.to_string()))?;
        Ok(Files {
            root,
            _namespace: Some(namespace),
            _lock: lock,
        })
    }

    /// The root file system alone, read-only, without anything that is mounted on it.
    ///
    /// # Errors
    /// As [`Containers::files`].
    pub fn root_files(&self, id: &str) -> Result<Files, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Supervisor(error.to_string());
        let (root, lock) = match self.access(id, FlockOperation::NonBlockingLockShared)? {
            Access::Running(namespace) => {
                let root = root_of_running(&namespace).map_err(|error| failed(&error))?;
                (root, None)
            }
            Access::Stopped(lock) => {
                let spec = self.layout(id)?.read_spec()?;
                let mut lowers = vec![spec.rootfs.upper];
                lowers.extend(spec.rootfs.lowers);
                let overlay = Overlay {
                    lowers: &lowers,
                    upper: None,
                    empty: &Layout::empty_dir(&self.exec),
                    volatile: false,
                    inert: true,
                };
                (
                    overlay.mount_detached().map_err(|error| failed(&error))?,
                    Some(lock),
                )
            }
        };
        Ok(Files {
            root,
            _namespace: None,
            _lock: lock,
        })
    }

    /// The writable directory itself: what the container has changed, with overlayfs's marks for what is deleted.
    ///
    /// # Errors
    /// As [`Containers::files`].
    pub fn writable_files(&self, id: &str) -> Result<Files, Error> {
        let lock = match self.access(id, FlockOperation::NonBlockingLockShared)? {
            Access::Running(_) => None,
            Access::Stopped(lock) => Some(lock),
        };
        let upper = self.layout(id)?.read_spec()?.rootfs.upper;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&upper, flags, Mode::empty()).context("open", &upper)?;
        Ok(Files {
            root,
            _namespace: None,
            _lock: lock,
        })
    }

    /// Either the running container's namespace, or the right to its files.
    fn access(&self, id: &str, operation: FlockOperation) -> Result<Access, Error> {
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(PAUSE);
            }
            let state = self.state(id)?;
            if state.is_running() {
                if let Some(namespace) = self.mount_namespace(id, &state)? {
                    return Ok(Access::Running(namespace));
                }
                continue;
            }
            // Not while somebody removes it, or starts a supervisor.
            let _dir_lock = self.lock_dir(id)?;
            let path = self.layout(id)?.lock();
            let lock = File::options()
                .read(true)
                .write(true)
                .open(&path)
                .context("open", &path)?;
            if flock(&lock, operation).is_ok() && !self.layout(id)?.read_state()?.is_running() {
                return Ok(Access::Stopped(lock));
            }
        }
        Err(Error::State {
            id: id.to_owned(),
            state: "about to start, or its files are in use".into(),
        })
    }

    /// The mount namespace of a container that runs; `None` if its process has just ended.
    ///
    /// The pid comes from a file, and the process may be gone and its number given to another one. But if the process that
    /// a pidfd holds is alive after it was found in the container's cgroup, it is the container's.
    fn mount_namespace(&self, id: &str, state: &State) -> Result<Option<OwnedFd>, Error> {
        let Some(pid) = Pid::from_raw(state.pid) else {
            return Ok(None);
        };
        let pidfd = match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            result => result.context("open the process of", self.dir(id))?,
        };
        let path = format!("/proc/{}/ns/mnt", state.pid);
        let namespace = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            result => result.context("open", &path)?,
        };
        let ours = match Cgroup::open(&self.spec(id)?.cgroup_path).and_then(|group| group.pids()) {
            Ok(pids) => pids.contains(&state.pid),
            // Without a cgroup: the supervisor still says so, and only this user's processes can be entered at all.
            Err(_) if in_user_namespace() => self.state(id)?.pid == state.pid,
            Err(error) => return Err(Error::Supervisor(error.to_string())),
        };
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let ended = rustix::event::poll(&mut fds, Some(&Timespec::default()))
            .context("poll the process of", self.dir(id))?;
        Ok((ours && ended == 0).then_some(namespace))
    }
}

impl Files {
    /// The root directory.
    #[must_use]
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// What lstat(2) says of a path inside: a link at its end is not followed, unless a slash or `/.` stands behind it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn info(&self, path: &Path) -> io::Result<PathInfo> {
        let handle = self.open(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        let stat = rustix::fs::statat(&handle, "", AtFlags::EMPTY_PATH)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        Ok(PathInfo {
            mode: stat.st_mode,
            size: stat.st_size,
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            target: is_link.then(|| self.follow(path)).transpose()?,
        })
    }

    /// Opens a directory inside, following links.
    ///
    /// # Errors
    /// The kernel's; `ENOTDIR` for anything else.
    pub fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?)
    }

    /// The bytes of a small regular file inside, `None` if there is none.
    ///
    /// # Errors
    /// It is no regular file, larger than `limit`, or the kernel's.
    pub fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // Opening a device could act, so the kind is settled on a handle first.
        let handle = match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => result?,
        };
        let stat = rustix::fs::statat(&handle, "", AtFlags::EMPTY_PATH)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(format!("/proc/self/fd/{}", handle.as_raw_fd()))?
            .take(limit + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// What keeps a directory, opened by [`Files::directory`], from being written to, if anything does.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read_only(&self, directory: impl AsFd) -> io::Result<Option<ReadOnly>> {
        let flags = rustix::fs::fstatvfs(&directory)?.f_flag;
        if !flags.contains(StatVfsMountFlags::RDONLY) {
            return Ok(None);
        }
        let mount = |fd: BorrowedFd<'_>| {
            rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|stat| stat.stx_mnt_id)
        };
        let same = mount(directory.as_fd())? == mount(self.root.as_fd())?;
        Ok(Some(if same { ReadOnly::Root } else { ReadOnly::Mount }))
    }

    /// Opens a path, which with all its links stays inside.
    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() {
            Path::new("/")
        } else {
            path
        };
        loop {
            match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Where the links in `path` lead, in words. Nothing is opened by the result but through [`Files::open`].
    fn follow(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::from("/");
        let mut pending: Vec<PathBuf> = vec![path.to_path_buf()];
        let mut links = 0;
        while let Some(next) = pending.pop() {
            let mut components = next.components();
            let Some(first) = components.next() else { continue };
            pending.push(components.as_path().to_path_buf());
            match first {
                Component::RootDir => resolved = PathBuf::from("/"),
                Component::ParentDir => {
                    resolved.pop();
                }
                Component::CurDir | Component::Prefix(_) => {}
                Component::Normal(name) => {
                    let candidate = resolved.join(name);
                    let target = self
                        .open(&candidate, OFlags::PATH | OFlags::NOFOLLOW)
                        .and_then(|handle| rustix::fs::readlinkat(handle, "", Vec::new()));
                    match target {
                        Ok(target) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(Errno::LOOP.into());
                            }
                            pending.push(PathBuf::from(std::ffi::OsStr::from_bytes(target.to_bytes())));
                        }
                        // No link, or not there.
                        Err(_) => resolved = candidate,
                    }
                }
            }
        }
        Ok(resolved)
    }
}
