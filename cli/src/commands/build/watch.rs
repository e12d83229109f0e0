//! Files that a build depends on, watched by inotify.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cooper_daemon::build::Patterns;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::{Failure, Result};

/// A change is told when nothing else has changed for this long: editors and compilers write several files.
const QUIET: Duration = Duration::from_millis(100);
/// A change is told after this long, even when there are always more.
const PATIENCE: Duration = Duration::from_secs(2);
/// Ignore files may be this long.
const MAX_IGNORE: u64 = 16 << 20;

/// A directory whose files matter, but for ignored ones.
#[derive(Debug)]
pub(in crate::commands) struct Tree {
    pub(super) root: PathBuf,
    /// The Dockerfile in it; it and the ignore file that goes with it always matter.
    pub(super) dockerfile: Option<PathBuf>,
    /// Takes the place of the ignore file in it.
    pub(super) ignore: Option<Vec<u8>>,
}

/// What to watch.
#[derive(Debug)]
pub(in crate::commands) struct Watched {
    pub(super) trees: Vec<Tree>,
    /// A Dockerfile outside of them.
    pub(super) dockerfile: Option<PathBuf>,
}

/// Watches from the moment it exists.
#[derive(Debug)]
pub(in crate::commands) struct Watcher {
    fd: AsyncFd<OwnedFd>,
    places: HashMap<i32, Vec<Place>>,
    scopes: Vec<Scope>,
    /// A change that was seen and not told yet.
    seen: Option<PathBuf>,
}

/// A watched directory.
#[derive(Debug, Clone)]
struct Place {
    scope: usize,
    /// From the scope's root.
    relative: PathBuf,
}

/// Which files below a root matter.
#[derive(Debug)]
struct Scope {
    root: PathBuf,
    /// None: only those of `always`.
    everything: bool,
    ignore: Option<Patterns>,
    always: Vec<PathBuf>,
}

