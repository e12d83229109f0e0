//! The end of processes and of the supervisor.

use std::fs;

use super::health::PROBE;
use super::monitor::{Monitor, Phase, Role};
use super::protocol::Reply;
use crate::container::{ExecRecord, ExitStatus, Layout, Names, Status, Subject, WaitCondition, delete_tree};
use crate::init::SetupError;

impl Monitor {
    /// Records execs that are done; their streams close when they are empty.
    pub(super) fn finish_execs(&mut self) {
        let layout = Layout::of_dir(&self.dir);
        let probe = self
            .children
            .iter()
            .position(|child| child.exec.as_deref() == Some(PROBE) && child.is_done());
        if let Some(probe) = probe {
            let code = self.children.remove(probe).exit.map_or(-1, |(code, _)| code);
            self.probe_ended(code);
        }
        self.children.retain(|child| {
            let (Some(exec), Some((code, _)), true) = (&child.exec, child.exit, child.is_done()) else {
                return true;
            };
            if let Ok(mut record) = ExecRecord::read(&layout, exec) {
                record.state.running = false;
                record.state.exit_code = Some(code);
                record.state.pid = 0;
                // A record that cannot be written keeps saying "running"; readers check that against the container.
                let _ = record.write(&layout, exec);
            }
            let attributes = [("execID", exec.clone()), ("exitCode", code.to_string())];
            Subject::read(&layout, &self.id).tell(&self.data, "exec_die", &attributes);
            false
        });
    }

    /// The container has ended and its pipes are drained. Order: state on disk, streams closed, waits answered, and
    /// only then what nobody waits for.
    pub(super) fn finish(&mut self) {
        let code = self
            .children
            .first()
            .and_then(|child| child.exit)
            .map_or(255, |(code, _)| code);
        self.children.clear();
        self.prober = None;
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.state.status = Status::Exited;
        self.state.pid = 0;
        self.state.exit_code = code;
        self.state.oom_killed = self
            .cgroup
            .as_ref()
            .is_some_and(crate::cgroup::Cgroup::oom_killed);
        let now = jiff::Timestamp::now();
        self.state.finished_at = Some(now.to_string());
        self.rename_subject();
        if self.state.oom_killed {
            self.subject.tell(&self.data, "oom", &[]);
        }
        let started = self
            .state
            .started_at
            .as_ref()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let seconds = started.map_or(0, |started| now.duration_since(started).as_secs());
        let attributes = [
            ("execDuration", seconds.to_string()),
            ("exitCode", code.to_string()),
        ];
        self.subject.tell(&self.data, "die", &attributes);
        self.state.stopped_by_hand = self.again.stopped;
        let status = ExitStatus {
            code,
            error: String::new(),
            oom_killed: self.state.oom_killed,
        };
        if !self.restart_later(&status) {
            self.end(&status);
        }
    }

    /// The process could not be started: the container stays created (or is removed), with Docker's exit code.
    pub(super) fn start_failed(&mut self, error: &SetupError) {
        let code = error.kind.exit_code();
        self.state.status = Status::Created;
        self.state.pid = 0;
        self.state.exit_code = code;
        self.state.error = error.message.clone();
        let status = ExitStatus {
            code,
            error: error.message.clone(),
            oom_killed: false,
        };
        self.end(&status);
    }

    /// Leaves without having run anything; the container is about to be removed.
    pub(super) fn abandon(&mut self) {
        self.close_socket();
        self.answer_waits(
            &ExitStatus {
                code: 0,
                error: String::new(),
                oom_killed: false,
            },
            true,
        );
        self.phase = Phase::Ended;
        self.lock = None;
    }

    pub(super) fn end(&mut self, status: &ExitStatus) {
        self.phase = Phase::Ended;
        self.trim_at = None;
        self.close_socket();
        let layout = Layout::of_dir(&self.dir);
        if !self.facts.auto_remove {
            // Without the file the next reader sees a dead supervisor and writes an end of its own.
            let _ = layout.write_state(&self.state, true);
        }
        self.close_streams();
        let doomed = if self.facts.auto_remove {
            self.rename_subject();
            self.withdraw()
        } else {
            None
        };
        self.answer_waits(status, doomed.is_some());
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.delete();
        }
        if let Some(doomed) = doomed {
            self.subject.tell(&self.data, "destroy", &[]);
            let _ = delete_tree(&doomed);
        }
        let _ = fs::remove_dir_all(Layout::exec_dir(&self.exec, &self.id));
        self.log = None;
        // From here on another supervisor may serve the container, while slow clients still get their bytes from us.
        self.lock = None;
    }

    /// Takes the container out of sight: its name, then its directory.
    fn withdraw(&self) -> Option<std::path::PathBuf> {
        let doomed = Layout::removed_dir(&self.data, &self.id);
        Layout::forget_execs(&self.exec, &self.dir);
        let names = Names::new(&self.data);
        if let Ok(name) = Layout::of_dir(&self.dir).read_name() {
            names.release(&name, &self.id);
        }
        fs::rename(&self.dir, &doomed).ok().map(|()| doomed)
    }

    /// The container may have another name than when it was started.
    pub(super) fn rename_subject(&mut self) {
        self.subject = Subject::read(&Layout::of_dir(&self.dir), &self.id);
    }

    pub(super) fn close_socket(&mut self) {
        let _ = fs::remove_file(Layout::exec_dir(&self.exec, &self.id).join(Layout::SOCKET));
        self.listener = None;
    }

    pub(super) fn close_streams(&mut self) {
        for index in 0..self.conns.len() {
            self.feed_replay(index);
        }
        // None is taken out here: whoever is served now is known by its place.
        for conn in &mut self.conns {
            conn.outlet.flush();
            if let Role::Stream(stream) = &conn.role
                && conn.outlet.is_empty()
                && stream.replay.is_none()
            {
                conn.outlet.hang_up();
            }
        }
    }

    /// `removed`: the container is gone; waits for that stay otherwise, unless it has ended for good.
    pub(super) fn answer_waits(&mut self, status: &ExitStatus, removed: bool) {
        for conn in &mut self.conns {
            let Role::Wait(condition) = conn.role else {
                continue;
            };
            if self.phase == Phase::Restarting && condition == WaitCondition::Removed {
                continue;
            }
            let removed = removed && condition == WaitCondition::Removed;
            Self::reply(
                conn,
                &Reply::Exited {
                    status: status.clone(),
                    removed,
                },
            );
        }
    }
}
