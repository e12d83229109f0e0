//! The event loop of a container's supervisor.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use super::child::{Child, DRAIN};
use super::client::Outlet;
use super::health::{PROBE, Prober};
use super::log::Log;
use super::protocol::Frame;
use super::replay::{self, Replay};
use super::restart::Again;
use crate::cgroup::Cgroup;
use crate::container::{AttachOptions, State, Subject, WaitCondition};
use crate::sys;

/// Queued bytes that stop the reading of a process that has ended: far more than its pipes can hold.
const AFTER_EXIT: usize = 4 << 20;
/// Memory is given back this long after a start, when short-lived containers are gone already.
const TRIM_AFTER: Duration = Duration::from_millis(200);
/// Longest read from a pipe or client.
const CHUNK: usize = 32 << 10;

/// Where the container is in its life, as far as its supervisor is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Running,
    /// Between two runs.
    Restarting,
    /// Nothing is left but clients that have not taken all their output.
    Ended,
}

/// What of the spec is needed after the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Facts {
    pub(super) terminal: bool,
    pub(super) auto_remove: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) outlet: Outlet,
    pub(super) role: Role,
}

#[derive(Debug)]
pub(super) enum Role {
    /// Its request is still being read.
    Request(Vec<u8>),
    /// Answered when the container ends.
    Wait(WaitCondition),
    /// A stream of the first process or of an exec.
    Stream(Stream),
    /// Closed once its queue is empty.
    Closing,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) exec: Option<String>,
    pub(super) options: AttachOptions,
    /// Input is still open on the client's side.
    pub(super) input: bool,
    /// The client has closed both directions; unread input may remain.
    pub(super) hung_up: bool,
    pub(super) replay: Option<Replay>,
}

/// A supervisor.
#[derive(Debug)]
pub(super) struct Monitor {
    pub(super) data: PathBuf,
    pub(super) exec: PathBuf,
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) listener: Option<UnixListener>,
    pub(super) lock: Option<OwnedFd>,
    pub(super) conns: Vec<Conn>,
    pub(super) phase: Phase,
    pub(super) children: Vec<Child>,
    pub(super) log: Option<Log>,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) state: State,
    pub(super) facts: Facts,
    pub(super) subject: Subject,
    pub(super) again: Again,
    pub(super) prober: Option<Prober>,
    pub(super) trim_at: Option<Instant>,
    had_client: bool,
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Accept,
    Conn(usize),
    Exit(usize),
    Output(usize, usize),
    Stdin(usize),
}

impl Monitor {
    pub(super) fn new(
        data: PathBuf,
        exec: PathBuf,
        id: String,
        listener: UnixListener,
        lock: OwnedFd,
    ) -> Self {
        let dir = data.join(&id);
        Self {
            data,
            exec,
            id,
            dir,
            listener: Some(listener),
            lock: Some(lock),
            conns: Vec::new(),
            phase: Phase::Waiting,
            children: Vec::new(),
            log: None,
            cgroup: None,
            state: State::created(),
            facts: Facts::default(),
            subject: Subject::default(),
            again: Again::default(),
            prober: None,
            trim_at: None,
            had_client: false,
            buffer: vec![0; CHUNK],
        }
    }

    /// Serves until the container has ended and every client has its bytes, or until nobody is interested in a
    /// container that was never started.
    pub(super) fn run(mut self) -> io::Result<()> {
        loop {
            let abandoned = self.phase == Phase::Waiting && self.had_client && self.conns.is_empty();
            if abandoned || (self.phase == Phase::Ended && self.conns.is_empty()) {
                if self.phase != Phase::Ended {
                    self.close_socket();
                }
                return Ok(());
            }
            for (event, flags) in self.wait_for_events()? {
                self.handle(event, flags);
            }
            self.settle();
        }
    }

