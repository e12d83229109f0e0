//! Reading directories ahead of a walk that wants them one after the other.
//!
//! The walk decides which directories are read at all and in which order the files come; helpers only look at them before it
//! gets there. They are started when a tree proves large, and rest while the walk is behind.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use rustix::fs::{AtFlags, FileType, Stat, statat};
use rustix::io::Errno;

use super::entry::{RootHandle, list};

/// Files met before helpers are worth their start.
const LARGE: usize = 2000;
/// Files that helpers are ahead of the walk at most.
const MAX_AHEAD: usize = 20_000;
const MAX_HELPERS: usize = 7;

/// What is in a directory, names in order.
pub(super) type Listing = Vec<(OsString, Stat)>;

/// Directories that a walk will ask for, and those that have been read.
#[derive(Debug)]
pub(super) struct Ahead<'a> {
    root: &'a RootHandle,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The one that is needed next comes last.
    wanted: Vec<PathBuf>,
    reading: HashSet<PathBuf>,
    ready: HashMap<PathBuf, Result<Listing, Errno>>,
    /// Files in `ready`.
    ahead: usize,
    met: usize,
    helpers: usize,
    over: bool,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(root: &'a RootHandle) -> Self {
        Self {
            root,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// The listing of `real`, from a helper if one was faster.
    pub(super) fn read(&self, real: &Path) -> Result<Listing, Errno> {
        let mut state = self.lock();
        loop {
            if let Some(found) = state.ready.remove(real) {
                state.ahead -= found.as_ref().map_or(0, Vec::len);
                self.changed.notify_all();
                return found;
            }
            if !state.reading.contains(real) {
                break;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(at) = state.wanted.iter().rposition(|path| path == real) {
            state.wanted.truncate(at);
        }
        drop(state);
        read(self.root, real)
    }

    /// Says that the walk will ask for those directories of `listing`, which is that of `real`, that `wanted` takes.
    pub(super) fn announce<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        real: &Path,
        listing: &Listing,
        wanted: impl Fn(&OsString) -> bool,
    ) {
        let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let dirs = listing
            .iter()
            .rev()
            .filter(|(name, stat)| is_dir(stat) && wanted(name));
        let dirs: Vec<PathBuf> = dirs.map(|(name, _)| real.join(name)).collect();
        let mut state = self.lock();
        state.met += listing.len();
        state.wanted.extend(dirs);
        if state.met < LARGE || state.wanted.is_empty() {
            return;
        }
        if state.helpers == 0 {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            state.helpers = (cpus - 1).min(MAX_HELPERS);
            for _ in 0..state.helpers {
                scope.spawn(|| self.help());
            }
        }
        self.changed.notify_all();
    }

    /// Sends the helpers home when dropped: their scope waits for them.
    pub(super) fn end(&self) -> End<'_> {
        End(self)
    }

    fn help(&self) {
        let mut state = self.lock();
        loop {
            if state.over {
                return;
            }
            let next = if state.ahead < MAX_AHEAD {
                state.wanted.pop()
            } else {
                None
            };
            let Some(path) = next else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.reading.insert(path.clone());
            drop(state);
            let found = read(self.root, &path);
            state = self.lock();
            state.reading.remove(&path);
            state.ahead += found.as_ref().map_or(0, Vec::len);
            state.ready.insert(path, found);
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Ahead::end`].
#[derive(Debug)]
pub(super) struct End<'a>(&'a Ahead<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

fn read(root: &RootHandle, real: &Path) -> Result<Listing, Errno> {
    let dir = root.open_dir(real)?;
    let names = list(&dir)?;
    let mut listing = Vec::with_capacity(names.len());
    for name in names {
        match statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => listing.push((name, stat)),
            // Gone since the directory was listed.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::super::{Filter, select};
    use super::*;

    /// A tree large enough for helpers gives the same files in the same order as one that is read step by step.
    #[test]
    fn order_is_that_of_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = vec![String::new()];
        for a in 0..30 {
            let outer = format!("d{a:02}");
            std::fs::create_dir(dir.path().join(&outer)).unwrap();
            expected.push(outer.clone());
            for b in 0..10 {
                let inner = format!("{outer}/e{b}");
                std::fs::create_dir(dir.path().join(&inner)).unwrap();
                expected.push(inner.clone());
                for c in 0..10 {
                    let file = format!("{inner}/f{c}");
                    std::fs::write(dir.path().join(&file), "").unwrap();
                    expected.push(file);
                }
                let late = format!("{inner}/z");
                std::fs::create_dir(dir.path().join(&late)).unwrap();
                expected.push(late);
            }
        }
        let root = RootHandle::open_host(dir.path()).unwrap();
        for _ in 0..5 {
            let found = select(&root, "/", Filter::default()).unwrap();
            let names: Vec<&str> = found[0]
                .entries
                .iter()
                .map(|entry| entry.rel.to_str().unwrap())
                .collect();
            assert_eq!(names, expected);
        }
    }
}