impl Watcher {
    /// Begins to watch. Must be called within a runtime.
    pub(in crate::commands) fn start(watched: Watched) -> Result<Self> {
        let fail = |error: &dyn std::fmt::Display| Failure::new(format!("cannot watch for changes: {error}"));
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|errno| fail(&errno))?;
        #[expect(
            deprecated,
            reason = "an owned descriptor stays what it is; the newer call needs unsafe code"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).map_err(|error| fail(&error))?;
        let mut watcher = Self {
            fd,
            places: HashMap::new(),
            scopes: Vec::new(),
            seen: None,
        };
        for tree in watched.trees {
            let scope = tree.scope()?;
            watcher.scopes.push(scope);
            watcher.add(watcher.scopes.len() - 1, PathBuf::new())?;
        }
        if let Some(dockerfile) = watched.dockerfile {
            let dockerfile = std::path::absolute(dockerfile).map_err(|error| fail(&error))?;
            let name = PathBuf::from(dockerfile.file_name().unwrap_or_default());
            watcher.scopes.push(Scope {
                root: dockerfile.parent().unwrap_or(Path::new("/")).to_owned(),
                everything: false,
                ignore: None,
                always: vec![with_suffix(&name), name],
            });
            watcher.watch(watcher.scopes.len() - 1, PathBuf::new())?;
        }
        Ok(watcher)
    }

    /// Waits until files have changed and are left alone again; gives one of them, from its context.
    /// Cancel-safe: a change that was seen is told by the next call.
    pub(in crate::commands) async fn changed(&mut self) -> Result<PathBuf> {
        if self.seen.is_none() {
            self.seen = Some(self.next().await?);
        }
        let more = async {
            // Each further change starts the wait anew.
            while let Ok(change) = tokio::time::timeout(QUIET, self.next()).await {
                change?;
            }
            Ok(())
        };
        match tokio::time::timeout(PATIENCE, more).await {
            Ok(Err(failure)) => Err(failure),
            Ok(Ok(())) | Err(_) => Ok(self.seen.take().unwrap_or_default()),
        }
    }

    /// The next change that matters.
    async fn next(&mut self) -> Result<PathBuf> {
        loop {
            let mut guard = self.fd.readable().await?;
            let mut found = None;
            let mut new = Vec::new();
            let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
            let mut reader = inotify::Reader::new(self.fd.get_ref(), &mut buffer);
            loop {
                let event = match reader.next() {
                    Ok(event) => event,
                    Err(Errno::AGAIN) => {
                        guard.clear_ready();
                        break;
                    }
                    Err(Errno::INTR) => continue,
                    Err(errno) => return Err(Failure::new(format!("cannot watch for changes: {errno}"))),
                };
                if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                    found.get_or_insert_with(|| PathBuf::from("."));
                    continue;
                }
                let Some(name) = event.file_name() else { continue };
                let name = OsStr::from_bytes(name.to_bytes());
                for place in self.places.get(&event.wd()).into_iter().flatten() {
                    let path = place.relative.join(name);
                    let scope = &self.scopes[place.scope];
                    let is_directory = event.events().contains(ReadFlags::ISDIR);
                    if is_directory && scope.descends(&path) {
                        new.push((place.scope, path.clone()));
                    }
                    // What the mode or the times of a directory are does not matter, what is in it does.
                    let touched = is_directory && event.events().contains(ReadFlags::ATTRIB);
                    if scope.matters(&path) && !touched {
                        found.get_or_insert(path);
                    }
                }
            }
            drop(guard);
            for (scope, path) in new {
                self.add(scope, path)?;
            }
            if let Some(path) = found {
                return Ok(path);
            }
        }
    }

    /// Watches a directory and those below it.
    fn add(&mut self, scope: usize, relative: PathBuf) -> Result {
        let mut open = vec![relative];
        while let Some(relative) = open.pop() {
            // Before it is read: what appears meanwhile is then either read or told.
            self.watch(scope, relative.clone())?;
            let path = self.scopes[scope].root.join(&relative);
            // One that vanished was told as a change of its parent.
            let Ok(entries) = std::fs::read_dir(path) else {
                continue;
            };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let below = relative.join(entry.file_name());
                    if self.scopes[scope].descends(&below) {
                        open.push(below);
                    }
                }
            }
        }
        Ok(())
    }

    fn watch(&mut self, scope: usize, relative: PathBuf) -> Result {
        let path = self.scopes[scope].root.join(&relative);
        let flags = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        match inotify::add_watch(self.fd.get_ref(), &path, flags) {
            Ok(number) => {
                let places = self.places.entry(number).or_default();
                if !places.iter().any(|place| place.scope == scope && place.relative == relative) {
                    places.push(Place { scope, relative });
                }
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(Errno::NOSPC) => Err(Failure::new("cannot watch for changes: too many directories")
                .hint("name what the build does not need in .dockerignore, or raise fs.inotify.max_user_watches")),
            Err(errno) => Err(Failure::new(format!("cannot watch {}: {errno}", path.display()))),
        }
    }
}

impl Tree {
    fn scope(self) -> Result<Scope> {
        let mut always = vec![PathBuf::from(".dockerignore")];
        let mut text = self.ignore;
        if let Some(dockerfile) = self.dockerfile {
            always.push(with_suffix(&dockerfile));
            always.push(dockerfile);
        }
        if text.is_none() {
            let candidates = [always.get(1), always.first()];
            text = candidates
                .into_iter()
                .flatten()
                .find_map(|name| read(&self.root.join(name)));
        }
        // A malformed one is an error of the build, which says where; until it is repaired everything matters.
        let ignore = text.and_then(|text| Patterns::parse(&text).ok());
        Ok(Scope {
            root: self.root,
            everything: true,
            ignore,
            always,
        })
    }
}

fn with_suffix(dockerfile: &Path) -> PathBuf {
    let mut name = dockerfile.as_os_str().to_owned();
    name.push(".dockerignore");
    name.into()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MAX_IGNORE).read_to_end(&mut text).ok()?;
    Some(text)
}

