//! What a container has changed in its image, from its writable directory alone.
//!
//! The rules are those of Docker's tree comparison (moby `pkg/archive` `FileInfo.addChanges`): a file counts as modified if
//! its type, mode, owner, size, time or capabilities differ, a directory if its mode or owner do or if something in it has
//! changed, and what is deleted as a whole is named once. Mount points that every container gets are no changes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::containers::Containers;
use super::error::{Context, Error};
use super::layout::Layout;
use crate::overlay::Overlay;
use crate::rootless::in_user_namespace;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is in the image too, and differs.
    Modified,
    /// It is not in the image.
    Added,
    /// It is in the image only.
    Deleted,
}

/// A path that differs from the image's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root, without leading slash.
    pub path: PathBuf,
    /// How it differs.
    pub kind: ChangeKind,
}

/// What is made in the writable directory for the mounts of every container; Docker has these in a layer of its own.
const STUBS: [&str; 11] = [
    "dev",
    "dev/console",
    "dev/mqueue",
    "dev/pts",
    "dev/shm",
    "etc",
    "etc/hostname",
    "etc/hosts",
    "etc/resolv.conf",
    "proc",
    "sys",
];
/// Deeper trees than this are refused: every level holds two descriptors.
const MAX_DEPTH: usize = 2048;

impl Containers {
    /// The paths that differ from the image, sorted by their bytes; for running containers as of some moment each.
    ///
    /// # Errors
    /// [`Error::NotFound`], the layers cannot be mounted, or a directory cannot be read.
    pub fn changes(&self, id: &str) -> Result<Vec<Change>, Error> {
        let spec = self.layout(id)?.read_spec()?;
        let empty = Layout::empty_dir(&self.exec);
        let overlay = Overlay {
            lowers: &spec.rootfs.lowers,
            upper: None,
            empty: &empty,
            volatile: false,
            inert: true,
        };
        let lower = overlay
            .mount_detached()
            .map_err(|error| Error::Supervisor(error.to_string()))?;
        let upper = open_dir(rustix::fs::CWD, spec.rootfs.upper.as_os_str().as_bytes())
            .context("open", &spec.rootfs.upper)?;
        compare(upper, lower).context("compare", &spec.rootfs.upper)
    }
}

/// One open directory of both trees.
struct Level {
    upper: OwnedFd,
    /// The same directory of the image, if it has it.
    lower: Option<OwnedFd>,
    names: Vec<Vec<u8>>,
    base: usize,
    /// How many changes there were before this directory's.
    before: usize,
    /// How the directory itself differs, as far as is known.
    own: Option<ChangeKind>,
}

/// Compares an overlay's upper directory with what lies below it.
fn compare(upper: OwnedFd, lower: OwnedFd) -> rustix::io::Result<Vec<Change>> {
    let mut changes: Vec<Change> = Vec::new();
    let mut path: Vec<u8> = Vec::new();
    let mut stack = vec![level(upper, Some(lower), 0, 0, None, &path, &mut changes)?];
    while let Some(top) = stack.last_mut() {
        let Some(name) = top.names.pop() else {
            let top = stack.pop().unwrap_or_else(|| unreachable!("it was just there"));
            leave(&top, &path, &mut changes);
            path.truncate(top.base);
            continue;
        };
        let base = path.len();
        if base > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let Some(stat) = stat_of(&top.upper, &name)? else {
            path.truncate(base);
            continue;
        };
        let below = match &top.lower {
            Some(lower) => stat_of(lower, &name)?,
            None => None,
        };
        let kind = if is_whiteout(&top.upper, &name, &stat) {
            below.map(|_| ChangeKind::Deleted)
        } else {
            match &below {
                None => Some(ChangeKind::Added),
                Some(below) => differs(top, &name, &stat, below)?.then_some(ChangeKind::Modified),
            }
        };
        let is_dir = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_dir(&stat) && kind != Some(ChangeKind::Deleted) {
            if stack.len() >= MAX_DEPTH {
                return Err(Errno::NAMETOOLONG);
            }
            let top = &stack[stack.len() - 1];
            let lower = match (&top.lower, below.as_ref().is_some_and(is_dir)) {
                (Some(lower), true) => Some(open_dir(lower, &name)?),
                _ => None,
            };
            match open_dir(&top.upper, &name) {
                Ok(upper) => {
                    let before = changes.len();
                    let next = level(upper, lower, base, before, kind, &path, &mut changes)?;
                    stack.push(next);
                }
                // Removed or replaced meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => path.truncate(base),
                Err(errno) => return Err(errno),
            }
            continue;
        }
        if let Some(kind) = kind
            && !(kind == ChangeKind::Added && stat.st_size == 0 && is_stub(&path))
        {
            changes.push(change(&path, kind));
        }
        path.truncate(base);
    }
    changes.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
    Ok(changes)
}

/// Opens a level; in an opaque directory everything of the image that is not there again is deleted.
fn level(
    upper: OwnedFd,
    lower: Option<OwnedFd>,
    base: usize,
    before: usize,
    own: Option<ChangeKind>,
    path: &[u8],
    changes: &mut Vec<Change>,
) -> rustix::io::Result<Level> {
    let names = read_names(&upper)?;
    if let Some(lower) = lower.as_ref().filter(|_| is_opaque(upper.as_fd())) {
        let present: BTreeSet<&Vec<u8>> = names.iter().collect();
        for name in read_names(lower)?.iter().filter(|name| !present.contains(name)) {
            let full = if path.is_empty() {
                name.clone()
            } else {
                [path, b"/", name].concat()
            };
            changes.push(change(&full, ChangeKind::Deleted));
        }
    }
    Ok(Level {
        upper,
        lower,
        names,
        base,
        before,
        own,
    })
}

