//! Which files a source of COPY means.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::thread::Scope;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::ahead::Ahead;
use super::entry::{Entry, RootHandle};
use super::resolve::resolve;
use crate::build::{Error, IoContext as _};
use crate::ignore::{MatchState, Patterns, glob_match, has_meta};

/// More files in one COPY than this are refused rather than kept in memory.
const MAX_ENTRIES: usize = 4_000_000;
const MAX_DEPTH: usize = 1024;

/// What of a tree can be seen at all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    /// `.dockerignore`.
    pub(crate) ignore: Option<&'a Patterns>,
}

impl Filter<'_> {
    fn hides(&self, real: &Path) -> bool {
        self.ignore
            .is_some_and(|patterns| patterns.is_ignored(real.as_os_str().as_bytes()))
    }

    /// Whether an ignored directory may have something visible in it.
    fn opens(&self, real: &Path) -> bool {
        self.ignore
            .is_some_and(|patterns| patterns.may_have_exceptions_below(real.as_os_str().as_bytes()))
    }
}

/// One source, found.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Last component of the source as written, the file's name where the destination is a directory.
    pub(crate) name: PathBuf,
    /// The file, or the directory and all below it; parents come before their children, names in order.
    pub(crate) entries: Vec<Entry>,
}

/// Finds `source`, a path or pattern from the root, as BuildKit does: links among its components are followed inside the
/// root, a pattern that matches nothing selects nothing, a plain path must exist.
pub(crate) fn select(root: &RootHandle, source: &str, filter: Filter<'_>) -> Result<Vec<Selection>, Error> {
    let clean = clean(source);
    if !has_meta(clean.as_os_str().as_bytes()) {
        let selection = select_path(root, &clean, filter)?;
        return selection
            .map(|selection| vec![selection])
            .ok_or_else(|| Error::SourceNotFound(format!("/{}", clean.display())));
    }
    let mut matches = Vec::new();
    let components: Vec<&Path> = clean.iter().map(Path::new).collect();
    let fixed = components
        .iter()
        .take_while(|part| !has_meta(part.as_os_str().as_bytes()))
        .count();
    let base: PathBuf = components[..fixed].iter().collect();
    let base = match resolve(root, &base) {
        Ok(found) if found.stat.is_some() => found.real,
        Ok(_) | Err(Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(errno).at(&base),
    };
    expand(root, &base, &components[fixed..], &mut matches)?;
    let mut selections = Vec::new();
    for path in matches {
        selections.extend(select_path(root, &path, filter)?);
    }
    Ok(selections)
}

/// Relative form of a source, with `..` stopped at the root.
fn clean(source: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(source).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

fn expand(root: &RootHandle, dir: &Path, patterns: &[&Path], out: &mut Vec<PathBuf>) -> Result<(), Error> {
    let Some((pattern, rest)) = patterns.split_first() else {
        out.push(dir.to_owned());
        return Ok(());
    };
    let names = match root.list(dir) {
        Ok(names) => names,
        // A pattern goes through directories only, not through links.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno).at(dir),
    };
    for name in names {
        let matched = glob_match(pattern.as_os_str().as_bytes(), name.as_bytes())
            .map_err(|_| Error::Source(format!("syntax error in pattern {}", pattern.display())))?;
        if matched {
            expand(root, &dir.join(name), rest, out)?;
        }
    }
    Ok(())
}

/// None if there is no such file that can be seen.
fn select_path(root: &RootHandle, path: &Path, filter: Filter<'_>) -> Result<Option<Selection>, Error> {
    let real = match resolve(root, path) {
        Ok(found) if found.stat.is_some() => found.real,
        Ok(_) | Err(Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(errno).at(path),
    };
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let top = Entry::read(root, real.clone(), PathBuf::new())?;
    let mut entries = Vec::new();
    if top.is_dir() {
        let hidden = !real.as_os_str().is_empty() && filter.hides(&real);
        let ahead = Ahead::new(root);
        std::thread::scope(|scope| {
            let mut walk = Walk {
                root,
                filter,
                entries: &mut entries,
                ahead: &ahead,
                scope,
            };
            let _end = ahead.end();
            walk.entry(top, parent_states(filter, &real).as_ref(), hidden, 0)
        })?;
        if entries.is_empty() {
            return Ok(None);
        }
    } else {
        if filter.hides(&real) {
            return Ok(None);
        }
        entries.push(top);
    }
    Ok(Some(Selection { name, entries }))
}

fn parent_states(filter: Filter<'_>, real: &Path) -> Option<MatchState> {
    let patterns = filter.ignore?;
    let mut state = None;
    let mut path = PathBuf::new();
    for part in real {
        path.push(part);
        state = Some(patterns.enter(state.as_ref(), path.as_os_str().as_bytes()));
    }
    state
}

struct Walk<'scope, 'env> {
    root: &'env RootHandle,
    filter: Filter<'env>,
    entries: &'scope mut Vec<Entry>,
    ahead: &'env Ahead<'env>,
    scope: &'scope Scope<'scope, 'env>,
}

impl Walk<'_, '_> {
    /// Adds `entry`, a directory, and what is below it. A hidden directory is added only if something below it is seen.
    fn entry(
        &mut self,
        entry: Entry,
        state: Option<&MatchState>,
        hidden: bool,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG).at(&entry.real);
        }
        let (real, rel) = (entry.real.clone(), entry.rel.clone());
        let place = self.entries.len();
        self.push(entry)?;
        if !hidden || self.filter.opens(&real) {
            let listing = self.ahead.read(&real).at(&real)?;
            let hides = |child: &Path| {
                let state = self
                    .filter
                    .ignore
                    .map(|p| p.enter(state, child.as_os_str().as_bytes()));
                state.is_some_and(|state| state.is_ignored())
            };
            self.ahead.announce(self.scope, &real, &listing, |name| {
                let child = real.join(name);
                !hides(&child) || self.filter.opens(&child)
            });
            for (name, stat) in listing {
                let child = real.join(&name);
                let child_state = self
                    .filter
                    .ignore
                    .map(|p| p.enter(state, child.as_os_str().as_bytes()));
                let child_hidden = child_state.as_ref().is_some_and(MatchState::is_ignored);
                let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if child_hidden && !is_dir {
                    continue;
                }
                let entry = Entry::from_stat(self.root, child, rel.join(&name), stat)?;
                if is_dir {
                    self.entry(entry, child_state.as_ref(), child_hidden, depth + 1)?;
                } else {
                    self.push(entry)?;
                }
            }
        }
        if hidden && self.entries.len() == place + 1 {
            self.entries.pop();
        }
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<(), Error> {
        if self.entries.len() >= MAX_ENTRIES {
            return Err(Error::Source(format!(
                "more than {MAX_ENTRIES} files in one copy"
            )));
        }
        self.entries.push(entry);
        Ok(())
    }
}
