//! Writing the log, and reading what is in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::event::Event;
use super::follow::Follower;

/// `current` is rotated when it is longer than this.
const MAX_SIZE: u64 = 2 << 20;
/// Longer events lose their attributes.
const MAX_LINE: usize = 64 << 10;
/// The last line, for its time.
const TAIL: u64 = 1 << 10;

pub(super) const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";

/// The log of one data root. Cheap to make and to clone; opens its files when they are needed.
#[derive(Debug, Clone)]
pub struct EventLog {
    dir: PathBuf,
}

impl EventLog {
    /// The log of the containers directory `data`. Does no IO.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            dir: data.join(".events/v1"),
        }
    }

    /// Adds an event with the present time.
    ///
    /// # Errors
    /// The log cannot be written. The event is lost then, and nothing else is.
    pub fn append(&self, event: Event) -> io::Result<()> {
        let _lock = self.lock()?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(CURRENT))?;
        let size = file.metadata()?.len();
        if size > MAX_SIZE {
            fs::rename(self.dir.join(CURRENT), self.dir.join(PREVIOUS))?;
            let last = tail(&file, size)?;
            return self.write_first(event, last.time);
        }
        let last = tail(&file, size)?;
        let mut line = encode(event, last.time);
        if last.torn {
            line.insert(0, b'\n');
        }
        file.write_all(&line)
    }

    fn write_first(&self, event: Event, after: i64) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.dir.join(CURRENT))?;
        file.write_all(&encode(event, after))
    }

    /// Everything that is in the log, oldest first.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn read(&self) -> io::Result<Vec<Event>> {
        Ok(self.open()?.0)
    }

    /// Everything that is in the log, and what gets the events after that.
    ///
    /// # Errors
    /// The log cannot be read or watched.
    pub fn follow(&self) -> io::Result<(Vec<Event>, Follower)> {
        // The watch is set before anything is read, so that nothing falls in between.
        self.make_dir()?;
        let watch = Follower::watch(&self.dir)?;
        let (events, file) = self.open()?;
        Ok((events, Follower::new(self.dir.clone(), watch, file)))
    }

    /// Both files at one moment, and the current one with its position at the end of what was read.
    fn open(&self) -> io::Result<(Vec<Event>, Option<File>)> {
        let lock = self.lock()?;
        let open = |name: &str| match File::open(self.dir.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let (previous, mut current) = (open(PREVIOUS)?, open(CURRENT)?);
        let mut bytes = Vec::new();
        if let Some(mut file) = previous {
            file.read_to_end(&mut bytes)?;
            bytes.push(b'\n');
        }
        if let Some(file) = &mut current {
            file.read_to_end(&mut bytes)?;
        }
        drop(lock);
        Ok((decode(&bytes), current))
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn lock(&self) -> io::Result<File> {
        let open = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.dir.join("lock"))
        };
        let lock = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dir()?;
                open()?
            }
            other => other?,
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
        Ok(lock)
    }
}

/// What the end of the file says.
struct Tail {
    time: i64,
    /// The last line has no end.
    torn: bool,
}

fn tail(file: &File, size: u64) -> io::Result<Tail> {
    let from = size.saturating_sub(TAIL);
    let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    let torn = bytes.last().is_some_and(|&byte| byte != b'\n');
    let line = bytes
        .split(|&byte| byte == b'\n')
        .rev()
        .find(|line| !line.is_empty());
    // The time comes first in a line, so it is found even where the line is longer than what was read.
    let time = line.and_then(|line| {
        let digits = line.strip_prefix(b"{\"time\":")?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    });
    Ok(Tail {
        time: time.unwrap_or(0),
        torn,
    })
}

/// The line of an event, with a time that is not before `after`.
fn encode(mut event: Event, after: i64) -> Vec<u8> {
    let now = jiff::Timestamp::now().as_nanosecond();
    event.time = i64::try_from(now).unwrap_or(i64::MAX).max(after);
    let mut line = serde_json::to_vec(&event).unwrap_or_default();
    if line.len() > MAX_LINE {
        event.attributes.clear();
        line = serde_json::to_vec(&event).unwrap_or_default();
    }
    line.push(b'\n');
    line
}

pub(super) fn decode(bytes: &[u8]) -> Vec<Event> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect()
}

/// Reads on from where `file` stands, and gives back the bytes after the last whole line.
pub(super) fn read_lines(file: &mut File, events: &mut Vec<Event>) -> io::Result<()> {
    let start = file.stream_position()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    events.extend(decode(&bytes[..whole]));
    file.seek(SeekFrom::Start(start + whole as u64))?;
    Ok(())
}