impl Scope {
    /// Whether a change of this file matters.
    fn matters(&self, path: &Path) -> bool {
        if self.always.iter().any(|known| known == path) {
            return true;
        }
        let ignored = |ignore: &Patterns| ignore.is_ignored(path.as_os_str().as_bytes());
        self.everything && !self.ignore.as_ref().is_some_and(ignored)
    }

    /// Whether something below this directory may matter.
    fn descends(&self, path: &Path) -> bool {
        self.everything
            && (self.matters(path)
                || self.always.iter().any(|known| known.starts_with(path))
                || self
                    .ignore
                    .as_ref()
                    .is_some_and(|ignore| ignore.may_have_exceptions_below(path.as_os_str().as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of two changes is told: the second one always matters.
    async fn told(directory: &Path, change: impl FnOnce(), marker: &str) -> PathBuf {
        let mut watcher = Watcher::start(Watched {
            trees: vec![Tree {
                root: directory.join("context"),
                dockerfile: Some("Dockerfile".into()),
                ignore: None,
            }],
            dockerfile: Some(directory.join("other/Outside")),
        })
        .unwrap();
        change();
        std::fs::write(directory.join("context/marker"), marker).unwrap();
        watcher.changed().await.unwrap()
    }

    #[tokio::test]
    async fn changes_that_matter() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["context/src/deep", "context/out/kept", "other"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("context/.dockerignore"), "out\n!out/kept\n*.log\nDockerfile\n").unwrap();
        for (index, (name, expected)) in [
            ("context/src/deep/file", "src/deep/file"),
            ("context/Dockerfile", "Dockerfile"),
            ("context/out/file", "marker"),
            ("context/out/kept/file", "out/kept/file"),
            ("context/a.log", "marker"),
            ("other/Outside", "Outside"),
            ("other/Outside.dockerignore", "Outside.dockerignore"),
            ("other/unrelated", "marker"),
            ("context/.dockerignore", ".dockerignore"),
        ]
        .into_iter()
        .enumerate()
        {
            let write = || std::fs::write(at(name), b"out\n!out/kept\n*.log\n").unwrap();
            let got = told(directory.path(), write, &index.to_string()).await;
            assert_eq!(got, Path::new(expected), "{name}");
        }
        let rename = || std::fs::rename(at("context/src/deep"), at("context/src/new")).unwrap();
        assert_eq!(told(directory.path(), rename, "r").await, Path::new("src/deep"));
        let remove = || std::fs::remove_file(at("context/src/new/file")).unwrap();
        assert_eq!(
            told(directory.path(), remove, "d").await,
            Path::new("src/new/file")
        );
    }

    #[tokio::test]
    async fn a_change_survives_a_call_that_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::start(Watched {
            trees: vec![Tree {
                root: directory.path().to_owned(),
                dockerfile: None,
                ignore: None,
            }],
            dockerfile: None,
        })
        .unwrap();
        std::fs::write(directory.path().join("file"), "x").unwrap();
        // Long enough to see it, too short to tell.
        assert!(tokio::time::timeout(QUIET / 2, watcher.changed()).await.is_err());
        assert_eq!(watcher.changed().await.unwrap(), Path::new("file"));
    }

    #[tokio::test]
    async fn new_directories_are_watched() {
        let directory = tempfile::tempdir().unwrap();
        let mut watcher = Watcher::start(Watched {
            trees: vec![Tree {
                root: directory.path().to_owned(),
                dockerfile: None,
                ignore: None,
            }],
            dockerfile: None,
        })
        .unwrap();
        std::fs::create_dir_all(directory.path().join("a/b")).unwrap();
        assert_eq!(watcher.changed().await.unwrap(), Path::new("a"));
        std::fs::write(directory.path().join("a/b/c"), "x").unwrap();
        assert_eq!(watcher.changed().await.unwrap(), Path::new("a/b/c"));
    }
}
