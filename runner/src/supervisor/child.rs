//! A supervised process and its streams.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};

/// How long output is awaited after the process has ended while others still hold its pipes (dockerd: 2 s).
pub(super) const DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// The container's first process, or an exec.
#[derive(Debug)]
pub(super) struct Child {
    /// Exec id; `None` for the first process.
    pub(super) exec: Option<String>,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    /// Controlling side of the pty.
    pub(super) terminal: Option<OwnedFd>,
    /// Where clients' input goes.
    pub(super) stdin: Option<OwnedFd>,
    /// stdout and stderr; with a terminal the first is the terminal.
    pub(super) outputs: [Option<OwnedFd>; 2],
    /// Input that stdin did not take yet.
    pub(super) pending: Vec<u8>,
    /// Close stdin once `pending` is written.
    pub(super) close_stdin: bool,
    /// A client's half-close ends stdin.
    pub(super) stdin_once: bool,
    /// Exit code, and when it was learnt.
    pub(super) exit: Option<(i32, Instant)>,
}

impl Child {
    pub(super) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Collects the exit status if the process has ended: its code, or 128 plus the signal (as Docker reports it).
    pub(super) fn reap(&mut self) {
        if self.exit.is_none()
            && let Some(code) = try_wait(&self.pidfd, WaitIdOptions::NOHANG)
        {
            self.exit = Some((code, Instant::now()));
        }
    }

    /// Ended and nothing more to read, or nothing more to wait for.
    pub(super) fn is_done(&self) -> bool {
        self.exit
            .is_some_and(|(_, at)| self.outputs.iter().all(Option::is_none) || at.elapsed() >= DRAIN)
    }

    /// Writes pending input. True if none is left.
    pub(super) fn write_stdin(&mut self) -> bool {
        while !self.pending.is_empty() {
            let Some(stdin) = &self.stdin else {
                self.pending.clear();
                break;
            };
            match rustix::io::write(stdin, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // The process closed its stdin.
                Err(_) => self.stdin = None,
            }
        }
        self.pending = Vec::new();
        if self.close_stdin {
            self.stdin = None;
        }
        true
    }
}

/// Waits for a child by pidfd.
pub(super) fn try_wait(pidfd: impl AsFd, options: WaitIdOptions) -> Option<i32> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | options) {
            Ok(Some(status)) => {
                return Some(
                    status
                        .exit_status()
                        .unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0)),
                );
            }
            Ok(None) => return None,
            Err(Errno::INTR) => {}
            // Not our child any more: somebody else's wait, which does not happen in a single-threaded supervisor.
            Err(_) => return Some(255),
        }
    }
}
