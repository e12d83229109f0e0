//! Waiting for a container's end.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use rustix::io::Errno;

use super::connect::expect_ok;
use super::containers::Containers;
use super::error::{Context, Error};
use super::types::{ExitStatus, State, WaitCondition};
use crate::supervisor::{Reply, Request, read_message};

/// How often the state is looked at while a killed supervisor is not quite gone, and the pause between.
const DYING: u32 = 100;
const DYING_PAUSE: Duration = Duration::from_millis(10);

/// A registered wait: the exit that it is about cannot be missed any more.
#[derive(Debug)]
pub struct Wait {
    containers: Containers,
    id: String,
    condition: WaitCondition,
    pending: Pending,
}

#[derive(Debug)]
enum Pending {
    /// Holds already.
    Done(ExitStatus),
    /// The supervisor will tell.
    Supervisor(UnixStream),
    /// Not running; the removal, which this inotify descriptor tells of, is awaited.
    Removal(ExitStatus, OwnedFd),
}

/// What became of a wait that was advanced.
#[derive(Debug)]
pub enum Advance {
    /// The condition holds.
    Done(ExitStatus),
    /// It does not hold yet; there is something else to wait for.
    Pending(Wait),
}

impl Containers {
    /// Blocks until the condition holds. A wait on a container that does not run for NextExit spawns or uses a waiting
    /// supervisor.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the supervisor cannot be started.
    pub fn wait(&self, id: &str, condition: WaitCondition) -> Result<ExitStatus, Error> {
        self.wait_begin(id, condition)?.finish()
    }

    /// Registers a wait and returns at once, so that a server can send its headers before it blocks in
    /// [`Wait::finish`].
    ///
    /// # Errors
    /// As [`Containers::wait`].
    pub fn wait_begin(&self, id: &str, condition: WaitCondition) -> Result<Wait, Error> {
        let state = self.state(id)?;
        let needs_supervisor = match condition {
            WaitCondition::NotRunning => state.is_running(),
            WaitCondition::NextExit => true,
            // `run --rm` waits before it starts: then the supervisor of the coming run has to know.
            WaitCondition::Removed => state.is_running() || self.spec(id)?.auto_remove,
        };
        let pending = if needs_supervisor {
            let (reply, stream) = self.request(id, &Request::Wait { condition })?;
            expect_ok(id, reply)?;
            Pending::Supervisor(stream)
        } else if condition == WaitCondition::Removed {
            pending_removal(&self.dir(id), status_of(&state))?
        } else {
            Pending::Done(status_of(&state))
        };
        Ok(Wait {
            containers: self.clone(),
            id: id.to_owned(),
            condition,
            pending,
        })
    }
}

impl Wait {
    /// Blocks until the condition holds.
    ///
    /// # Errors
    /// The container's state cannot be read.
    pub fn finish(self) -> Result<ExitStatus, Error> {
        self.finish_within(None).map(|status| {
            status.unwrap_or(ExitStatus {
                code: 255,
                error: "the wait ended early".into(),
                oom_killed: false,
            })
        })
    }

    /// As [`Wait::finish`], for at most `timeout`; `None` when that has passed. Dropping a wait ends it.
    pub(super) fn finish_within(mut self, timeout: Option<Duration>) -> Result<Option<ExitStatus>, Error> {
        loop {
            if let Pending::Supervisor(stream) = &self.pending {
                stream
                    .set_read_timeout(timeout)
                    .context("wait for", self.containers.dir(&self.id))?;
            }
            match self.step()? {
                Some(Advance::Done(status)) => return Ok(Some(status)),
                Some(Advance::Pending(next)) => self = next,
                None => return Ok(None),
            }
        }
    }

    /// What becomes readable when [`Wait::advance`] would not block; `None` when it would not block now.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.pending {
            Pending::Done(_) => None,
            Pending::Supervisor(stream) => Some(stream.as_fd()),
            Pending::Removal(_, watch) => Some(watch.as_fd()),
        }
    }

    /// Goes on with a wait whose [descriptor](Wait::descriptor) is readable; blocks if it is not. This is how a server
    /// waits without a thread for each client.
    ///
    /// # Errors
    /// As [`Wait::finish`].
    pub fn advance(self) -> Result<Advance, Error> {
        let id = self.id.clone();
        self.step()?
            .ok_or_else(|| Error::Supervisor(format!("wait for {id}: timed out")))
    }

    /// `None` when the stream's timeout has passed.
    fn step(self) -> Result<Option<Advance>, Error> {
        let dir = self.containers.dir(&self.id);
        let status = match self.pending {
            Pending::Done(status) => return Ok(Some(Advance::Done(status))),
            Pending::Removal(status, watch) => {
                read_events(&watch).context("watch", &dir)?;
                if !dir.is_dir() {
                    return Ok(Some(Advance::Done(status)));
                }
                let pending = Pending::Removal(status, watch);
                return Ok(Some(Advance::Pending(Self { pending, ..self })));
            }
            Pending::Supervisor(ref stream) => match read_message::<Reply>(stream) {
                Ok(Some(Reply::Exited { status, removed })) => {
                    if removed || self.condition != WaitCondition::Removed {
                        return Ok(Some(Advance::Done(status)));
                    }
                    status
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                _ => match self.after_death()? {
                    Some(state) if state.is_running() => {
                        let next = self.containers.wait_begin(&self.id, self.condition)?;
                        return Ok(Some(Advance::Pending(next)));
                    }
                    Some(state) => status_of(&state),
                    None => {
                        return Ok(Some(Advance::Done(ExitStatus {
                            code: 137,
                            error: String::new(),
                            oom_killed: false,
                        })));
                    }
                },
            },
        };
        if self.condition != WaitCondition::Removed {
            return Ok(Some(Advance::Done(status)));
        }
        let pending = pending_removal(&dir, status)?;
        Ok(Some(Advance::Pending(Self { pending, ..self })))
    }

    /// The state after the supervisor hung up without an answer, because it was killed: looking at it writes the end
    /// down. `None` when the container is gone.
    ///
    /// The kernel closes a dying process's sockets and gives up its locks one by one, and the container counts as running
    /// until the lock is free.
    fn after_death(&self) -> Result<Option<State>, Error> {
        for last in (0..DYING).rev() {
            match self.containers.state(&self.id) {
                Ok(state) if state.is_running() && last > 0 => std::thread::sleep(DYING_PAUSE),
                Ok(state) => return Ok(Some(state)),
                Err(Error::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Watches for the container's directory being moved away.
fn pending_removal(dir: &Path, status: ExitStatus) -> Result<Pending, Error> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC).context("watch", dir)?;
    let flags =
        inotify::WatchFlags::MOVE_SELF | inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::ONLYDIR;
    match inotify::add_watch(&watch, dir, flags) {
        Err(Errno::NOENT) => return Ok(Pending::Done(status)),
        result => result.context("watch", dir)?,
    };
    // It may have gone to the graveyard between the look at its state and the watch.
    Ok(if dir.is_dir() {
        Pending::Removal(status, watch)
    } else {
        Pending::Done(status)
    })
}

/// Blocks until there are events; which they are does not matter.
fn read_events(watch: &OwnedFd) -> rustix::io::Result<()> {
    let mut buffer = [0; 512];
    loop {
        match rustix::io::read(watch, &mut buffer) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

fn status_of(state: &State) -> ExitStatus {
    ExitStatus {
        code: state.exit_code,
        error: state.error.clone(),
        oom_killed: state.oom_killed,
    }
}
