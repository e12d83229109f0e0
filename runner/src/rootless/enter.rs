//! Entering the user's namespace.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::LinkNameSpaceType;

use super::create::{create, forbidden};
use super::error::RootlessError;
use super::in_user_namespace;
use super::presence::{Holder, Lock};
use super::user::User;
use crate::sys;

impl User {
    /// Makes the calling process root in the user's namespace, and gives it a mount namespace of its own. Must be called
    /// before the process has a second thread. In a process that is inside already it only announces that.
    ///
    /// # Errors
    /// [`RootlessError`]: the kernel forbids it, or newuidmap(1) is missing or refuses.
    pub fn enter(&self) -> Result<(), RootlessError> {
        let lock = Lock::open(&self.lock_file())?;
        lock.guard()?;
        let inside = rustix::process::geteuid().is_root() && in_user_namespace();
        loop {
            let namespace = match lock.holder()? {
                Holder::Process(pid) => match namespace_of(pid) {
                    // Gone in this moment.
                    Err(Errno::NOENT | Errno::SRCH) => continue,
                    result => Some(result.map_err(RootlessError::system(format!(
                        "open the user namespace of process {pid}"
                    )))?),
                },
                Holder::None | Holder::Elsewhere => None,
            };
            // Asked again: the number could be another process's by now.
            if let (Some(_), Holder::None) = (&namespace, lock.holder()?) {
                continue;
            }
            match namespace {
                // Made in another way than ours: nobody may be led here.
                Some(namespace) if inside && !is_own(&namespace) => return Ok(()),
                _ if inside => {}
                Some(namespace) => join(&namespace)?,
                None => join(&create(self)?)?,
            }
            break;
        }
        lock.announce()?;
        if inside {
            return Ok(());
        }
        // AppArmor lets restricted programs make a namespace, but without any capability in it.
        sys::unshare_mount_namespace().map_err(forbidden)
    }
}

fn namespace_of(pid: Pid) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn is_own(namespace: &OwnedFd) -> bool {
    let identity = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let theirs = rustix::fs::fstat(namespace).map(identity);
    theirs.is_ok() && theirs == rustix::fs::stat("/proc/self/ns/user").map(identity)
}

fn join(namespace: &OwnedFd) -> Result<(), RootlessError> {
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))
        .map_err(RootlessError::system("enter the user namespace"))
}
