//! Reading and writing the kernel's small files.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::CgroupError;

/// Lists of pids get long; a million of them fit.
const MAX_FILE: u64 = 8 << 20;
/// How deep groups may be nested inside a container's group.
const MAX_DEPTH: usize = 64;
/// How long a directory may stay busy after its last process has died.
pub(super) const BUSY: Duration = Duration::from_secs(2);

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
        .map_err(|source| failed("reading", path, source))?;
    Ok(text)
}

/// One `write(2)`, as the kernel's parsers need it; never creates a file.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|source| failed(&format!("writing {value:?} to"), path, source))
}

pub(super) fn failed(action: &str, path: &Path, source: io::Error) -> CgroupError {
    CgroupError::Io {
        action: action.to_owned(),
        path: path.to_owned(),
        source,
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(failed("creating", path, source)),
        _ => Ok(()),
    }
}

/// The number after `key` in a file of `key number` lines; `None` if it is not there.
pub(super) fn keyed_number(path: &Path, key: &str) -> Option<u64> {
    let text = read(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `dir` and the groups below it, parents first. Groups that vanish meanwhile are left out.
pub(super) fn subtree(dir: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = vec![dir.to_owned()];
    let mut level = vec![dir.to_owned()];
    for _ in 0..MAX_DEPTH {
        let mut below = Vec::new();
        for parent in &level {
            let entries = match std::fs::read_dir(parent) {
                Ok(entries) => entries,
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(failed("listing", parent, source)),
            };
            below.extend(
                entries
                    .flatten()
                    .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                    .map(|e| e.path()),
            );
        }
        if below.is_empty() {
            break;
        }
        found.extend(below.iter().cloned());
        level = below;
    }
    Ok(found)
}

/// The processes of `dir` and the groups below it, without those outside our pid namespace.
pub(super) fn pids(dir: &Path) -> Result<Vec<i32>, CgroupError> {
    let mut pids = Vec::new();
    for group in subtree(dir)? {
        let text = match read(&group.join("cgroup.procs")) {
            Ok(text) => text,
            // Gone meanwhile, or a threaded v2 group, whose processes its parent lists.
            Err(CgroupError::Io { source, .. })
                if group != dir
                    && (source.kind() == io::ErrorKind::NotFound
                        || errno(&source) == Some(libc::EOPNOTSUPP)) =>
            {
                continue;
            }
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        pids.extend(
            text.lines()
                .filter_map(|line| line.trim().parse::<i32>().ok())
                .filter(|pid| *pid > 0),
        );
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// Whether a group vanished between listing and reading (`ENODEV` from an open file of a removed group).
fn is_gone(error: &CgroupError) -> bool {
    matches!(error, CgroupError::Io { source, .. } if errno(source) == Some(libc::ENODEV))
}

pub(super) fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error()
}

/// Removes `dir` and the groups below it, deepest first. Right after its processes died a group is
/// still busy for a moment, which is waited for until `deadline` ([`BUSY`] from now).
pub(super) fn remove(dir: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let mut pause = Duration::from_micros(200);
    loop {
        let mut busy = None;
        for group in subtree(dir)?.iter().rev() {
            match std::fs::remove_dir(group) {
                Ok(()) => {}
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                Err(source) if errno(&source) == Some(libc::EBUSY) => {
                    busy = Some(failed("removing", group, source));
                }
                Err(source) => return Err(failed("removing", group, source)),
            }
        }
        let Some(error) = busy else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Polls `done` with growing pauses until it is true; false when `limit` has passed first.
pub(super) fn wait_until(
    limit: Duration,
    mut done: impl FnMut() -> Result<bool, CgroupError>,
) -> Result<bool, CgroupError> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(100);
    loop {
        if done()? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// SIGKILL; a process that is already gone is fine.
pub(super) fn kill(pids: &[i32]) {
    for pid in pids {
        if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
            // Gone (ESRCH) is the aim, and nothing else can fail for a process that we were able to put into a group.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
