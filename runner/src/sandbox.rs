//! One-shot sandboxed processes: a build's RUN.

use std::io::{self, Read, Write as _};
use std::net::Shutdown;
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

/// Where build steps are run.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox<'a> {
    /// A directory for sockets and mount points, the one of [`crate::container::Containers`] or another.
    pub exec_root: &'a Path,
    /// Lines added to `/etc/hosts`: name and address.
    pub hosts: &'a [(String, String)],
}

/// [`Sandbox::run`] without further hosts.
///
/// # Errors
/// See there.
pub fn run(
    spec: &ContainerSpec,
    exec_root: &Path,
    sink: &mut dyn FnMut(Output, &[u8]),
    cancelled: &AtomicBool,
) -> Result<ExitStatus, Error> {
    let hosts = &[];
    Sandbox { exec_root, hosts }.run(spec, sink, cancelled)
}

impl Sandbox<'_> {
    /// Runs `spec` under a supervisor of its own that dies with the caller, streaming output to `sink`; no state directory,
    /// no log file. `/etc/hosts` and `/etc/resolv.conf` are bound from scratch files below `exec_root`. When `cancelled` is
    /// set, before or meanwhile, the process is killed within milliseconds. Mount points that had to be created in
    /// `rootfs.upper` are removed again afterwards and their parents' times restored (BuildKit semantics).
    ///
    /// # Errors
    /// [`Error::Start`] when the process cannot be started; [`Error::Supervisor`] when the run was cancelled or the
    /// supervisor died.
    pub fn run(
        &self,
        spec: &ContainerSpec,
        sink: &mut dyn FnMut(Output, &[u8]),
        cancelled: &AtomicBool,
    ) -> Result<ExitStatus, Error> {
        let scratch = self.scratch(spec)?;
        let (socket, child) = self.start(spec, &scratch)?;
        let result = converse(socket, sink, &|| cancelled.load(Ordering::Acquire));
        finish(child, &result);
        result
    }

    /// Runs `spec`, whose process has a terminal or an open stdin, for the user at the other end of `client`; otherwise as
    /// [`Sandbox::run`]. Ends with the process, or kills it when the client hangs up.
    ///
    /// Both directions consist of frames as in Docker's attach streams: a byte for the kind, three zero bytes, the length
    /// (32 bits, big-endian), that many bytes. From the client 0 is input and 0x7e the terminal's size (rows, columns: 16
    /// bits each, big-endian); to the client 1 is output, 2 standard error without a terminal, and 0x7f, the last one, the
    /// exit code in decimal digits.
    ///
    /// # Errors
    /// As [`Sandbox::run`]; the client's hanging up counts as cancelling.
    pub fn interact(
        &self,
        spec: &ContainerSpec,
        client: &UnixStream,
        cancelled: &AtomicBool,
    ) -> Result<ExitStatus, Error> {
        let scratch = self.scratch(spec)?;
        let (socket, child) = self.start(spec, &scratch)?;
        let gone = AtomicBool::new(false);
        let result = thread::scope(|scope| {
            let gone = &gone;
            let upstream = socket.try_clone().map_err(failed)?;
            scope.spawn(move || {
                // However this ends, one of the two has nothing more to say.
                let _ = io::copy(&mut { client }, &mut { &upstream });
                gone.store(true, Ordering::Release);
            });
            let send = |frame: Frame, bytes: &[u8]| {
                let header = frame.header(bytes.len());
                let sent = { client }
                    .write_all(&header)
                    .and_then(|()| { client }.write_all(bytes));
                if sent.is_err() {
                    gone.store(true, Ordering::Release);
                }
            };
            let mut sink = |output: Output, bytes: &[u8]| match output {
                Output::Stdout => send(Frame::Stdout, bytes),
                Output::Stderr => send(Frame::Stderr, bytes),
            };
            let stop = || cancelled.load(Ordering::Acquire) || gone.load(Ordering::Acquire);
            let result = converse(socket, &mut sink, &stop);
            if let Ok(status) = &result {
                send(Frame::Result, status.code.to_string().as_bytes());
            }
            // Ends the copying of input.
            let _ = client.shutdown(Shutdown::Both);
            result
        });
        finish(child, &result);
        result
    }

    fn scratch(&self, spec: &ContainerSpec) -> Result<Scratch, Error> {
        prepare_exec_root(self.exec_root)?;
        Scratch::new(self.exec_root, spec, self.hosts)
    }

    /// A supervisor that has its request.
    fn start(&self, spec: &ContainerSpec, scratch: &Scratch) -> Result<(UnixStream, Child), Error> {
        let request = BuildRequest {
            spec: spec.clone(),
            files: scratch.files(),
            empty: Layout::empty_dir(self.exec_root),
        };
        let (mut ours, theirs) = UnixStream::pair().map_err(failed)?;
        let child = spawn_for_build(&theirs).map_err(failed)?;
        drop(theirs);
        match write_message(&mut ours, &request) {
            Ok(()) => Ok((ours, child)),
            Err(error) => {
                drop(ours);
                reap(child);
                Err(failed(error))
            }
        }
    }
}

fn failed(error: io::Error) -> Error {
    Error::Supervisor(format!("run a build step: {error}"))
}

fn finish(child: Child, result: &Result<ExitStatus, Error>) {
    match result {
        // It only has the cgroup left to remove.
        Ok(_) => reap_aside(child),
        // Its end of the socket is closed, so it kills the process and ends.
        Err(_) => reap(child),
    }
}

fn reap(mut child: Child) {
    let _ = child.wait();
}

fn reap_aside(child: Child) {
    thread::spawn(move || reap(child));
}

fn converse(
    mut socket: UnixStream,
    sink: &mut dyn FnMut(Output, &[u8]),
    cancelled: &dyn Fn() -> bool,
) -> Result<ExitStatus, Error> {
    socket.set_read_timeout(Some(CANCEL_LATENCY)).map_err(failed)?;
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        if cancelled() {
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
                Frame::Stdin | Frame::Resize => return Err(failed(io::ErrorKind::InvalidData.into())),
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
