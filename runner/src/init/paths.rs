//! Paths inside the container's root, only ever used through handles.
//!
//! A path that an image or a user names is resolved by openat2(2) with `RESOLVE_IN_ROOT`: absolute links and `..` stay
//! inside (CVE-2021-30465), and magic links (`/proc/self/fd/7`, CVE-2024-21626) are refused everywhere.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{Doing, Result, SetupError};
use super::stubs::{Recorder, Stub};

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Dir,
    File,
}

/// The container's root directory.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    recorder: Option<Recorder>,
}

const HANDLE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl Root {
    /// `recorder` notes created mount points.
    pub(super) fn new(fd: OwnedFd, recorder: Option<Recorder>) -> Self {
        Self { fd, recorder }
    }

    /// The process's own root directory.
    pub(super) fn current() -> Result<Self> {
        let fd = rustix::fs::open("/", HANDLE | OFlags::DIRECTORY, Mode::empty()).doing("open /")?;
        Ok(Self::new(fd, None))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn into_stubs(self) -> Vec<Stub> {
        self.recorder.map(Recorder::into_stubs).unwrap_or_default()
    }

    /// Opens `path`, following links inside the root.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        self.resolve(path, flags, resolve)
    }

    /// Opens `path` refusing every symbolic link.
    pub(super) fn open_no_links(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        loop {
            match rustix::fs::openat2(&self.fd, path, flags, Mode::empty(), resolve) {
                // EAGAIN: a rename raced with the resolution of `..`.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// A handle on the mount point `path`, created when missing: directories 0755, files 0644, owned by root.
    pub(super) fn make(&mut self, path: &Path, kind: Kind) -> Result<OwnedFd> {
        self.make_with(path, kind, 0o755)
    }

    /// As [`Root::make`] for a path that must not go through any symbolic link (`/proc`, `/sys`, `/dev`:
    /// CVE-2019-19921, CVE-2026-41579).
    pub(super) fn make_no_links(&mut self, path: &Path) -> Result<OwnedFd> {
        match self.open_no_links(path, HANDLE | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                self.make(path, Kind::Dir)?;
                self.open_no_links(path, HANDLE | OFlags::DIRECTORY)
            }
            result => result,
        }
        .map_err(|errno| match errno {
            Errno::LOOP => SetupError::other(format!("mount on {}: it is a symbolic link", path.display())),
            errno => SetupError::other(format!("mount on {}: {errno}", path.display())),
        })
    }

    pub(super) fn make_with(&mut self, path: &Path, kind: Kind, mode: u32) -> Result<OwnedFd> {
        let mut path = clean(path)?;
        for _ in 0..MAX_LINKS {
            match self.try_make(&path, kind, mode)? {
                Made::Handle(fd) => return Ok(fd),
                Made::Dangling(target) => path = target,
            }
        }
        Err(SetupError::other(format!(
            "create {}: too many levels of symbolic links",
            path.display()
        )))
    }

    fn try_make(&mut self, path: &Path, kind: Kind, mode: u32) -> Result<Made> {
        let (mut dir, done) = self.deepest(path)?;
        let missing: Vec<Component<'_>> = path.components().skip(done).collect();
        if missing.is_empty() {
            return Ok(Made::Handle(dir));
        }
        // Nothing can be made there, and what looks like a link may be one of our own descriptors.
        if rustix::fs::fstatfs(&dir).is_ok_and(|stat| stat.f_type == rustix::fs::PROC_SUPER_MAGIC) {
            return Err(Errno::PERM).doing(format_args!("create {}", path.display()));
        }
        for (index, component) in missing.iter().enumerate() {
            let Component::Normal(name) = component else {
                return Err(SetupError::other(format!(
                    "create {}: {}",
                    path.display(),
                    Errno::NOENT
                )));
            };
            let last = index + 1 == missing.len();
            let before = self
                .recorder
                .as_ref()
                .and_then(|recorder| recorder.snapshot(&self.fd, &dir));
            let created = if last && kind == Kind::File {
                let flags =
                    OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&dir, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
            } else {
                rustix::fs::mkdirat(&dir, *name, Mode::from_raw_mode(mode))
            };
            match created {
                Ok(()) => {
                    if let (Some(recorder), Some(before)) = (&mut self.recorder, before) {
                        recorder.record(&dir, before, name);
                    }
                }
                Err(Errno::EXIST) => {
                    if let Ok(target) = rustix::fs::readlinkat(&dir, *name, Vec::new()) {
                        let prefix: PathBuf = path.components().take(done + index).collect();
                        let rest: PathBuf = path.components().skip(done + index + 1).collect();
                        let target = Path::new(std::ffi::OsStr::new(
                            target
                                .to_str()
                                .map_err(|_| SetupError::other("link target is not UTF-8"))?,
                        ))
                        .to_path_buf();
                        let base = if target.is_absolute() {
                            PathBuf::from("/")
                        } else {
                            prefix
                        };
                        return Ok(Made::Dangling(base.join(target).join(rest)));
                    }
                }
                Err(errno) => return Err(errno).doing(format_args!("create {}", path.display())),
            }
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            dir = rustix::fs::openat2(&dir, *name, HANDLE, Mode::empty(), resolve)
                .doing(format_args!("open {}", path.display()))?;
        }
        Ok(Made::Handle(dir))
    }

    /// The longest prefix of `path` that exists, and its number of components.
    fn deepest(&self, path: &Path) -> Result<(OwnedFd, usize)> {
        let mut count = path.components().count();
        let mut prefix = path;
        loop {
            match self.open(prefix, HANDLE) {
                Ok(fd) => return Ok((fd, count)),
                Err(Errno::NOENT) if count > 1 => {
                    count -= 1;
                    prefix = prefix.parent().unwrap_or(Path::new("/"));
                }
                Err(errno) => return Err(errno).doing(format_args!("open {}", path.display())),
            }
        }
    }

    /// Reads a small regular file of the image, or `None` if there is none. Anything else (a FIFO would block us, a
    /// device would act) is refused, as is a file above `limit` bytes.
    pub(super) fn read_file(&self, path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
        use std::io::Read as _;
        let action = || format!("open {} in the container", path.display());
        let fd = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => result.doing(action())?,
        };
        let stat = rustix::fs::fstat(&fd).doing(action())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(SetupError::other(format!("{}: not a regular file", action())));
        }
        let mut bytes = Vec::new();
        std::fs::File::from(fd)
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .doing(action())?;
        if bytes.len() as u64 > limit {
            return Err(SetupError::other(format!(
                "{}: larger than {limit} bytes",
                action()
            )));
        }
        Ok(Some(bytes))
    }
}

const MAX_LINKS: usize = 40;

enum Made {
    Handle(OwnedFd),
    /// A link in the path leads to this path, which does not exist yet.
    Dangling(PathBuf),
}

/// Absolute and free of `.` and `..`, as Docker cleans the paths users give.
fn clean(path: &Path) -> Result<PathBuf> {
    if !path.is_absolute() {
        return Err(SetupError::other(format!(
            "path {} is not absolute",
            path.display()
        )));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// File type of a handle.
pub(super) fn kind_of(fd: impl AsFd) -> rustix::io::Result<Kind> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    let dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if dir { Kind::Dir } else { Kind::File })
}
