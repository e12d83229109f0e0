//! Signals, freezing and terminal size.

use std::time::Duration;

use super::connect::expect_ok;
use super::containers::Containers;
use super::error::Error;
use super::types::{Status, WaitCondition};
use crate::cgroup::Cgroup;
use crate::rootless::in_user_namespace;
use crate::supervisor::Request;

/// Docker's default stop timeout.
const STOP_TIMEOUT_SECS: i64 = 10;

impl Containers {
    fn order(&self, id: &str, request: &Request) -> Result<(), Error> {
        let (reply, _) = self.request_running(id, request)?;
        expect_ok(id, reply)
    }

    /// Sends a signal by number to the container's first process. SIGKILL also thaws a paused container, so that it
    /// arrives.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run.
    pub fn kill(&self, id: &str, signal: i32) -> Result<(), Error> {
        self.order(id, &Request::Kill { signal })
    }

    /// Stop signal (default: the spec's), then SIGKILL after the timeout in seconds (`None`: 10; negative: never).
    /// Returns when the process has ended.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run.
    pub fn stop(&self, id: &str, signal: Option<i32>, timeout_secs: Option<i64>) -> Result<(), Error> {
        let signal = match signal {
            Some(signal) => signal,
            None => self.spec(id)?.stop_signal,
        };
        let paused = self.state(id)?.status == Status::Paused;
        let wait = || self.wait_begin(id, WaitCondition::NotRunning);
        let ended = wait()?;
        self.kill(id, signal)?;
        if paused {
            // A frozen process gets its signal only when it runs again.
            let _ = self.unpause(id);
        }
        let timeout = timeout_secs.unwrap_or(STOP_TIMEOUT_SECS);
        let timeout = u64::try_from(timeout)
            .ok()
            .map(|secs| Duration::from_secs(secs).max(Duration::from_millis(1)));
        if ended.finish_within(timeout)?.is_some() {
            return Ok(());
        }
        let ended = match wait() {
            Err(Error::NotFound(_)) => return Ok(()),
            result => result?,
        };
        match self.kill(id, libc::SIGKILL) {
            Ok(()) | Err(Error::State { .. } | Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        ended.finish().map(drop)
    }

    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// [`Error::State`] unless it runs and is not paused.
    pub fn pause(&self, id: &str) -> Result<(), Error> {
        self.order(id, &Request::Pause)
    }

    /// Thaws them.
    ///
    /// # Errors
    /// [`Error::State`] unless it is paused.
    pub fn unpause(&self, id: &str) -> Result<(), Error> {
        self.order(id, &Request::Unpause)
    }

    /// Sets the size of the container's terminal, in characters.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, [`Error::Supervisor`] if it has no terminal.
    pub fn resize(&self, id: &str, rows: u16, cols: u16) -> Result<(), Error> {
        self.order(
            id,
            &Request::Resize {
                exec: None,
                rows,
                columns: cols,
            },
        )
    }

    /// Host pids in the container's cgroup (top), or in its PID namespace if it has no cgroup.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run.
    pub fn pids(&self, id: &str) -> Result<Vec<i32>, Error> {
        let state = self.state(id)?;
        if !state.is_running() {
            return Err(Error::State {
                id: id.to_owned(),
                state: "not running".into(),
            });
        }
        match Cgroup::open(&self.spec(id)?.cgroup_path) {
            Err(_) if in_user_namespace() => Ok(pids_of_namespace(state.pid)),
            group => group
                .and_then(|group| group.pids())
                .map_err(|error| Error::Supervisor(error.to_string())),
        }
    }
}

/// All processes in the PID namespace of `first`, itself among them.
fn pids_of_namespace(first: i32) -> Vec<i32> {
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let Some(wanted) = namespace(first) else {
        return Vec::new();
    };
    let mut pids: Vec<i32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| namespace(*pid).as_ref() == Some(&wanted))
        .collect();
    pids.sort_unstable();
    pids
}
