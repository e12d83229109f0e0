//! Symbolic links resolved inside a root, as `filepath-securejoin` and BuildKit do.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::entry::RootHandle;

/// As many links as BuildKit follows.
const MAX_LINKS: usize = 255;

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// Relative to the root, without links; components after a missing one are taken as written.
    pub(crate) real: PathBuf,
    /// State of the file, unless it is missing.
    pub(crate) stat: Option<Stat>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A symbolic link with its target.
    Link(OsString),
    /// Anything else.
    Other(FileType),
}

/// Something that paths can be resolved in.
pub(crate) trait Look {
    /// What is at `real`, a path without links in it; none if it is not there, `ENOTDIR` below a file.
    fn look(&self, real: &Path) -> Result<Option<Seen>, Errno>;

    /// Opens the regular file `real` for reading.
    fn open_file(&self, real: &Path) -> Result<File, Errno>;
}

impl Look for RootHandle {
    fn look(&self, real: &Path) -> Result<Option<Seen>, Errno> {
        let stat = match self.stat(real) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Seen::Link(self.read_link(real)?),
            other => Seen::Other(other),
        }))
    }

    fn open_file(&self, real: &Path) -> Result<File, Errno> {
        Self::open_file(self, real)
    }
}

/// Resolves `path` (absolute or relative, both from the root) with every link in it, the last one included; `..` stops at
/// the root.
///
/// The answer holds at the time of asking. Callers open it with [`RootHandle::open`], which follows no link, so that a
/// change in between makes an error and no escape.
pub(crate) fn resolve(root: &RootHandle, path: &Path) -> Result<Resolved, Errno> {
    let (real, seen) = resolve_in(root, path)?;
    let stat = match seen {
        Some(_) => Some(root.stat(&real)?),
        None => None,
    };
    Ok(Resolved { real, stat })
}

/// The same in anything that can be looked into: where `path` leads, and what is there.
/// Longer paths cannot be named in a container (limits.h, the final zero included).
pub(super) const PATH_MAX: usize = 4096;

pub(crate) fn resolve_in(root: &impl Look, path: &Path) -> Result<(PathBuf, Option<FileType>), Errno> {
    let mut todo: VecDeque<OsString> = VecDeque::new();
    push_front(&mut todo, path);
    let mut real = PathBuf::new();
    let mut kind = Some(FileType::Directory);
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            real.pop();
            kind = known(root.look(&real)?);
            continue;
        }
        let next = real.join(&name);
        let found = if kind.is_some() { root.look(&next)? } else { None };
        if let Some(Seen::Link(target)) = found {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP);
            }
            let target = PathBuf::from(target);
            if target.is_absolute() {
                real = PathBuf::new();
            }
            kind = known(root.look(&real)?);
            push_front(&mut todo, &target);
            continue;
        }
        if next.as_os_str().len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        real = next;
        kind = known(found);
    }
    Ok((real, kind))
}

fn known(seen: Option<Seen>) -> Option<FileType> {
    seen.map(|seen| match seen {
        Seen::Link(_) => FileType::Symlink,
        Seen::Other(kind) => kind,
    })
}

fn push_front(todo: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => todo.push_front(name.to_owned()),
            Component::ParentDir => todo.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("a/b/file"), "x").unwrap();
        for (link, target) in [
            ("abs", "/a/b"),
            ("up", "../../../../a"),
            ("out", "/etc/passwd"),
            ("loop", "loop"),
            ("a/back", "../a/b/file"),
            ("dangling", "/new/deep"),
        ] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let root = RootHandle::open_host(dir.path()).unwrap();
        for (path, real, there) in [
            ("", "", true),
            ("/", "", true),
            ("a/./b//file", "a/b/file", true),
            ("abs/file", "a/b/file", true),
            ("up/b/file", "a/b/file", true),
            ("../../a", "a", true),
            ("out", "etc/passwd", false),
            ("a/back", "a/b/file", true),
            ("dangling/x", "new/deep/x", false),
            ("missing/../a", "a", true),
            ("abs/..", "a", true),
        ] {
            let found = resolve(&root, Path::new(path)).unwrap();
            assert_eq!(
                (found.real.as_path(), found.stat.is_some()),
                (Path::new(real), there),
                "{path}"
            );
        }
        assert_eq!(resolve(&root, Path::new("loop")).unwrap_err(), Errno::LOOP);
        assert_eq!(
            resolve(&root, Path::new("a/b/file/x")).unwrap_err(),
            Errno::NOTDIR
        );
    }
}
