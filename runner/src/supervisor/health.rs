//! Probing the container's health.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::child::Child;
use super::clone;
use super::monitor::{Monitor, Phase};
use crate::container::{Health, HealthStatus, Layout, MAX_OUTPUT, ProbeResult, Status};
use crate::spec::{HealthCheck, ProcessSpec, Restart};
use crate::sys;

/// What the probe's child is called among the execs, whose ids are hexadecimal.
pub(super) const PROBE: &str = "probe";
/// From the signal that asks an unhealthy container to end to the one that does not ask.
const MERCY: Duration = Duration::from_secs(10);

/// Probes of one run.
#[derive(Debug)]
pub(super) struct Prober {
    check: HealthCheck,
    process: ProcessSpec,
    started: Instant,
    health: Health,
    /// When something is due: the next probe, or the end of the one that runs.
    due: Instant,
    running: Option<Running>,
    /// When an unhealthy container that was asked to end is killed.
    pub(super) kill_at: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    start: jiff::Timestamp,
    output: Vec<u8>,
    timed_out: bool,
}

impl Prober {
    fn new(check: HealthCheck, process: ProcessSpec) -> Self {
        let mut prober = Self {
            check,
            process,
            started: Instant::now(),
            health: Health::default(),
            due: Instant::now(),
            running: None,
            kill_at: None,
        };
        prober.due = Instant::now() + prober.pause();
        prober
    }

    fn is_starting(&self) -> bool {
        self.health.status == HealthStatus::Starting && self.started.elapsed() < self.check.start_period
    }

    fn pause(&self) -> Duration {
        if self.is_starting() {
            self.check.start_interval
        } else {
            self.check.interval
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.kill_at.map_or(self.due, |at| at.min(self.due))
    }

    /// Takes output of the probe.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if let Some(running) = &mut self.running {
            let room = MAX_OUTPUT - running.output.len().min(MAX_OUTPUT);
            running.output.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }
}

impl Monitor {
    /// A run begins.
    pub(super) fn begin_probing(&mut self, check: Option<HealthCheck>, process: &ProcessSpec) {
        self.prober = check.map(|check| {
            let process = ProcessSpec {
                args: check.args.clone(),
                tty: false,
                console_size: None,
                open_stdin: false,
                stdin_once: false,
                ..process.clone()
            };
            Prober::new(check, process)
        });
        if let Some(prober) = &self.prober {
            let _ = Layout::of_dir(&self.dir).write_health(&prober.health);
        }
    }

    /// Does what is due.
    pub(super) fn probe_if_due(&mut self) {
        let now = Instant::now();
        let Some(prober) = &mut self.prober else { return };
        if self.phase != Phase::Running {
            return;
        }
        if prober.kill_at.is_some_and(|at| at <= now) {
            prober.kill_at = None;
            self.signal_first(Signal::KILL);
            return;
        }
        if prober.due > now {
            return;
        }
        if let Some(running) = &mut prober.running {
            running.timed_out = true;
            prober.due = now + prober.check.timeout;
            let probe = self
                .children
                .iter()
                .find(|child| child.exec.as_deref() == Some(PROBE));
            if let Some(probe) = probe {
                let _ = sys::pidfd_send_signal(&probe.pidfd, libc::SIGKILL);
            }
            return;
        }
        // A frozen container is not probed.
        if self.state.status == Status::Paused {
            prober.due = now + prober.pause();
            return;
        }
        self.start_probe();
    }

    fn start_probe(&mut self) {
        let (Some(prober), Some(first), Some(cgroup)) =
            (&mut self.prober, self.children.first(), &self.cgroup)
        else {
            return;
        };
        let start = jiff::Timestamp::now();
        let joined = match Layout::of_dir(&self.dir).read_spec() {
            Ok(spec) => clone::join(
                PROBE,
                &prober.process,
                spec.privileged,
                &spec,
                &first.pidfd,
                cgroup,
            )
            .map_err(|error| error.message),
            Err(error) => Err(error.to_string()),
        };
        prober.running = Some(Running {
            start,
            output: Vec::new(),
            timed_out: false,
        });
        match joined {
            Ok((child, _)) => {
                prober.due = Instant::now() + prober.check.timeout;
                self.children.push(child);
            }
            Err(message) => {
                prober.write(message.as_bytes());
                self.probe_ended(-1);
            }
        }
    }

    /// Takes the result of a probe.
    pub(super) fn probe_ended(&mut self, code: i32) {
        let Some(prober) = &mut self.prober else { return };
        let Some(running) = prober.running.take() else {
            return;
        };
        let (exit_code, output) = if running.timed_out {
            let text = format!("Health check exceeded timeout ({:?})", prober.check.timeout);
            let output = String::from_utf8_lossy(&running.output);
            (
                -1,
                if output.is_empty() {
                    text
                } else {
                    format!("{text}: {output}")
                },
            )
        } else {
            (code, String::from_utf8_lossy(&running.output).into_owned())
        };
        let excused = prober.is_starting();
        let result = ProbeResult {
            start: running.start.to_string(),
            end: jiff::Timestamp::now().to_string(),
            exit_code,
            output,
        };
        let changed = prober.health.take(result, prober.check.retries, excused);
        prober.due = Instant::now() + prober.pause();
        let status = prober.health.status;
        let _ = Layout::of_dir(&self.dir).write_health(&prober.health);
        if !changed {
            return;
        }
        self.tell(&format!("health_status: {}", status.as_str()), &[]);
        if status == HealthStatus::Unhealthy && self.again.policy.when == Restart::OnUnhealthy {
            let asked = Layout::of_dir(&self.dir)
                .read_spec()
                .map_or(libc::SIGTERM, |spec| spec.stop_signal);
            if let Some(prober) = &mut self.prober {
                prober.kill_at = Some(Instant::now() + MERCY);
            }
            if let Some(first) = self.children.first() {
                let _ = sys::pidfd_send_signal(&first.pidfd, asked);
            }
        }
    }

    fn signal_first(&self, signal: Signal) {
        if let Some(first) = self
            .children
            .first()
            .filter(|child: &&Child| child.exec.is_none())
        {
            let _ = sys::pidfd_send_signal(&first.pidfd, signal.as_raw());
        }
    }
}
