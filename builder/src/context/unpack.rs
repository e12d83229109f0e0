//! A context received as a tar stream.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Timespec, fchmod, futimens, linkat, mkdirat, openat, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::build::{Error, reason};
use crate::tree::{RootHandle, only_modified};

/// How much a context may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Number of entries.
    pub entries: u64,
}

impl Default for UnpackLimits {
    /// 64 GiB in four million entries.
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4_000_000,
        }
    }
}

/// Why a context was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// The stream is no tar, or ends early.
    #[error("read context: {0}")]
    Read(#[from] io::Error),
    /// An entry that leaves the directory, goes through a link, or has a type contexts do not have.
    #[error("context entry {path:?}: {problem}")]
    Entry {
        /// Its name.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// More than [`UnpackLimits`] allows.
    #[error("the context has more than {0}")]
    TooMuch(String),
    /// The directory to unpack into.
    #[error(transparent)]
    Directory(Box<Error>),
}

/// Unpacks a plain tar into the existing directory `into`, by handle: no entry can leave it, whatever its name or the
/// links before it are.
///
/// Files, directories, symbolic and hard links are made, with mode and time, owned by the caller; global headers are
/// skipped; devices, FIFOs and anything else are errors. A later entry replaces an earlier file of its name. Symbolic
/// links may point anywhere: they are resolved when the context is read, inside of it.
///
/// # Errors
/// See [`UnpackError`]; what was unpacked until then stays for the caller to remove.
pub fn untar(reader: &mut dyn Read, into: &Path, limits: UnpackLimits) -> Result<(), UnpackError> {
    let root = RootHandle::open_host(into).map_err(|error| UnpackError::Directory(Box::new(error)))?;
    let mut unpack = Unpack {
        root,
        limits,
        left: limits,
        dir_times: Vec::new(),
    };
    let mut archive = Archive::new(reader);
    for entry in archive.entries()? {
        unpack.entry(entry?)?;
    }
    unpack.finish()
}

struct Unpack {
    root: RootHandle,
    limits: UnpackLimits,
    left: UnpackLimits,
    dir_times: Vec<(PathBuf, i64)>,
}

impl Unpack {
    fn entry(&mut self, mut entry: Entry<'_, &mut dyn Read>) -> Result<(), UnpackError> {
        self.left.entries = self
            .left
            .entries
            .checked_sub(1)
            .ok_or_else(|| UnpackError::TooMuch(format!("{} entries", self.limits.entries)))?;
        let path = entry.path()?.into_owned();
        let wrong = |problem: &str| UnpackError::Entry {
            path: path.clone(),
            problem: problem.to_owned(),
        };
        let failed = |errno: Errno| UnpackError::Entry {
            path: path.clone(),
            problem: reason(errno),
        };
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let real = inside(&path).ok_or_else(|| wrong("leaves the context"))?;
        let mode = entry.header().mode()? & 0o7777;
        let time = i64::try_from(entry.header().mtime()?).unwrap_or(0);
        if kind == EntryType::Directory {
            let fd = self.make_dirs(&real).map_err(failed)?;
            fchmod(fd, Mode::from_raw_mode(mode | 0o700)).map_err(failed)?;
            self.dir_times.push((real, time));
            return Ok(());
        }
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(wrong("has no name"));
        };
        let parent = self.make_dirs(parent).map_err(failed)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(wrong("is a directory already"));
            }
            Ok(_) => unlinkat(&parent, name, AtFlags::empty()).map_err(failed)?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file =
                    File::from(openat(&parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?);
                let copied = io::copy(
                    &mut (&mut entry).take(self.left.bytes.saturating_add(1)),
                    &mut file,
                )?;
                self.left.bytes = self
                    .left
                    .bytes
                    .checked_sub(copied)
                    .ok_or_else(|| UnpackError::TooMuch(format!("{} bytes", self.limits.bytes)))?;
                fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed)?;
                futimens(
                    &file,
                    &only_modified(Timespec {
                        tv_sec: time,
                        tv_nsec: 0,
                    }),
                )
                .map_err(failed)?;
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name()?
                    .ok_or_else(|| wrong("is a link without a target"))?;
                symlinkat(target.as_ref(), &parent, name).map_err(failed)?;
            }
            EntryType::Link => {
                let target = entry
                    .link_name()?
                    .ok_or_else(|| wrong("is a link without a target"))?;
                let first = inside(&target).ok_or_else(|| wrong("links to outside the context"))?;
                let (Some(dir), Some(first_name)) = (first.parent(), first.file_name()) else {
                    return Err(wrong("links to the context directory"));
                };
                let dir = self.root.open_dir(dir).map_err(failed)?;
                linkat(&dir, first_name, &parent, name, AtFlags::empty()).map_err(failed)?;
            }
            other => {
                return Err(wrong(&format!(
                    "has a type that contexts do not have ({other:?})"
                )));
            }
        }
        Ok(())
    }

    /// Makes missing directories of `real`, none of which may be a link.
    fn make_dirs(&self, real: &Path) -> Result<OwnedFd, Errno> {
        match self.root.open_dir(real) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let mut path = PathBuf::new();
        for part in real {
            let parent = self.root.open_dir(&path)?;
            path.push(part);
            match mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.root.open_dir(real)
    }

    fn finish(self) -> Result<(), UnpackError> {
        for (real, time) in self.dir_times.iter().rev() {
            let times = only_modified(Timespec {
                tv_sec: *time,
                tv_nsec: 0,
            });
            let set = self.root.open_dir(real).and_then(|fd| futimens(fd, &times));
            set.map_err(|errno| UnpackError::Entry {
                path: real.clone(),
                problem: reason(errno),
            })?;
        }
        Ok(())
    }
}

