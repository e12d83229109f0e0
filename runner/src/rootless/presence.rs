//! The lock file that tells who is inside the user's namespace.
//!
//! Record locks belong to a process and not to a descriptor: they go with it, however it ends, they are not inherited, and
//! closing *any* descriptor of the file drops them. So a process opens the file once and never closes it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{Flock, FlockOffsetType, FlockType, Pid};

use super::error::RootlessError;

/// Environment variable that tells a supervisor the file.
const INHERITED: &str = "COOPER_NAMESPACE_LOCK";

/// This process's mark; lives as long as the process.
static PRESENCE: OnceLock<Lock> = OnceLock::new();

/// The file, open.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: OwnedFd,
}

/// Who is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Nobody.
    None,
    /// This one and perhaps others.
    Process(Pid),
    /// Somebody whose pid has no meaning here, because it is in another PID namespace.
    Elsewhere,
}

impl Lock {
    pub(super) fn open(path: &Path) -> Result<Self, RootlessError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(RootlessError::system(format!("open {}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Keeps others from entering until [`Lock::announce`], or until this is dropped.
    pub(super) fn guard(&self) -> Result<(), RootlessError> {
        rustix::io::retry_on_intr(|| rustix::fs::flock(&self.file, FlockOperation::LockExclusive))
            .map_err(RootlessError::system(format!("lock {}", self.path.display())))
    }

    /// Some process inside.
    pub(super) fn holder(&self) -> Result<Holder, RootlessError> {
        let everything = Flock {
            start: 0,
            length: 0,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        let found = rustix::process::fcntl_getlk(&self.file, &everything)
            .map_err(RootlessError::system(format!("examine {}", self.path.display())))?;
        Ok(match found {
            None => Holder::None,
            Some(Flock { pid: Some(pid), .. }) => Holder::Process(pid),
            Some(Flock { pid: None, .. }) => Holder::Elsewhere,
        })
    }

    /// Marks this process as one that is inside, for the rest of its life, and lets others enter.
    pub(super) fn announce(self) -> Result<(), RootlessError> {
        let action = format!("lock {}", self.path.display());
        rustix::fs::fcntl_lock(&self.file, FlockOperation::LockShared)
            .map_err(RootlessError::system(action.clone()))?;
        rustix::fs::flock(&self.file, FlockOperation::Unlock).map_err(RootlessError::system(action))?;
        // Entering twice leaves the first mark; the second file must not be closed.
        if let Err(second) = PRESENCE.set(self) {
            std::mem::forget(second);
        }
        Ok(())
    }
}

/// For a program that this process is about to become: the mark stays with it.
///
/// # Errors
/// What fcntl(2) says.
pub fn keep_across_exec() -> std::io::Result<()> {
    match PRESENCE.get() {
        Some(lock) => Ok(rustix::io::fcntl_setfd(lock.file.as_fd(), FdFlags::empty())?),
        None => Ok(()),
    }
}

/// Lets a supervisor that `command` starts announce itself.
pub(crate) fn inherit(command: &mut Command) {
    if let Some(lock) = PRESENCE.get() {
        command.env(INHERITED, &lock.path);
    }
}

/// For a supervisor: marks it as inside if its engine is. Nobody is kept from entering meanwhile, because the engine is
/// inside until the supervisor runs.
pub(crate) fn announce_inherited() {
    if let Some(path) = std::env::var_os(INHERITED)
        && let Ok(lock) = Lock::open(Path::new(&path))
    {
        // Without the mark it works as well; it is only not found by those who start when nobody else is inside.
        let _ = lock.announce();
    }
}
