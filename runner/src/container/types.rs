//! Values of the container API.

use serde::{Deserialize, Serialize};

/// Version written to `state.json`.
pub(super) const STATE_VERSION: u32 = 1;

/// Life-cycle state as persisted in `state.json` by the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// Where it is in its life.
    pub status: Status,
    /// Host pid of the first process, 0 unless running.
    pub pid: i32,
    /// Exit code of the last run, 128 plus the number for a signal; for a container that could not be started Docker's
    /// 126, 127 or 128.
    pub exit_code: i32,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// Why the last start failed or the container was ended from outside; empty otherwise.
    pub error: String,
    /// RFC 3339 with nanoseconds, UTC; `None` before the first start.
    pub started_at: Option<String>,
    /// Likewise; `None` before the first exit.
    pub finished_at: Option<String>,
    /// What the machine did not allow at the last start (a limit, a rlimit), for the engine to pass on.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How often the supervisor started the process again.
    #[serde(default)]
    pub restart_count: u32,
    /// Somebody asked for the end of the last run.
    #[serde(default)]
    pub stopped_by_hand: bool,
}

impl State {
    pub(crate) fn created() -> Self {
        Self {
            version: STATE_VERSION,
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            started_at: None,
            finished_at: None,
            warnings: Vec::new(),
            restart_count: 0,
            stopped_by_hand: false,
        }
    }

    /// Running, paused, or about to be started again: a supervisor lives.
    pub fn is_running(&self) -> bool {
        matches!(self.status, Status::Running | Status::Paused | Status::Restarting)
    }
}

/// Where a container is in its life, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started, or its start failed.
    Created,
    /// Its process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its process has ended and will be started again.
    Restarting,
    /// Its process has ended.
    Exited,
    /// Its removal failed.
    Dead,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// Which streams an attach wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachOptions {
    /// Send input.
    pub stdin: bool,
    /// Receive standard output.
    pub stdout: bool,
    /// Receive standard error.
    pub stderr: bool,
    /// Replay the log first.
    pub logs: bool,
}

/// Wait conditions of the Engine API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitCondition {
    /// At once if it is not running.
    NotRunning,
    /// The next exit, even if it is yet to be started.
    NextExit,
    /// Its removal.
    Removed,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code, 128 plus the number for a signal.
    pub code: i32,
    /// Why it did not start or was ended from outside; empty otherwise.
    pub error: String,
    /// As in [`State`].
    pub oom_killed: bool,
}
