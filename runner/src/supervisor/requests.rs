//! What a container's supervisor does on request.

use std::io;

use rustix::termios::Winsize;

use super::clone::{self, StartOptions};
use super::log::Log;
use super::monitor::{Conn, Facts, Monitor, Phase, Role, Stream};
use super::protocol::{MAX_MESSAGE, Reply, Request, decode, encode};
use super::replay::Replay;
use crate::cgroup::CgroupError;
use crate::container::{
    AttachOptions, ExecRecord, ExitStatus, Layout, StartErrorKind, Status, Subject, WaitCondition,
    file_mounts,
};
use crate::init::SetupError;
use crate::sys;

impl Monitor {
    pub(super) fn read_request(&mut self, index: usize) {
        let mut chunk = [0; 1024];
        let conn = &mut self.conns[index];
        let Role::Request(buffer) = &mut conn.role else {
            return;
        };
        // Only the request is taken from the socket: what follows it is input for the process. The prefix says how much.
        let wanted = match buffer.first_chunk::<4>() {
            None => 4 - buffer.len(),
            Some(prefix) => (4 + u32::from_le_bytes(*prefix) as usize).saturating_sub(buffer.len()),
        };
        if wanted > MAX_MESSAGE {
            conn.outlet.give_up();
            return;
        }
        let wanted = wanted.min(chunk.len());
        match conn.outlet.read(&mut chunk[..wanted]) {
            None => return,
            Some(0) => {
                conn.outlet.give_up();
                return;
            }
            Some(read) => buffer.extend_from_slice(&chunk[..read]),
        }
        match decode::<Request>(buffer) {
            // A zero-length or incomplete message waits for more; poll is level-triggered.
            Ok(None) => {}
            Ok(Some(request)) => self.serve(index, request),
            Err(_) => conn.outlet.give_up(),
        }
    }

    /// Queues a reply; the connection ends when it is sent.
    pub(super) fn reply(conn: &mut Conn, reply: &Reply) {
        match encode(reply) {
            Ok(bytes) => conn.outlet.push(&[], &bytes),
            Err(_) => conn.outlet.give_up(),
        }
        conn.role = Role::Closing;
    }

    fn serve(&mut self, index: usize, request: Request) {
        let reply = match request {
            Request::Start => self.start(),
            Request::Attach { options } => return self.attach(index, None, options),
            Request::Wait { condition } => return self.wait(index, condition),
            Request::Kill { signal } => self.kill(signal),
            Request::Pause => self.freeze(true),
            Request::Unpause => self.freeze(false),
            Request::Resize { exec, rows, columns } => self.resize(exec.as_deref(), rows, columns),
            Request::ExecStart { exec, detach } => match self.exec_start(&exec) {
                Ok(()) if !detach => {
                    let options = AttachOptions {
                        stdin: true,
                        stdout: true,
                        stderr: true,
                        logs: false,
                    };
                    return self.attach(index, Some(exec), options);
                }
                Ok(()) => Reply::Ok,
                Err(reply) => reply,
            },
            Request::Update => self.update(),
            Request::Shutdown if self.phase == Phase::Waiting => {
                self.abandon();
                Reply::Ok
            }
            Request::Shutdown => self.wrong_state(),
        };
        Self::reply(&mut self.conns[index], &reply);
    }

    fn wrong_state(&self) -> Reply {
        let state = match (self.phase, self.state.status) {
            (Phase::Restarting, _) => "restarting",
            (Phase::Running, Status::Paused) => "paused",
            (Phase::Running, _) => "running",
            _ => "not running",
        };
        Reply::WrongState { state: state.into() }
    }

    fn attach(&mut self, index: usize, exec: Option<String>, options: AttachOptions) {
        if exec.is_none() && self.log.is_none() && options.logs {
            self.open_log();
        }
        let replay = self
            .log
            .as_ref()
            .filter(|_| options.logs && exec.is_none())
            .map(Replay::new);
        let conn = &mut self.conns[index];
        match encode(&Reply::Ok) {
            Ok(bytes) => conn.outlet.push(&[], &bytes),
            Err(_) => conn.outlet.give_up(),
        }
        conn.role = Role::Stream(Stream {
            exec,
            options,
            input: options.stdin,
            hung_up: false,
            replay,
        });
        self.feed_replay(index);
    }

