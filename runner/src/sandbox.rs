//! One-shot sandboxed processes: a build's RUN.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::container::{Error, ExitStatus, Layout, prepare_exec_root};
use crate::scratch::Scratch;
use crate::spec::ContainerSpec;
use crate::supervisor::{BuildRequest, Frame, Reply, read_frame, spawn_for_build, write_message};

/// Which stream a piece of output is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Longest time until a set `cancelled` flag is noticed while the process is silent.
const CANCEL_LATENCY: Duration = Duration::from_millis(10);

/// Runs `spec` under a supervisor of its own that dies with the caller, streaming output to `sink`; no state directory,
/// no log file. `exec_root` is a directory for sockets and mount points, the one of [`crate::container::Containers`] or
/// another. `/etc/hosts` and `/etc/resolv.conf` are bound from scratch files below it. When `cancelled` is set, before or
/// meanwhile, the process is killed within milliseconds. Mount points that had to be created in `rootfs.upper` are
/// removed again afterwards and their parents' times restored (BuildKit semantics).
///
/// # Errors
/// [`Error::Start`] when the process cannot be started; [`Error::Supervisor`] when the run was cancelled or the
/// supervisor died.
pub fn run(
    spec: &ContainerSpec,
    exec_root: &Path,
    sink: &mut dyn FnMut(Output, &[u8]),
    cancelled: &AtomicBool,
) -> Result<ExitStatus, Error> {
    prepare_exec_root(exec_root)?;
    let scratch = Scratch::new(exec_root, spec)?;
    let request = BuildRequest {
        spec: spec.clone(),
        files: scratch.files(),
        empty: Layout::empty_dir(exec_root),
    };
    let failed = |error: io::Error| Error::Supervisor(format!("run a build step: {error}"));
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let child = spawn_for_build(&theirs).map_err(failed)?;
    drop(theirs);
    let result = converse(ours, &request, sink, cancelled);
    match &result {
        // It only has the cgroup left to remove.
        Ok(_) => reap_aside(child),
        // Its end of the socket is closed, so it kills the process and ends.
        Err(_) => reap(child),
    }
    result
}

fn reap(mut child: Child) {
    let _ = child.wait();
}

fn reap_aside(child: Child) {
    thread::spawn(move || reap(child));
}

fn converse(
    mut socket: UnixStream,
    request: &BuildRequest,
    sink: &mut dyn FnMut(Output, &[u8]),
    cancelled: &AtomicBool,
) -> Result<ExitStatus, Error> {
    let failed = |error: io::Error| Error::Supervisor(format!("run a build step: {error}"));
    write_message(&mut socket, request).map_err(failed)?;
    socket.set_read_timeout(Some(CANCEL_LATENCY)).map_err(failed)?;
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        if cancelled.load(Ordering::Acquire) {
            return Err(Error::Supervisor("run a build step: cancelled".into()));
        }
        match socket.read(&mut chunk) {
            Ok(0) => {
                return Err(Error::Supervisor(
                    "run a build step: its supervisor ended unexpectedly".into(),
                ));
            }
            Ok(read) => buffer.extend_from_slice(&chunk[..read]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => continue,
                _ => return Err(failed(error)),
            },
        }
        let mut done = 0;
        while let Some((frame, range)) = read_frame(&buffer[done..]).map_err(failed)? {
            let payload = &buffer[done..][range.clone()];
            done += range.end;
            match frame {
                Frame::Stdout => sink(Output::Stdout, payload),
                Frame::Stderr => sink(Output::Stderr, payload),
                Frame::Result => return outcome(payload),
            }
        }
        buffer.drain(..done);
    }
}

fn outcome(payload: &[u8]) -> Result<ExitStatus, Error> {
    match serde_json::from_slice(payload) {
        Ok(Reply::Exited { status, .. }) => Ok(status),
        Ok(Reply::StartFailed { error }) => Err(error.into()),
        Ok(_) | Err(_) => Err(Error::Supervisor(
            "run a build step: unexpected reply of its supervisor".into(),
        )),
    }
}
