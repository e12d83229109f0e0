//! What can go wrong with control groups.

use std::io;
use std::path::PathBuf;

/// A control group operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The path is empty, absolute in disguise, or climbs.
    #[error("invalid cgroup path {0:?}")]
    InvalidPath(String),
    /// Neither v1 controllers nor a v2 tree are mounted.
    #[error("no cgroup file system is mounted")]
    NotMounted,
    /// The group does not exist in any hierarchy.
    #[error("no such cgroup: {0}")]
    NotFound(String),
    /// The container has no group, because its user may make none.
    #[error("the container has no cgroup: none is delegated to this user")]
    NoGroup,
    /// A new group's path already holds processes.
    #[error("cgroup {0} already has processes")]
    InUse(PathBuf),
    /// Limits that contradict each other.
    #[error("invalid cgroup limits: {0}")]
    InvalidResources(String),
    /// A device rule that no kernel takes.
    #[error("invalid device rule: {0}")]
    InvalidDevice(String),
    /// Reading or writing one of the kernel's files.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried: `reading`, `writing "7" to`, ...
        action: String,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Not all processes stopped in time.
    #[error("freezing cgroup {0} timed out")]
    FreezeTimeout(PathBuf),
    /// Processes kept forking or would not die.
    #[error("killing the processes of cgroup {0} timed out")]
    KillTimeout(PathBuf),
    /// Removing went on after each failure; these are all of them.
    #[error("removing cgroup: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Delete(Vec<Self>),
}

impl CgroupError {
    /// Whether the caller lacks the right to make groups, or there is no place to make them.
    pub(super) fn is_forbidden(&self) -> bool {
        match self {
            Self::NotMounted => true,
            Self::Io { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::EACCES | libc::EPERM | libc::EROFS)
            ),
            _ => false,
        }
    }
}
