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

/// What of a tree can be seen at all, and what of it is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Filter<'a> {
    /// `.dockerignore`, by the path from the root.
    pub(crate) ignore: Option<&'a Patterns>,
    /// `--exclude`, by the path from the directory that is copied; a file that is copied by itself has none.
    pub(crate) exclude: Option<&'a Patterns>,
    /// Only what one of these matches, and directories on the way to it; by the path from the directory that is copied.
    pub(crate) include: Option<&'a Patterns>,
}

impl<'a> Filter<'a> {
    fn hides(&self, real: &Path) -> bool {
        self.ignore
            .is_some_and(|patterns| patterns.is_ignored(bytes(real)))
    }

    /// The state of an entry from that of its directory.
    fn enter(&self, parent: &State, real: &Path, rel: &Path) -> State {
        let enter = |patterns: Option<&'a Patterns>, state: &Option<MatchState>, path: &Path| {
            patterns.map(|patterns| patterns.enter(state.as_ref(), bytes(path)))
        };
        State {
            ignore: enter(self.ignore, &parent.ignore, real),
            exclude: enter(self.exclude, &parent.exclude, rel),
            include: enter(self.include, &parent.include, rel),
        }
    }

    /// Whether a hidden directory may have something visible in it.
    fn opens(&self, state: &State, real: &Path, rel: &Path) -> bool {
        let matched = |state: &Option<MatchState>| state.as_ref().is_some_and(MatchState::is_ignored);
        let ignored = matched(&state.ignore)
            && !self
                .ignore
                .is_some_and(|patterns| patterns.may_have_exceptions_below(bytes(real)));
        let excluded = matched(&state.exclude)
            && !self
                .exclude
                .is_some_and(|patterns| patterns.may_have_exceptions_below(bytes(rel)));
        let beside = !matched(&state.include)
            && self
                .include
                .is_some_and(|patterns| !patterns.may_match_below(bytes(rel)));
        !(ignored || excluded || beside)
    }
}

/// Which patterns match an entry.
#[derive(Debug, Default)]
struct State {
    ignore: Option<MatchState>,
    exclude: Option<MatchState>,
    include: Option<MatchState>,
}

impl State {
    fn hidden(&self) -> bool {
        let matched = |state: &Option<MatchState>| state.as_ref().map(MatchState::is_ignored);
        matched(&self.ignore) == Some(true)
            || matched(&self.exclude) == Some(true)
            || matched(&self.include) == Some(false)
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
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
    if !has_meta(bytes(&clean)) {
        let selection = select_path(root, &clean, filter)?;
        return selection
            .map(|selection| vec![selection])
            .ok_or_else(|| Error::SourceNotFound(format!("/{}", clean.display())));
    }
    let mut selections = Vec::new();
    for path in expand_all(root, &clean)? {
        selections.extend(select_path(root, &path, filter)?);
    }
    Ok(selections)
}

/// Finds `source` for `--parents`: what is in front of `/./`, the root without that, is the directory that is copied; of it
/// comes what the rest matches, with the directories on the way. The rest is matched as by `.dockerignore`: `**` is any
/// number of directories, a directory has all that is in it, and no link is followed.
pub(crate) fn select_parents(
    root: &RootHandle,
    source: &str,
    filter: Filter<'_>,
) -> Result<Vec<Selection>, Error> {
    let (pivot, pattern) = source.split_once("/./").unwrap_or(("/", source));
    let (pivot, pattern) = (clean(pivot), clean(pattern));
    let literal = !has_meta(bytes(&pivot)) && !has_meta(bytes(&pattern));
    let patterns = Patterns::new([bytes(&pattern)])
        .map_err(|error| Error::Source(format!("syntax error in pattern {}: {error}", pattern.display())))?;
    let filter = Filter {
        include: Some(&patterns).filter(|patterns| !patterns.is_empty()),
        ..filter
    };
    let pivots = if has_meta(bytes(&pivot)) {
        expand_all(root, &pivot)?
    } else {
        vec![pivot.clone()]
    };
    let mut selections = Vec::new();
    for path in pivots {
        let found = select_path(root, &path, filter)?;
        // The top alone is nothing that the pattern asked for.
        let empty = |selection: &Selection| selection.entries.len() < 2 && filter.include.is_some();
        selections.extend(found.filter(|selection| !empty(selection)));
    }
    if selections.is_empty() && literal {
        return Err(Error::SourceNotFound(format!(
            "/{}",
            pivot.join(&pattern).display()
        )));
    }
    Ok(selections)
}

/// Paths that match a pattern, links before its first special component followed.
fn expand_all(root: &RootHandle, clean: &Path) -> Result<Vec<PathBuf>, Error> {
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
    Ok(matches)
}

/// The one file or directory `source`, a path and no pattern; none if there is none that can be seen.
pub(crate) fn select_exact(
    root: &RootHandle,
    source: &str,
    filter: Filter<'_>,
) -> Result<Option<Selection>, Error> {
    select_path(root, &clean(source), filter)
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
        let state = State {
            ignore: parent_states(filter, &real),
            ..State::default()
        };
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
            walk.entry(top, &state, hidden, 0)
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
    fn entry(&mut self, entry: Entry, state: &State, hidden: bool, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Errno::NAMETOOLONG).at(&entry.real);
        }
        let (real, rel) = (entry.real.clone(), entry.rel.clone());
        let place = self.entries.len();
        self.push(entry)?;
        if !hidden || self.filter.opens(state, &real, &rel) {
            let listing = self.ahead.read(&real).at(&real)?;
            self.ahead.announce(self.scope, &real, &listing, |name| {
                let (child, child_rel) = (real.join(name), rel.join(name));
                let child_state = self.filter.enter(state, &child, &child_rel);
                !child_state.hidden() || self.filter.opens(&child_state, &child, &child_rel)
            });
            for (name, stat) in listing {
                let child = real.join(&name);
                let child_rel = rel.join(&name);
                let child_state = self.filter.enter(state, &child, &child_rel);
                let child_hidden = child_state.hidden();
                let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                if child_hidden && !is_dir {
                    continue;
                }
                let entry = Entry::from_stat(self.root, child, child_rel, stat)?;
                if is_dir {
                    self.entry(entry, &child_state, child_hidden, depth + 1)?;
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
