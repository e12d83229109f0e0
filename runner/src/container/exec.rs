//! Additional processes in a running container.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::connect::expect_ok;
use super::containers::Containers;
use super::error::{Context, Error};
use super::layout::{Layout, check_version, new_file, read_json, write_json};
use super::names::is_id;
use crate::spec::ProcessSpec;
use crate::supervisor::Request;

const RECORD_VERSION: u32 = 1;

/// Exec inspect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecState {
    /// It runs now.
    pub running: bool,
    /// Exit code once it has ended; 126 or 127 if it could not be started.
    pub exit_code: Option<i32>,
    /// Host pid, 0 unless running.
    pub pid: i32,
}

/// `execs/<exec id>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExecRecord {
    pub(crate) version: u32,
    pub(crate) process: ProcessSpec,
    pub(crate) privileged: bool,
    pub(crate) started: bool,
    pub(crate) state: ExecState,
}

impl ExecRecord {
    pub(crate) fn read(layout: &Layout, exec: &str) -> Result<Self, Error> {
        if !is_id(exec) {
            return Err(Error::NotFound(exec.to_owned()));
        }
        let path = layout.exec_record(exec);
        let record: Self = match read_json(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotFound(exec.to_owned()));
            }
            result => result?,
        };
        check_version(&path, record.version, RECORD_VERSION)?;
        Ok(record)
    }

    pub(crate) fn write(&self, layout: &Layout, exec: &str) -> io::Result<()> {
        write_json(&layout.exec_record(exec), self, false).map_err(io::Error::other)
    }
}

impl Containers {
    /// Prepares an exec and returns its id, 64 hex digits. `privileged` gives it all capabilities; the container's
    /// seccomp filter stays.
    ///
    /// # Errors
    /// [`Error::State`] if the container does not run or is paused.
    pub fn exec_create(&self, id: &str, process: &ProcessSpec, privileged: bool) -> Result<String, Error> {
        let state = self.state(id)?;
        if state.status != super::Status::Running {
            let state = if state.is_running() {
                "paused"
            } else {
                "not running"
            };
            return Err(Error::State {
                id: id.to_owned(),
                state: state.into(),
            });
        }
        let layout = self.layout(id)?;
        let exec = random_id()?;
        let record = ExecRecord {
            version: RECORD_VERSION,
            process: process.clone(),
            privileged,
            started: false,
            state: ExecState {
                running: false,
                exit_code: None,
                pid: 0,
            },
        };
        record
            .write(&layout, &exec)
            .context("write", layout.exec_record(&exec))?;
        let index = Layout::exec_index(&self.exec).join(&exec);
        new_file(&index, 0o600)
            .and_then(|mut file| io::Write::write_all(&mut file, id.as_bytes()))
            .context("write", index)?;
        Ok(exec)
    }

    /// Runs it and returns its stream (same framing as [`Containers::attach`]); detached: no stream.
    ///
    /// # Errors
    /// [`Error::Start`] if it could not be started, [`Error::State`] if it was started before or the container does not
    /// run.
    pub fn exec_start(&self, exec_id: &str, detach: bool) -> Result<Option<UnixStream>, Error> {
        let id = self.exec_container(exec_id)?;
        let request = Request::ExecStart {
            exec: exec_id.to_owned(),
            detach,
        };
        let (reply, stream) = self.request_running(&id, &request)?;
        expect_ok(exec_id, reply)?;
        Ok((!detach).then_some(stream))
    }

    /// Id of its container, what it runs, and how it is.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exec_state(&self, exec_id: &str) -> Result<(String, ProcessSpec, ExecState), Error> {
        let id = self.exec_container(exec_id)?;
        let running = self.state(&id)?.is_running();
        let mut record = ExecRecord::read(&self.layout(&id)?, exec_id)?;
        if record.state.running && !running {
            // It died with its container before its supervisor could write that down.
            record.state = ExecState {
                running: false,
                exit_code: Some(137),
                pid: 0,
            };
        }
        Ok((id, record.process, record.state))
    }

    /// Sets the size of its terminal, in characters.
    ///
    /// # Errors
    /// [`Error::State`] if it does not run, [`Error::Supervisor`] if it has no terminal.
    pub fn exec_resize(&self, exec_id: &str, rows: u16, cols: u16) -> Result<(), Error> {
        let id = self.exec_container(exec_id)?;
        let request = Request::Resize {
            exec: Some(exec_id.to_owned()),
            rows,
            columns: cols,
        };
        let (reply, _) = self.request_running(&id, &request)?;
        expect_ok(exec_id, reply)
    }

    fn exec_container(&self, exec_id: &str) -> Result<String, Error> {
        let not_found = || Error::NotFound(exec_id.to_owned());
        if !is_id(exec_id) {
            return Err(not_found());
        }
        let id = fs::read_to_string(Layout::exec_index(&self.exec).join(exec_id)).map_err(|_| not_found())?;
        if self.layout(&id).is_ok() {
            Ok(id)
        } else {
            Err(not_found())
        }
    }
}

fn random_id() -> Result<String, Error> {
    use std::fmt::Write as _;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Supervisor(format!("get random bytes: {error}")))?;
    let mut id = String::with_capacity(64);
    for byte in bytes {
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}
