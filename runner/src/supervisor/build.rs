//! The supervisor of one build step: no socket, no state, no log; it lives and dies with its caller.
//!
//! A step with a terminal or an open stdin takes [`Frame::Stdin`] and [`Frame::Resize`] from its caller.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::termios::Winsize;

use super::child::{Child, DRAIN};
use super::client::Outlet;
use super::clone::{self, StartOptions};
use super::protocol::{BuildRequest, Frame, Reply, encode, read_frame, read_message};
use crate::container::ExitStatus;
use crate::init::{FileMount, remove_stubs};
use crate::sys;

/// Input kept for a process that does not read it.
const MAX_PENDING: usize = 1 << 20;

/// Runs the step that arrives on `socket`, streams its output and ends with a [`Frame::Result`]. When the caller closes
/// its end the step is killed; when the caller is dead, its files and the cgroup are removed too.
pub(super) fn run(socket: &UnixStream) -> io::Result<()> {
    let Some(request) = read_message::<BuildRequest>(socket)? else {
        return Ok(());
    };
    // From here on the end of the socket says that the caller is gone, and leaves time to clean up. Besides, the caller may
    // end the thread that started us as soon as it has the result.
    rustix::process::set_parent_process_death_signal(None)?;
    let mut outlet = Outlet::new(socket.try_clone()?);
    let scratch: BTreeSet<PathBuf> = request
        .files
        .iter()
        .filter_map(|(_, source)| source.parent().map(Path::to_owned))
        .collect();
    let files = request
        .files
        .into_iter()
        .map(|(target, source)| FileMount { target, source })
        .collect();
    let options = StartOptions {
        files,
        empty: request.empty,
        volatile: true,
        record_stubs: true,
    };
    let started = match clone::start(&request.spec, options) {
        Ok(started) => started,
        Err(error) => {
            send_result(&mut outlet, &Reply::StartFailed { error })?;
            return Ok(());
        }
    };
    let mut child = started.child;
    let code = watch(&mut child, &mut outlet)?;
    remove_stubs(&request.spec.rootfs.upper, &started.stubs);
    let oom_killed = started.cgroup.oom_killed();
    let status = ExitStatus {
        code,
        error: String::new(),
        oom_killed,
    };
    let sent = send_result(
        &mut outlet,
        &Reply::Exited {
            status,
            removed: false,
        },
    );
    let _ = started.cgroup.delete();
    if outlet.is_broken() {
        // A caller that lives removes them as well: whoever comes second finds nothing.
        for dir in scratch {
            let _ = fs::remove_dir_all(dir);
        }
    }
    sent
}

fn send_result(outlet: &mut Outlet, reply: &Reply) -> io::Result<()> {
    let bytes = encode(reply)?;
    let json = &bytes[4..];
    outlet.push(&Frame::Result.header(json.len()), json);
    while !outlet.is_empty() && !outlet.is_broken() {
        wait(
            &mut [PollFd::from_borrowed_fd(outlet.as_fd(), PollFlags::OUT)],
            None,
        )?;
        outlet.flush();
    }
    Ok(())
}

fn wait(fds: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    match rustix::event::poll(fds, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads what the caller sent; false once it is gone or talks nonsense.
fn take_input(outlet: &mut Outlet, child: &mut Child, input: &mut Vec<u8>, buffer: &mut [u8]) -> bool {
    match outlet.read(buffer) {
        Some(0) => return false,
        Some(read) => input.extend_from_slice(&buffer[..read]),
        None => return true,
    }
    loop {
        let (frame, range) = match read_frame(input) {
            Ok(Some(found)) => found,
            Ok(None) => return input.len() <= MAX_PENDING,
            Err(_) => return false,
        };
        let end = range.end;
        match (frame, &input[range]) {
            (Frame::Stdin, bytes) if child.stdin.is_some() => child.pending.extend_from_slice(bytes),
            (Frame::Stdin, _) => {}
            (Frame::Resize, &[r0, r1, c0, c1]) => {
                let size = Winsize {
                    ws_row: u16::from_be_bytes([r0, r1]),
                    ws_col: u16::from_be_bytes([c0, c1]),
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                if let Some(terminal) = &child.terminal {
                    // The size is a courtesy.
                    let _ = rustix::termios::tcsetwinsize(terminal, size);
                }
            }
            _ => return false,
        }
        input.drain(..end);
    }
}

/// Copies output until the process has ended and its pipes are empty.
fn watch(child: &mut Child, outlet: &mut Outlet) -> io::Result<i32> {
    let mut buffer = vec![0; 32 << 10];
    let mut input = Vec::new();
    loop {
        if let (Some((code, _)), true) = (child.exit, child.is_done()) {
            return Ok(code);
        }
        let mut fds = Vec::with_capacity(4);
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::OUT, !outlet.is_empty());
        // A process that does not read its input holds its user up; that the user is gone is told in any case.
        interest.set(PollFlags::IN, child.pending.len() < MAX_PENDING);
        fds.push(PollFd::from_borrowed_fd(outlet.as_fd(), interest));
        let waits = !child.pending.is_empty();
        fds.extend(
            child
                .stdin
                .iter()
                .filter(|_| waits)
                .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::OUT)),
        );
        if child.exit.is_none() {
            fds.push(PollFd::from_borrowed_fd(child.pidfd.as_fd(), PollFlags::IN));
        }
        if !outlet.is_full() {
            fds.extend(
                child
                    .outputs
                    .iter()
                    .flatten()
                    .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)),
            );
        }
        let timeout = child
            .exit
            .map(|(_, at)| (at + DRAIN).saturating_duration_since(Instant::now()));
        wait(
            &mut fds,
            timeout.and_then(|left| Timespec::try_from(left).ok()).as_ref(),
        )?;
        let caller = fds[0].revents();
        drop(fds);

        let gone = caller.contains(PollFlags::IN) && !take_input(outlet, child, &mut input, &mut buffer);
        child.write_stdin();
        if gone || caller.intersects(PollFlags::HUP | PollFlags::ERR) {
            let _ = sys::pidfd_send_signal(&child.pidfd, libc::SIGKILL);
            outlet.give_up();
        }
        outlet.flush();
        child.reap();
        for (which, output) in child.outputs.iter_mut().enumerate() {
            let Some(fd) = output else { continue };
            if outlet.is_full() {
                break;
            }
            match rustix::io::read(&*fd, &mut buffer[..]) {
                Ok(0) => *output = None,
                Ok(read) => {
                    let frame = if which == 1 { Frame::Stderr } else { Frame::Stdout };
                    outlet.push(&frame.header(read), &buffer[..read]);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => *output = None,
            }
        }
        if outlet.is_broken() && child.exit.is_some() {
            child.outputs = [None, None];
        } else if outlet.is_broken() {
            // Poll must not spin on a closed socket: only the end of the process counts now.
            let code =
                super::child::try_wait(&child.pidfd, rustix::process::WaitIdOptions::empty()).unwrap_or(255);
            child.exit = Some((code, Instant::now()));
        }
    }
}