    fn wait_for_events(&self) -> io::Result<Vec<(Event, PollFlags)>> {
        let mut events = Vec::with_capacity(8);
        let mut fds = Vec::with_capacity(8);
        let mut add = |event, fd, flags| {
            events.push(event);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        };
        if let Some(listener) = &self.listener {
            add(Event::Accept, listener.as_fd(), PollFlags::IN);
        }
        for (index, conn) in self.conns.iter().enumerate() {
            if let Some(flags) = self.conn_interest(conn) {
                add(Event::Conn(index), conn.outlet.as_fd(), flags);
            }
        }
        for (index, child) in self.children.iter().enumerate() {
            if child.exit.is_none() {
                add(Event::Exit(index), child.pidfd.as_fd(), PollFlags::IN);
            }
            if !self.is_held_up(child) {
                for (which, output) in child.outputs.iter().enumerate() {
                    if let Some(output) = output {
                        add(Event::Output(index, which), output.as_fd(), PollFlags::IN);
                    }
                }
            }
            if let (Some(stdin), false) = (&child.stdin, child.pending.is_empty()) {
                add(Event::Stdin(index), stdin.as_fd(), PollFlags::OUT);
            }
        }
        let timeout = self.next_deadline().map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            })
        });
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = events
            .into_iter()
            .zip(fds)
            .map(|(event, fd)| (event, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    /// What to poll a connection for; `None` if not at all.
    fn conn_interest(&self, conn: &Conn) -> Option<PollFlags> {
        let mut flags = PollFlags::empty();
        let mut sending = !conn.outlet.is_empty();
        match &conn.role {
            Role::Request(_) | Role::Wait(_) => flags |= PollFlags::IN,
            Role::Stream(stream) => {
                let child = self.child_of(stream);
                // Input is left in the socket until the process takes it.
                if stream.input && child.is_some_and(|child| child.pending.is_empty()) && !stream.hung_up {
                    flags |= PollFlags::IN;
                }
                sending |= stream.replay.is_some();
                if stream.hung_up && !sending {
                    return None;
                }
            }
            Role::Closing => {}
        }
        if sending {
            flags |= PollFlags::OUT;
        }
        Some(flags)
    }

    pub(super) fn child_of(&self, stream: &Stream) -> Option<&Child> {
        self.children.iter().find(|child| child.exec == stream.exec)
    }

    /// A slow client holds its process up (back-pressure) instead of filling our memory.
    fn is_held_up(&self, child: &Child) -> bool {
        self.conns.iter().any(|conn| match &conn.role {
            Role::Stream(stream)
                if stream.exec == child.exec && stream.replay.is_none() && !stream.hung_up =>
            {
                conn.outlet.is_full() && (child.exit.is_none() || conn.outlet.queued() >= AFTER_EXIT)
            }
            _ => false,
        })
    }

    fn next_deadline(&self) -> Option<Instant> {
        let drains = self
            .children
            .iter()
            .filter_map(|child| child.exit.map(|(_, at)| at + DRAIN));
        let probe = self.prober.as_ref().map(Prober::deadline);
        drains.chain(self.trim_at).chain(self.again.at).chain(probe).min()
    }

    fn handle(&mut self, event: Event, flags: PollFlags) {
        match event {
            Event::Accept => self.accept(),
            Event::Conn(index) => self.conn_event(index, flags),
            Event::Exit(index) => self.children[index].reap(),
            Event::Output(index, which) => self.read_output(index, which),
            Event::Stdin(index) => self.pump_input(index),
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let outlet = Outlet::new(stream);
            if outlet.peer_is_allowed().unwrap_or(false) {
                self.had_client = true;
                self.conns.push(Conn {
                    outlet,
                    role: Role::Request(Vec::new()),
                });
            }
        }
    }

    fn conn_event(&mut self, index: usize, flags: PollFlags) {
        let conn = &mut self.conns[index];
        if flags.contains(PollFlags::OUT) {
            conn.outlet.flush();
        }
        match &mut conn.role {
            Role::Request(_) => self.read_request(index),
            Role::Wait(_) | Role::Closing => {
                if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
                    conn.outlet.give_up();
                } else if flags.contains(PollFlags::IN) && conn.outlet.read(&mut [0; 64]).is_some() {
                    // A waiter has nothing to say; its half-close means that it is gone.
                    conn.outlet.give_up();
                }
            }
            Role::Stream(stream) => {
                if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
                    stream.hung_up = true;
                    stream.replay = None;
                }
                let exec = stream.exec.clone();
                let input = stream.input;
                if let (true, Some(child)) =
                    (input, self.children.iter().position(|child| child.exec == exec))
                {
                    self.pump_input(child);
                }
                self.feed_replay(index);
            }
        }
    }

    pub(super) fn feed_replay(&mut self, index: usize) {
        let conn = &mut self.conns[index];
        let Role::Stream(stream) = &mut conn.role else {
            return;
        };
        let (Some(replay), Some(log)) = (&mut stream.replay, &self.log) else {
            return;
        };
        if replay.feed(log, &mut conn.outlet, stream.options, self.facts.terminal) {
            stream.replay = None;
        }
    }

    /// Moves input from clients to a process as far as both sides allow.
    pub(super) fn pump_input(&mut self, index: usize) {
        let child = &mut self.children[index];
        while child.write_stdin() {
            let mut progress = false;
            for conn in &mut self.conns {
                let Role::Stream(stream) = &mut conn.role else {
                    continue;
                };
                if stream.exec != child.exec || !stream.input || !stream.options.stdin {
                    continue;
                }
                match conn.outlet.read(&mut self.buffer) {
                    None => {}
                    Some(0) => {
                        stream.input = false;
                        child.close_stdin |= child.stdin_once && !child.has_terminal();
                        progress = true;
                    }
                    Some(read) => {
                        child.pending.extend_from_slice(&self.buffer[..read]);
                        progress = true;
                        break;
                    }
                }
            }
            if !progress {
                break;
            }
        }
    }

    fn read_output(&mut self, index: usize, which: usize) {
        let child = &mut self.children[index];
        let Some(output) = &child.outputs[which] else {
            return;
        };
        let read = match rustix::io::read(output, &mut self.buffer[..]) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return,
            // EIO: the last process has closed the terminal.
            Err(_) => 0,
        };
        if read == 0 {
            child.outputs[which] = None;
            return;
        }
        let bytes = &self.buffer[..read];
        let stream_kind = if which == 1 { Frame::Stderr } else { Frame::Stdout };
        if child.exec.as_deref() == Some(PROBE) {
            if let Some(prober) = &mut self.prober {
                prober.write(bytes);
            }
            return;
        }
        let raw = child.has_terminal();
        if let (None, Some(log)) = (&child.exec, &mut self.log) {
            log.write(stream_kind, bytes);
        }
        for conn in &mut self.conns {
            if let Role::Stream(stream) = &conn.role
                && stream.exec == child.exec
                && stream.replay.is_none()
                && !stream.hung_up
            {
                replay::send(&mut conn.outlet, stream.options, raw, stream_kind, bytes);
            }
        }
    }

    /// After each round: finished processes, connections that are through, memory.
    fn settle(&mut self) {
        self.finish_execs();
        // Execs are killed and reaped before the first process of their PID namespace can end.
        let all_done = self.children.iter().all(Child::is_done);
        if self.phase == Phase::Running && all_done {
            self.finish();
        }
        self.restart_if_due();
        self.probe_if_due();
        let live: BTreeSet<Option<&str>> = self.children.iter().map(|child| child.exec.as_deref()).collect();
        let phase = self.phase;
        self.conns.retain(|conn| {
            if conn.outlet.is_broken() {
                return false;
            }
            match &conn.role {
                // A request that came too late gets no answer: its sender tries again with the next supervisor.
                Role::Request(_) | Role::Wait(_) => phase != Phase::Ended,
                Role::Closing => !conn.outlet.is_empty(),
                Role::Stream(stream) => {
                    let expected = live.contains(&stream.exec.as_deref())
                        || (phase == Phase::Waiting && stream.exec.is_none());
                    if stream.hung_up {
                        // What it sent before hanging up still goes to the process.
                        stream.input && stream.options.stdin && live.contains(&stream.exec.as_deref())
                    } else {
                        expected || stream.replay.is_some() || !conn.outlet.is_empty()
                    }
                }
            }
        });
        if self.trim_at.is_some_and(|at| at <= Instant::now()) {
            self.trim_at = None;
            self.conns.shrink_to_fit();
            sys::release_memory();
        }
    }

    /// Arms the one-shot release of memory.
    pub(super) fn trim_soon(&mut self) {
        self.trim_at = Some(Instant::now() + TRIM_AFTER);
    }
}
