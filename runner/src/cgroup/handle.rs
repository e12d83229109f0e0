//! The one door to both interfaces.

use std::os::fd::BorrowedFd;

use super::layout::{Layout, Mounts};
use super::stats::{self, Stats};
use super::{CgroupError, DeviceRule, Resources, devices, v1, v2};
use crate::rootless::in_user_namespace;

/// A container's control group.
#[derive(Debug)]
pub struct Cgroup {
    group: Group,
}

#[derive(Debug)]
enum Group {
    V1(v1::Group),
    V2(v2::Group),
    /// An unprivileged user to whom no part of the tree is delegated: the processes stay where they are.
    None,
}

impl Cgroup {
    /// Makes the group at `path` (`cooper/<id>`, relative to the base) and writes its limits, before any process is in it.
    ///
    /// Device rules apply after an implied "deny everything"; [`super::docker_default_devices`] is what a container needs at
    /// least. The strings are warnings: limits that this kernel cannot enforce.
    ///
    /// # Errors
    /// A bad path or rule, a group that has processes, no cgroup file system, a value that the kernel refuses. What was made
    /// is removed again. In a user namespace that may make no groups there is none, with a warning if limits are asked for.
    pub fn create(
        path: &str,
        resources: &Resources,
        rules: &[DeviceRule],
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let path = checked(path)?;
        rules.iter().try_for_each(devices::validate)?;
        resources.total_limit()?;
        let (group, warnings) = match Group::create(path, resources, rules) {
            Err(error) if error.is_forbidden() && in_user_namespace() => {
                let asked = *resources != Resources::default();
                let warning = || format!("limits ignored: this user may make no cgroups: {error}");
                (Group::None, asked.then(warning).into_iter().collect())
            }
            result => result?,
        };
        Ok((Self { group }, warnings))
    }

    /// Finds a group that [`Cgroup::create`] made, perhaps in another process.
    ///
    /// # Errors
    /// [`CgroupError::NotFound`], or a bad path.
    pub fn open(path: &str) -> Result<Self, CgroupError> {
        let path = checked(path)?;
        let mounts = Mounts::read()?;
        let group = match mounts.layout() {
            Layout::V1 => v1::Group::open(&mounts.v1_bases(), path).map(Group::V1),
            Layout::V2 => {
                let base = mounts.v2_base().ok_or(CgroupError::NotMounted)?;
                v2::Group::open(&base, path).map(Group::V2)
            }
        };
        group
            .map(|group| Self { group })
            .ok_or_else(|| CgroupError::NotFound(path.to_owned()))
    }

    /// Moves a process, by its pid in our namespace, into the group.
    ///
    /// # Errors
    /// The kernel's, `ESRCH` for a process that is gone.
    pub fn add_process(&self, pid: i32) -> Result<(), CgroupError> {
        match &self.group {
            Group::V1(group) => group.add_process(pid),
            Group::V2(group) => group.add_process(pid),
            Group::None => Ok(()),
        }
    }

    /// Moves the calling process, which must be single-threaded, into the group; much faster than
    /// [`Cgroup::add_process`] on v1. On v2 nothing is done: there processes are born in the group
    /// ([`Cgroup::clone_into_fd`]).
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn join(&self) -> Result<(), CgroupError> {
        match &self.group {
            Group::V1(group) => group.join(),
            Group::V2(_) | Group::None => Ok(()),
        }
    }