/// The path without `.` and leading slashes; none if it has `..`.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut real = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => real.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(real)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(entries: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_mtime(7);
            let link = matches!(kind, EntryType::Symlink | EntryType::Link);
            if link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(if link { 0 } else { content.len() as u64 });
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            if !link {
                out.extend_from_slice(content.as_bytes());
                out.resize(out.len().next_multiple_of(512), 0);
            }
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    #[test]
    fn hostile_entries() {
        use EntryType::{Char, Directory, Link, Regular, Symlink};
        type Case<'a> = (&'a [(&'a str, EntryType, &'a str)], Result<&'a str, &'a str>);
        let cases: &[Case<'_>] = &[
            (&[("a/b", Regular, "hi")], Ok("a/b")),
            (&[("/abs", Regular, "hi")], Ok("abs")),
            (&[("a", Regular, "one"), ("a", Regular, "two")], Ok("a")),
            (&[("d", Directory, ""), ("d/l", Symlink, "../../../etc")], Ok("d")),
            (&[("../up", Regular, "x")], Err("leaves the context")),
            (&[("a/../../up", Regular, "x")], Err("leaves the context")),
            (
                &[("l", Symlink, "/tmp"), ("l/x", Regular, "x")],
                Err("not a directory"),
            ),
            (
                &[("h", Link, "../../etc/passwd")],
                Err("links to outside the context"),
            ),
            (
                &[("l", Symlink, "/etc"), ("h", Link, "l/passwd")],
                Err("not a directory"),
            ),
            (
                &[("c", Char, "")],
                Err("has a type that contexts do not have (Char)"),
            ),
            (
                &[("d", Directory, ""), ("d", Regular, "")],
                Err("is a directory already"),
            ),
        ];
        for (entries, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let result = untar(
                &mut tar_of(entries).as_slice(),
                dir.path(),
                UnpackLimits::default(),
            );
            match (result, expected) {
                (Ok(()), Ok(path)) => assert!(dir.path().join(path).exists(), "{entries:?}"),
                (Err(UnpackError::Entry { problem, .. }), Err(expected)) => {
                    assert_eq!(&problem, expected, "{entries:?}");
                }
                (result, expected) => panic!("{entries:?}: {result:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn limits() {
        let tar = tar_of(&[
            ("a", EntryType::Regular, "12345"),
            ("b", EntryType::Regular, "67890"),
        ]);
        for (limits, ok) in [
            (
                UnpackLimits {
                    bytes: 10,
                    entries: 2,
                },
                true,
            ),
            (UnpackLimits { bytes: 9, entries: 2 }, false),
            (
                UnpackLimits {
                    bytes: 10,
                    entries: 1,
                },
                false,
            ),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let result = untar(&mut tar.as_slice(), dir.path(), limits);
            assert_eq!(result.is_ok(), ok, "{limits:?}: {result:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let cut = untar(&mut &tar[..700], dir.path(), UnpackLimits::default());
        assert!(matches!(cut, Err(UnpackError::Read(_))), "{cut:?}");
    }
}