/// A directory is named if it differs itself or something in it does.
fn leave(level: &Level, path: &[u8], changes: &mut Vec<Change>) {
    if path.is_empty() {
        return;
    }
    let changed_inside = changes.len() > level.before;
    let stub = level.own == Some(ChangeKind::Added) && is_stub(path);
    let kind = match level.own {
        Some(_) if stub => changed_inside.then_some(ChangeKind::Modified),
        Some(kind) => Some(kind),
        None => changed_inside.then_some(ChangeKind::Modified),
    };
    changes.extend(kind.map(|kind| change(path, kind)));
}

fn change(path: &[u8], kind: ChangeKind) -> Change {
    Change {
        path: PathBuf::from(OsStr::from_bytes(path)),
        kind,
    }
}

fn is_stub(path: &[u8]) -> bool {
    STUBS.iter().any(|stub| stub.as_bytes() == path)
}

fn stat_of(dir: impl AsFd, name: &[u8]) -> rustix::io::Result<Option<Stat>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// moby `statDifferent`.
fn differs(level: &Level, name: &[u8], upper: &Stat, lower: &Stat) -> rustix::io::Result<bool> {
    if upper.st_mode != lower.st_mode
        || upper.st_uid != lower.st_uid
        || upper.st_gid != lower.st_gid
        || upper.st_rdev != lower.st_rdev
    {
        return Ok(true);
    }
    match FileType::from_raw_mode(upper.st_mode) {
        FileType::Directory => Ok(false),
        kind => {
            let same = (upper.st_size, upper.st_mtime, upper.st_mtime_nsec)
                == (lower.st_size, lower.st_mtime, lower.st_mtime_nsec);
            if !same || kind != FileType::RegularFile {
                return Ok(!same);
            }
            let Some(below) = &level.lower else {
                return Ok(true);
            };
            Ok(capabilities(&level.upper, name)? != capabilities(below, name)?)
        }
    }
}

fn capabilities(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    // A plain name under an open directory: the path cannot lead elsewhere.
    let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
    let mut value = [0; 64];
    match rustix::fs::lgetxattr(path, "security.capability", &mut value) {
        Ok(length) => Ok(Some(value[..length].to_vec())),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn is_whiteout(dir: &OwnedFd, name: &[u8], stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => stat.st_rdev == 0,
        // The form that unprivileged tools write.
        FileType::RegularFile if stat.st_size == 0 => {
            let path = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
            rustix::fs::lgetxattr(path, mark("whiteout"), &mut [0_u8; 8][..]).is_ok()
        }
        _ => false,
    }
}

fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0; 8];
    rustix::fs::fgetxattr(dir, mark("opaque"), &mut value).is_ok_and(|length| &value[..length] == b"y")
}

fn mark(name: &str) -> String {
    let space = if in_user_namespace() { "user" } else { "trusted" };
    format!("{space}.overlay.{name}")
}

fn open_dir(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, Path::new(OsStr::from_bytes(name)), flags, Mode::empty())
}

fn read_names(dir: &OwnedFd) -> rustix::io::Result<Vec<Vec<u8>>> {
    // The detached mount's handle may be O_PATH, and a directory is read once only through one description.
    let dir = open_dir(dir, b".")?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Two plain trees; whiteouts need the kernel's right to make nodes and are tested with real containers.
    #[test]
    fn directories_are_named_for_what_is_in_them_and_stubs_never() {
        let dir = tempfile::tempdir().unwrap();
        let (upper, lower) = (dir.path().join("upper"), dir.path().join("lower"));
        for path in [
            "upper/etc",
            "upper/dev/pts",
            "upper/same",
            "upper/proc",
            "upper/mode",
            "upper/new/deep",
            "lower/same",
            "lower/mode",
            "lower/kind",
        ] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in [
            "upper/etc/hosts",
            "upper/etc/resolv.conf",
            "upper/new/deep/file",
            "upper/kind",
            "upper/same/x",
        ] {
            fs::write(dir.path().join(path), "").unwrap();
        }
        fs::write(dir.path().join("lower/same/x"), "").unwrap();
        let time = fs::metadata(upper.join("same/x")).unwrap().modified().unwrap();
        let file = fs::File::options()
            .write(true)
            .open(lower.join("same/x"))
            .unwrap();
        file.set_modified(time).unwrap();
        fs::set_permissions(upper.join("mode"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(lower.join("mode"), fs::Permissions::from_mode(0o755)).unwrap();
        let open = |path: &Path| open_dir(rustix::fs::CWD, path.as_os_str().as_bytes()).unwrap();
        let check = |expected: &[&str]| {
            let found: Vec<String> = compare(open(&upper), open(&lower))
                .unwrap()
                .iter()
                .map(|change| {
                    let kind = match change.kind {
                        ChangeKind::Modified => 'C',
                        ChangeKind::Added => 'A',
                        ChangeKind::Deleted => 'D',
                    };
                    format!("{kind} {}", change.path.display())
                })
                .collect();
            assert_eq!(found, expected);
        };
        check(&["C kind", "C mode", "A new", "A new/deep", "A new/deep/file"]);
        fs::write(upper.join("etc/mine"), "").unwrap();
        fs::write(upper.join("same/x"), "longer").unwrap();
        check(&[
            "C etc",
            "A etc/mine",
            "C kind",
            "C mode",
            "A new",
            "A new/deep",
            "A new/deep/file",
            "C same",
            "C same/x",
        ]);
    }
}