    /// The directory for `CLONE_INTO_CGROUP`; v2 only.
    pub fn clone_into_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.group {
            Group::V1(_) | Group::None => None,
            Group::V2(group) => Some(group.fd()),
        }
    }

    /// All processes of the group and of groups below it, ascending, zombies included on v1.
    ///
    /// # Errors
    /// Reading fails, for example because the group was deleted.
    pub fn pids(&self) -> Result<Vec<i32>, CgroupError> {
        match &self.group {
            Group::V1(group) => group.pids(),
            Group::V2(group) => group.pids(),
            Group::None => Err(CgroupError::NoGroup),
        }
    }

    /// Whether the kernel has killed a process of the group for lack of memory. Ask before [`Cgroup::delete`].
    pub fn oom_killed(&self) -> bool {
        match &self.group {
            Group::V1(group) => group.oom_killed(),
            Group::V2(group) => group.oom_killed(),
            Group::None => false,
        }
    }

    /// Stops all processes of the group and waits, at most 5 s, until they have.
    ///
    /// # Errors
    /// [`CgroupError::FreezeTimeout`] (the group is then thawed), or the kernel's.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        match &self.group {
            Group::V1(group) => group.freeze(),
            Group::V2(group) => group.freeze(),
            Group::None => Err(CgroupError::NoGroup),
        }
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        match &self.group {
            Group::V1(group) => group.thaw(),
            Group::V2(group) => group.thaw(),
            Group::None => Ok(()),
        }
    }

    /// Sends SIGKILL to every process of the group, leaving no time to fork away. Zombies may be left to reap.
    ///
    /// # Errors
    /// [`CgroupError::KillTimeout`] if processes are left after 10 s, or the kernel's.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        match &self.group {
            Group::V1(group) => group.kill_all(),
            Group::V2(group) => group.kill_all(),
            Group::None => Err(CgroupError::NoGroup),
        }
    }

    /// Changes the limits that are `Some`; gives warnings as [`Cgroup::create`] does. `memory` without `memory_swap` sets the
    /// total to twice the memory here too: pass the whole, merged limits.
    ///
    /// # Errors
    /// A value that the kernel refuses, for example memory below what is in use and cannot be reclaimed.
    pub fn update(&self, resources: &Resources) -> Result<Vec<String>, CgroupError> {
        match &self.group {
            Group::V1(group) => group.apply(resources),
            Group::V2(group) => group.apply(resources),
            Group::None => Err(CgroupError::NoGroup),
        }
    }

    /// What the processes of the group and of groups below it have used.
    ///
    /// # Errors
    /// [`CgroupError::NoGroup`]. What a missing controller would tell is left out, as is everything when the group has gone.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        match &self.group {
            Group::V1(group) => Ok(stats::v1(|controller| group.dir(controller))),
            Group::V2(group) => Ok(stats::v2(group.dir())),
            Group::None => Err(CgroupError::NoGroup),
        }
    }

    /// Removes the group and those below it; a group whose last process has just died is waited for, at most 2 s.
    ///
    /// # Errors
    /// Processes are left, or the kernel's; on v1 other hierarchies are still cleared.
    pub fn delete(self) -> Result<(), CgroupError> {
        match self.group {
            Group::V1(group) => group.delete(),
            Group::V2(group) => group.delete(),
            Group::None => Ok(()),
        }
    }
}

impl Group {
    fn create(
        path: &str,
        resources: &Resources,
        rules: &[DeviceRule],
    ) -> Result<(Self, Vec<String>), CgroupError> {
        let mounts = Mounts::read()?;
        match mounts.layout() {
            Layout::V1 => {
                let (group, warnings) = v1::Group::create(&mounts.v1_bases(), path, resources, rules)?;
                Ok((Self::V1(group), warnings))
            }
            Layout::V2 => {
                let base = mounts.v2_base().ok_or(CgroupError::NotMounted)?;
                let (group, warnings) = v2::Group::create(&base, path, resources, rules)?;
                Ok((Self::V2(group), warnings))
            }
        }
    }
}

/// The path without leading slashes.
fn checked(path: &str) -> Result<&str, CgroupError> {
    let relative = path.trim_start_matches('/');
    let sane = |component: &str| {
        !component.is_empty()
            && component != "."
            && component != ".."
            && component.len() <= 255
            && !component.chars().any(char::is_control)
    };
    if relative.split('/').all(sane) {
        Ok(relative)
    } else {
        Err(CgroupError::InvalidPath(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_climb() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(checked(path).ok(), expected, "{path:?}");
        check("cooper/ab", Some("cooper/ab"));
        check("/cooper/ab", Some("cooper/ab"));
        check("", None);
        check("/", None);
        check("cooper//ab", None);
        check("cooper/../..", None);
        check("./x", None);
        check("a/", None);
        check("a\nb", None);
    }
}
