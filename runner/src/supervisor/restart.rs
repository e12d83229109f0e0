//! Starting the process again when it has ended.

use std::time::{Duration, Instant};

use super::monitor::{Monitor, Phase};
use crate::container::{ExitStatus, Layout, Status};
use crate::spec::{Restart, RestartPolicy};

/// The first pause, and the longest; each is twice the one before (moby `restartmanager`).
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// Who ran that long begins with the first pause again.
const STEADY: Duration = Duration::from_secs(10);

/// What a supervisor remembers between two starts.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub(super) policy: RestartPolicy,
    /// Somebody asked for the end.
    pub(super) stopped: bool,
    pause: Duration,
    /// Failures in a row.
    failures: u32,
    started: Option<Instant>,
    /// When the next start is due.
    pub(super) at: Option<Instant>,
}

impl Again {
    pub(super) fn began(&mut self) {
        self.started = Some(Instant::now());
        self.at = None;
    }

    /// Whether and after which pause to start again.
    fn decide(&mut self, code: i32) -> Option<Duration> {
        let steady = self.started.is_some_and(|started| started.elapsed() >= STEADY);
        if steady {
            self.failures = 0;
        }
        let wanted = !self.stopped
            && match self.policy.when {
                Restart::No => false,
                Restart::Always | Restart::UnlessStopped => true,
                Restart::OnFailure | Restart::OnUnhealthy => {
                    code != 0 && (self.policy.max_retries == 0 || self.failures < self.policy.max_retries)
                }
            };
        if !wanted {
            return None;
        }
        self.failures += 1;
        self.pause = match self.pause {
            _ if steady => FIRST,
            Duration::ZERO => FIRST,
            pause => (pause * 2).min(LONGEST),
        };
        Some(self.pause)
    }
}

impl Monitor {
    /// The process has ended: either a pause begins, true, or it was the last run.
    pub(super) fn restart_later(&mut self, status: &ExitStatus) -> bool {
        let Some(pause) = self.again.decide(status.code) else {
            return false;
        };
        self.phase = Phase::Restarting;
        self.trim_at = None;
        self.again.at = Some(Instant::now() + pause);
        self.state.status = Status::Restarting;
        self.state.restart_count += 1;
        // Without the file the next reader sees a dead supervisor and writes an end of its own.
        let _ = Layout::of_dir(&self.dir).write_state(&self.state, true);
        self.close_streams();
        self.answer_waits(status, false);
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.delete();
        }
        true
    }

    /// The pause is over.
    pub(super) fn restart_if_due(&mut self) {
        if self.phase != Phase::Restarting || self.again.at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.again.at = None;
        if let Err(error) = self.try_start() {
            self.state.status = Status::Exited;
            self.state.exit_code = error.kind.exit_code();
            self.state.error = error.message.clone();
            self.end(&ExitStatus {
                code: self.state.exit_code,
                error: error.message,
                oom_killed: false,
            });
        }
    }

    /// Somebody wants the end while a pause goes on.
    pub(super) fn give_up_restart(&mut self) {
        self.again.at = None;
        self.state.status = Status::Exited;
        self.end(&ExitStatus {
            code: self.state.exit_code,
            error: String::new(),
            oom_killed: self.state.oom_killed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions() {
        let check = |when, max_retries, codes: &[i32], expected: &[Option<u64>]| {
            let policy = RestartPolicy { when, max_retries };
            let mut again = Again {
                policy,
                ..Again::default()
            };
            let pauses: Vec<Option<u64>> = codes
                .iter()
                .map(|code| {
                    again
                        .decide(*code)
                        .map(|pause| pause.as_millis().try_into().unwrap())
                })
                .collect();
            assert_eq!(pauses, expected, "{policy:?}");
        };
        check(Restart::No, 0, &[1], &[None]);
        check(Restart::Always, 0, &[0, 1, 0], &[Some(100), Some(200), Some(400)]);
        check(Restart::OnFailure, 2, &[1, 1, 1], &[Some(100), Some(200), None]);
        check(Restart::OnFailure, 0, &[1, 0], &[Some(100), None]);
        let mut long = vec![Some(100)];
        long.extend((1..12).map(|n| Some((100u64 << n).min(60_000))));
        check(Restart::UnlessStopped, 0, &[1; 12], &long);
        let mut stopped = Again {
            policy: RestartPolicy {
                when: Restart::Always,
                max_retries: 0,
            },
            stopped: true,
            ..Again::default()
        };
        assert_eq!(stopped.decide(1), None);
    }
}
