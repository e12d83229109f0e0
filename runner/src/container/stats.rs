//! What a running container uses.

use super::containers::Containers;
use super::error::Error;
use crate::cgroup::{Cgroup, CgroupError, Stats};

impl Containers {
    /// Reads the container's cgroup; `None` if it does not run, or its user may make no groups.
    ///
    /// # Errors
    /// [`Error::NotFound`], or no cgroup file system is mounted.
    pub fn stats(&self, id: &str) -> Result<Option<Stats>, Error> {
        if !self.state(id)?.is_running() {
            return Ok(None);
        }
        match Cgroup::open(&self.spec(id)?.cgroup_path).and_then(|group| group.stats()) {
            Ok(stats) => Ok(Some(stats)),
            // It ended meanwhile, or it has none.
            Err(CgroupError::NotFound(_) | CgroupError::NoGroup | CgroupError::NotMounted) => Ok(None),
            Err(error) => Err(Error::Supervisor(error.to_string())),
        }
    }
}
