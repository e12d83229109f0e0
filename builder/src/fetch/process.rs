//! Runs a program of this host to its end, bounded in all that it says.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Output beyond this is read and thrown away.
const MAX_OUTPUT: usize = 16 << 20;
const POLL: Duration = Duration::from_millis(5);
/// How often the caller's watch is asked.
const WATCH: Duration = Duration::from_millis(200);

/// What a program left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Why there is no [`Ended`].
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be started.
    Start(io::Error),
    /// It was killed because `stop` was set.
    Stopped,
    /// It was killed because of what the watch said.
    Watched(String),
}

/// Runs `command` in a process group of its own, without standard input. It and all that it started is killed when `stop`
/// is set or `watch`, asked now and then, has something to object.
pub(super) fn run(
    command: &mut Command,
    stop: &AtomicBool,
    watch: &dyn Fn() -> Result<(), String>,
) -> Result<Ended, Failure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn().map_err(Failure::Start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let stdout = scope.spawn(|| read(stdout));
        let stderr = scope.spawn(|| read(stderr));
        let waited = wait(&mut child, stop, watch);
        // Also what outlived its parent, which would keep the pipes open.
        kill(&child);
        let (stdout, stderr) = (stdout.join(), stderr.join());
        Ok(Ended {
            status: waited?,
            stdout: stdout.unwrap_or_default(),
            stderr: stderr.unwrap_or_default(),
        })
    })
}

fn wait(
    child: &mut Child,
    stop: &AtomicBool,
    watch: &dyn Fn() -> Result<(), String>,
) -> Result<ExitStatus, Failure> {
    let mut watched = Instant::now();
    let failure = loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(error) => break Failure::Start(error),
        }
        if stop.load(Ordering::Relaxed) {
            break Failure::Stopped;
        }
        if watched.elapsed() >= WATCH {
            watched = Instant::now();
            if let Err(message) = watch() {
                break Failure::Watched(message);
            }
        }
        std::thread::sleep(POLL);
    };
    kill(child);
    // It cannot be waited for only if it is gone already.
    if let Err(error) = child.wait() {
        tracing::debug!(%error, "a killed program could not be waited for");
    }
    Err(failure)
}

fn kill(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group
        && let Err(errno) = kill_process_group(group, Signal::KILL)
    {
        tracing::trace!(%errno, "a program's group is gone already");
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let Some(mut pipe) = pipe else {
        return String::new();
    };
    let mut text = Vec::new();
    let mut buffer = [0u8; 8192];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => {
                let room = MAX_OUTPUT.saturating_sub(text.len());
                text.extend_from_slice(&buffer[..got.min(room)]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}
