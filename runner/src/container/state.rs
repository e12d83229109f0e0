//! Reading a container's state, and noticing supervisors that died.

use std::fs::File;

use rustix::fs::FlockOperation;

use super::containers::{Containers, flock};
use super::error::{Context, Error};
use super::layout::Layout;
use super::remove::take_away;
use super::types::{State, Status};
use crate::cgroup::Cgroup;

/// Exit code of a container whose supervisor was killed: it died of SIGKILL with it.
const KILLED: i32 = 137;

impl Containers {
    /// Reads `state.json` and checks it against the live supervisor: a container that is said to run without one has
    /// died with it; its remains are killed, and it becomes Exited 137 with an error text.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the file is damaged or from a newer version.
    pub fn state(&self, id: &str) -> Result<State, Error> {
        let layout = self.layout(id)?;
        let state = match layout.read_state() {
            // Removed between the two looks.
            Err(_) if !layout.dir.is_dir() => return Err(Error::NotFound(id.to_owned())),
            result => result?,
        };
        if !state.is_running() {
            return Ok(state);
        }
        let lock = match File::open(layout.lock()) {
            Err(_) if !layout.dir.is_dir() => return Err(Error::NotFound(id.to_owned())),
            result => result.context("open", layout.lock())?,
        };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(state);
        }
        if !self.bury_if_dead(id, &layout)? {
            return Err(Error::NotFound(id.to_owned()));
        }
        layout.read_state()
    }

    /// With the supervisor's lock held: ends a container that is said to run. False if it was removed by that
    /// (`auto_remove`).
    pub(super) fn bury_if_dead(&self, id: &str, layout: &Layout) -> Result<bool, Error> {
        let mut state = layout.read_state()?;
        if !state.is_running() {
            return Ok(true);
        }
        let spec = layout.read_spec()?;
        if let Ok(cgroup) = Cgroup::open(&spec.cgroup_path) {
            // Nothing to kill is the usual case: the first process dies with its supervisor.
            let _ = cgroup.kill_all();
            let _ = cgroup.thaw();
            let _ = cgroup.delete();
        }
        state.status = Status::Exited;
        state.pid = 0;
        state.exit_code = KILLED;
        state.error = "the container's supervisor ended unexpectedly".into();
        state.finished_at = Some(jiff::Timestamp::now().to_string());
        layout.write_state(&state, true)?;
        self.tell(id, "die", &[("exitCode", KILLED.to_string())]);
        if spec.auto_remove {
            take_away(self, id)?;
            return Ok(false);
        }
        Ok(true)
    }
}