    fn open_log(&mut self) {
        if let Ok(spec) = Layout::of_dir(&self.dir).read_spec()
            && spec.log.enabled
        {
            self.facts.terminal = spec.process.tty;
            self.log = Log::open(Layout::of_dir(&self.dir).log(&self.id), spec.log).ok();
        }
    }

    fn wait(&mut self, index: usize, condition: WaitCondition) {
        let conn = &mut self.conns[index];
        match encode(&Reply::Ok) {
            Ok(bytes) => conn.outlet.push(&[], &bytes),
            Err(_) => conn.outlet.give_up(),
        }
        if self.phase == Phase::Waiting
            && let Some(status) = self.settled(condition)
        {
            Self::reply(
                &mut self.conns[index],
                &Reply::Exited {
                    status,
                    removed: false,
                },
            );
            return;
        }
        self.conns[index].role = Role::Wait(condition);
    }

    /// The answer to a wait that was meant for a run which ended before the wait arrived, so that it reached the
    /// supervisor of a coming run.
    fn settled(&self, condition: WaitCondition) -> Option<ExitStatus> {
        let layout = Layout::of_dir(&self.dir);
        let over = match condition {
            WaitCondition::NotRunning => true,
            WaitCondition::NextExit => false,
            WaitCondition::Removed => !layout.read_spec().is_ok_and(|spec| spec.auto_remove),
        };
        let state = over.then(|| layout.read_state().ok()).flatten()?;
        Some(ExitStatus {
            code: state.exit_code,
            error: state.error,
            oom_killed: state.oom_killed,
        })
    }

    fn start(&mut self) -> Reply {
        if self.phase != Phase::Waiting {
            return self.wrong_state();
        }
        self.state.restart_count = 0;
        match self.try_start() {
            Ok(()) => Reply::Ok,
            Err(error) => {
                self.start_failed(&error);
                Reply::StartFailed { error }
            }
        }
    }

    pub(super) fn try_start(&mut self) -> Result<(), SetupError> {
        let other = |error: &dyn std::fmt::Display| SetupError::other(error.to_string());
        let layout = Layout::of_dir(&self.dir);
        let spec = layout.read_spec().map_err(|error| other(&error))?;
        self.facts = Facts {
            terminal: spec.process.tty,
            auto_remove: spec.auto_remove,
        };
        self.again.policy = spec.restart;
        self.again.stopped = false;
        if self.log.is_none() {
            self.open_log();
        }
        let options = StartOptions {
            files: file_mounts(&layout),
            empty: Layout::empty_dir(&self.exec),
            volatile: spec.auto_remove,
            record_stubs: false,
        };
        let started = clone::start(&spec, options)?;
        self.state.status = Status::Running;
        self.state.pid = started.child.pid;
        self.state.exit_code = 0;
        self.state.error = String::new();
        self.state.oom_killed = false;
        self.state.started_at = Some(jiff::Timestamp::now().to_string());
        self.state.finished_at = None;
        self.state.warnings = started.warnings;
        self.state.stopped_by_hand = false;
        let _ = layout.write_state(&self.state, false);
        self.children.push(started.child);
        self.cgroup = Some(started.cgroup);
        self.phase = Phase::Running;
        self.again.began();
        self.begin_probing(spec.health, &spec.process);
        self.tell("start", &[]);
        self.trim_soon();
        Ok(())
    }

    pub(super) fn tell(&self, action: &str, more: &[(&str, String)]) {
        Subject::read(&Layout::of_dir(&self.dir), &self.id).tell(&self.data, action, more);
    }

    fn kill(&mut self, signal: i32) -> Reply {
        let ends = signal == libc::SIGKILL
            || Layout::of_dir(&self.dir)
                .read_spec()
                .is_ok_and(|spec| spec.stop_signal == signal);
        if ends {
            self.again.stopped = true;
        }
        if self.phase == Phase::Restarting && ends {
            self.state.stopped_by_hand = true;
            self.give_up_restart();
            return Reply::Ok;
        }
        let Some(child) = self
            .children
            .first()
            .filter(|child| child.exec.is_none() && child.exit.is_none())
        else {
            return self.wrong_state();
        };
        if let Err(error) = sys::pidfd_send_signal(&child.pidfd, signal) {
            return Reply::Failed {
                message: format!("send signal {signal}: {error}"),
            };
        }
        self.tell("kill", &[("signal", signal.to_string())]);
        if signal == libc::SIGKILL && self.state.status == Status::Paused {
            return self.freeze(false);
        }
        Reply::Ok
    }

