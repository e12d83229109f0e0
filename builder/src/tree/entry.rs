//! Root handles and what is known about one file.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, openat2};
use rustix::io::Errno;

use crate::build::{Error, IoContext as _};

/// A directory that is the root of everything opened through it.
#[derive(Debug, Clone)]
pub(crate) struct RootHandle {
    fd: Arc<OwnedFd>,
}

/// What never happens to a path given to the kernel here: it leaves the root, or a link in it is followed.
const STRICT: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl RootHandle {
    /// Takes a handle on a directory (`O_PATH` is enough).
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd) }
    }

    /// Opens a directory of this host that the user named.
    pub(crate) fn open_host(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(rustix::fs::open(path, flags, Mode::empty()).at(path)?))
    }

    /// Opens `real`, a path relative to the root without links in it; a link at its end is opened itself where `flags` has
    /// `O_PATH | O_NOFOLLOW`, and refused otherwise.
    pub(crate) fn open(&self, real: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(
            &*self.fd,
            dot_if_empty(real),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            STRICT,
        )
    }

    /// Opens a directory for listing and as a base of further calls.
    pub(crate) fn open_dir(&self, real: &Path) -> Result<OwnedFd, Errno> {
        self.open(real, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Opens a regular file for reading; anything else is refused without being touched.
    pub(crate) fn open_file(&self, real: &Path) -> Result<std::fs::File, Errno> {
        let fd = self.open(
            real,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY,
        )?;
        match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd.into()),
            FileType::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// The state of `real`, of the link itself if it is one.
    pub(crate) fn stat(&self, real: &Path) -> Result<Stat, Errno> {
        rustix::fs::fstat(self.open(real, OFlags::PATH | OFlags::NOFOLLOW)?)
    }

    /// Target of the link `real`.
    pub(crate) fn read_link(&self, real: &Path) -> Result<OsString, Errno> {
        use std::os::unix::ffi::OsStringExt as _;
        let fd = self.open(real, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(OsString::from_vec(
            rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes(),
        ))
    }

    /// Names in the directory `real`, sorted.
    pub(crate) fn list(&self, real: &Path) -> Result<Vec<OsString>, Errno> {
        list(self.open_dir(real)?)
    }
}

impl AsFd for RootHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Names in an open directory, sorted by their bytes.
pub(crate) fn list(fd: impl AsFd) -> Result<Vec<OsString>, Errno> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

pub(crate) fn dot_if_empty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    }
}

/// Type of a file with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileKind {
    Directory,
    Regular,
    Symlink(OsString),
    /// Character or block device, with its number.
    Device(FileType, u64),
    Fifo,
    Socket,
}

/// One selected file.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Path below the source's root, without links.
    pub(crate) real: PathBuf,
    /// Path below the destination; empty for the top of a copied directory.
    pub(crate) rel: PathBuf,
    pub(crate) kind: FileKind,
    pub(crate) stat: Stat,
}

impl Entry {
    /// Describes the file `real`.
    pub(crate) fn read(root: &RootHandle, real: PathBuf, rel: PathBuf) -> Result<Self, Error> {
        let stat = root.stat(&real).at(&real)?;
        Self::from_stat(root, real, rel, stat)
    }

    /// The same where the state is known already.
    pub(crate) fn from_stat(
        root: &RootHandle,
        real: PathBuf,
        rel: PathBuf,
        stat: Stat,
    ) -> Result<Self, Error> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => FileKind::Directory,
            FileType::RegularFile => FileKind::Regular,
            FileType::Symlink => FileKind::Symlink(root.read_link(&real).at(&real)?),
            kind @ (FileType::CharacterDevice | FileType::BlockDevice) => {
                FileKind::Device(kind, stat.st_rdev)
            }
            FileType::Fifo => FileKind::Fifo,
            FileType::Socket => FileKind::Socket,
            FileType::Unknown => return Err(Error::internal("a file of unknown type")),
        };
        Ok(Self {
            real,
            rel,
            kind,
            stat,
        })
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Permission bits with set-uid, set-gid and sticky.
    pub(crate) fn mode(&self) -> RawMode {
        self.stat.st_mode & 0o7777
    }

    /// Whether the file still is as it was when the entry was read.
    pub(crate) fn same_version(&self, now: &Stat) -> bool {
        let version = |stat: &Stat| {
            (
                stat.st_dev,
                stat.st_ino,
                stat.st_size,
                stat.st_mtime,
                stat.st_mtime_nsec,
                stat.st_ctime,
                stat.st_ctime_nsec,
            )
        };
        version(&self.stat) == version(now)
    }
}
