//! Waiting for events.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use super::event::Event;
use super::log::{CURRENT, read_lines};

/// Gets the events that are appended after it was made.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    watch: OwnedFd,
    file: Option<File>,
}

impl Follower {
    pub(super) fn watch(dir: &Path) -> io::Result<OwnedFd> {
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(
            &watch,
            dir,
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_FROM,
        )?;
        Ok(watch)
    }

    pub(super) fn new(dir: PathBuf, watch: OwnedFd, file: Option<File>) -> Self {
        Self { dir, watch, file }
    }

    /// The events since the last call, none if there are none; does not wait.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read_new(&mut self) -> io::Result<Vec<Event>> {
        self.clear_watch()?;
        let mut events = Vec::new();
        loop {
            if let Some(file) = &mut self.file {
                read_lines(file, &mut events)?;
            }
            let Some(next) = self.newer()? else {
                return Ok(events);
            };
            // Whoever rotated did so under the lock, so the old file got its last line before the new one appeared.
            if let Some(file) = &mut self.file {
                read_lines(file, &mut events)?;
            }
            self.file = Some(next);
        }
    }

    /// Waits until there may be events; false when `stop` became readable or its other end was closed.
    ///
    /// # Errors
    /// poll(2) fails.
    pub fn wait(&self, stop: impl AsFd) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.watch, PollFlags::IN),
            PollFd::new(&stop, PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        Ok(fds[1].revents().is_empty())
    }

    /// The current file, if it is another one than ours.
    fn newer(&self) -> io::Result<Option<File>> {
        let current = match File::open(self.dir.join(CURRENT)) {
            Ok(current) => current,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
        let ours = self.file.as_ref().map(identity).transpose()?;
        let theirs = identity(&current)?;
        Ok((ours != Some(theirs)).then_some(current))
    }

    fn clear_watch(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        loop {
            match rustix::io::read(&self.watch, &mut buffer[..]) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write as _;

    use super::super::{EventKind, EventLog};
    use super::*;

    fn event(number: usize) -> Event {
        Event::new(EventKind::Container, "start", number.to_string())
    }

    fn wait(follower: &Follower) {
        let (stop, _open) = io::pipe().unwrap();
        assert!(follower.wait(&stop).unwrap());
    }

    /// Several writers, one follower, several rotations: every event once, times in order.
    #[test]
    fn nothing_is_lost_or_repeated() {
        const WRITERS: usize = 4;
        const EVENTS: usize = 300;
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        let (before, mut follower) = log.follow().unwrap();
        assert!(before.is_empty());
        let seen = std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let log = log.clone();
                scope.spawn(move || {
                    for number in 0..EVENTS {
                        // Long enough to rotate about four times.
                        log.append(event(writer * EVENTS + number).with("x", "y".repeat(8 << 10)))
                            .unwrap();
                    }
                });
            }
            let mut seen = Vec::new();
            while seen.len() < WRITERS * EVENTS {
                wait(&follower);
                seen.extend(follower.read_new().unwrap());
            }
            seen
        });
        let ids: BTreeSet<&str> = seen.iter().map(|event| event.id.as_str()).collect();
        assert_eq!((ids.len(), seen.len()), (WRITERS * EVENTS, WRITERS * EVENTS));
        assert!(seen.is_sorted_by_key(|event| event.time));
        assert!(follower.read_new().unwrap().is_empty());
        let kept = log.read().unwrap();
        assert!(kept.len() < seen.len() && seen.ends_with(&kept));
    }

    /// What a killed writer left is ended by the next one and read by nobody.
    #[test]
    fn torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        log.append(event(1)).unwrap();
        let path = dir.path().join(".events/v1/current");
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b"{\"time\":1,\"kind\":\"contai").unwrap();
        let (before, mut follower) = log.follow().unwrap();
        assert_eq!(before.len(), 1);
        log.append(event(2)).unwrap();
        wait(&follower);
        let ids = |events: Vec<Event>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
        assert_eq!(ids(follower.read_new().unwrap()), ["2"]);
        assert_eq!(ids(log.read().unwrap()), ["1", "2"]);
    }

    #[test]
    fn huge_events_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::new(dir.path());
        log.append(event(1).with("x", "y".repeat(1 << 20))).unwrap();
        assert!(log.read().unwrap()[0].attributes.is_empty());
    }
}