    fn freeze(&mut self, freeze: bool) -> Reply {
        let expected = if freeze { Status::Running } else { Status::Paused };
        if self.phase != Phase::Running || self.state.status != expected {
            return self.wrong_state();
        }
        let Some(cgroup) = &self.cgroup else {
            return self.wrong_state();
        };
        if let Err(error) = if freeze { cgroup.freeze() } else { cgroup.thaw() } {
            return Reply::Failed {
                message: error.to_string(),
            };
        }
        self.state.status = if freeze { Status::Paused } else { Status::Running };
        self.tell(if freeze { "pause" } else { "unpause" }, &[]);
        match Layout::of_dir(&self.dir).write_state(&self.state, false) {
            Ok(()) => Reply::Ok,
            Err(error) => Reply::Failed {
                message: error.to_string(),
            },
        }
    }

    fn update(&mut self) -> Reply {
        let spec = match Layout::of_dir(&self.dir).read_spec() {
            Ok(spec) => spec,
            Err(error) => {
                return Reply::Failed {
                    message: error.to_string(),
                };
            }
        };
        if let Some(cgroup) = &self.cgroup {
            match cgroup.update(&spec.resources) {
                // What cannot be enforced was told before, and is a warning here as at the start.
                Ok(_) | Err(CgroupError::NoGroup) => {}
                Err(error) => {
                    return Reply::Failed {
                        message: error.to_string(),
                    };
                }
            }
        }
        self.again.policy = spec.restart;
        Reply::Ok
    }

    fn resize(&self, exec: Option<&str>, rows: u16, columns: u16) -> Reply {
        let child = self.children.iter().find(|child| child.exec.as_deref() == exec);
        let Some(child) = child else {
            return Reply::WrongState {
                state: "not running".into(),
            };
        };
        let Some(terminal) = &child.terminal else {
            return Reply::Failed {
                message: "process has no terminal".into(),
            };
        };
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        match rustix::termios::tcsetwinsize(terminal, size) {
            Ok(()) => {
                self.tell(
                    "resize",
                    &[("height", rows.to_string()), ("width", columns.to_string())],
                );
                Reply::Ok
            }
            Err(errno) => Reply::Failed {
                message: format!("resize: {errno}"),
            },
        }
    }

    fn exec_start(&mut self, exec: &str) -> Result<(), Reply> {
        let failed = |message: String| Reply::Failed { message };
        let layout = Layout::of_dir(&self.dir);
        if self.phase != Phase::Running || self.state.status == Status::Paused {
            return Err(self.wrong_state());
        }
        let mut record = ExecRecord::read(&layout, exec).map_err(|error| failed(error.to_string()))?;
        if record.started {
            return Err(Reply::WrongState {
                state: "already started".into(),
            });
        }
        let spec = layout.read_spec().map_err(|error| failed(error.to_string()))?;
        let (Some(first), Some(cgroup)) = (self.children.first(), &self.cgroup) else {
            return Err(self.wrong_state());
        };
        record.started = true;
        let joined = clone::join(
            exec,
            &record.process,
            record.privileged,
            &spec,
            &first.pidfd,
            cgroup,
        );
        let result = match joined {
            Ok((child, _)) => {
                record.state.running = true;
                record.state.pid = child.pid;
                let action = format!("exec_start: {}", record.process.args.join(" "));
                self.tell(&action, &[("execID", exec.to_owned())]);
                self.children.push(child);
                self.trim_soon();
                Ok(())
            }
            Err(error) => {
                let not_found = error.kind == StartErrorKind::NotFound;
                record.state.exit_code = Some(if not_found { 127 } else { 126 });
                Err(Reply::StartFailed { error })
            }
        };
        let written: io::Result<()> = record.write(&layout, exec);
        written.map_err(|error| failed(error.to_string())).and(result)
    }
}
