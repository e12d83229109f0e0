//! Files of a result, written below a directory.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, futimens, linkat,
    mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

const TEMPORARY: Mode = Mode::RWXU;

/// Unpacks a tar below `into`, which is made if it is missing.
///
/// Everything belongs to the caller, as with buildx; names in the tar lead nowhere else, whatever links it or the directory
/// holds. What is there already stays, files of the same name are replaced. Gives the paths that this user cannot make
/// (devices).
pub(super) fn unpack(reader: impl Read, into: &Path) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(into)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut unpack = Unpack {
        root: openat(CWD, into, flags, Mode::empty())?,
        directories: Vec::new(),
        skipped: Vec::new(),
    };
    let mut archive = Archive::new(reader);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        unpack
            .entry(&mut entry, &path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    unpack.finish()
}

struct Unpack {
    root: OwnedFd,
    /// Modes and times, set when nothing is written into them any more.
    directories: Vec<(PathBuf, Mode, Timestamps)>,
    skipped: Vec<PathBuf>,
}

impl Unpack {
    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path) -> io::Result<()> {
        let header = entry.header();
        let kind = header.entry_type();
        let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
        let time = Timespec {
            tv_sec: i64::try_from(header.mtime()?).unwrap_or(0),
            tv_nsec: 0,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        let path = inside(path)?;
        if kind == EntryType::Directory {
            self.directory(&path)?;
            self.directories.push((path, mode, times));
            return Ok(());
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::other("it has no name"))?;
        let parent = self.directory(path.parent().unwrap_or(Path::new("")))?;
        replace(&parent, name)?;
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let mut file = File::from(openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(entry, &mut file)?;
                fchmod(&file, mode)?;
                futimens(&file, &times)?;
            }
            EntryType::Symlink => {
                symlinkat(&*target(entry)?, &parent, name)?;
                utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            EntryType::Link => {
                let first = inside(&target(entry)?)?;
                let dir = self.open(first.parent().unwrap_or(Path::new("")))?;
                let first = first
                    .file_name()
                    .ok_or_else(|| io::Error::other("it links to the directory"))?;
                linkat(&dir, first, &parent, name, AtFlags::empty())?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = |number: Option<u32>| number.unwrap_or(0);
                let (major, minor) = (entry.header().device_major()?, entry.header().device_minor()?);
                let kind = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                match mknodat(
                    &parent,
                    name,
                    kind,
                    mode,
                    rustix::fs::makedev(device(major), device(minor)),
                ) {
                    Err(Errno::PERM | Errno::ACCESS) => self.skipped.push(path),
                    other => {
                        other?;
                        utimensat(&parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
                    }
                }
            }
            EntryType::XGlobalHeader => {}
            other => return Err(io::Error::other(format!("unknown type {other:?}"))),
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Opens a directory, made with its parents if it is missing; a file or link in its place is replaced.
    fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut parent = self.open(Path::new(""))?;
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            match statat(&parent, part, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
                Ok(_) => {
                    unlinkat(&parent, part, AtFlags::empty())?;
                    mkdirat(&parent, part, TEMPORARY)?;
                }
                Err(Errno::NOENT) => mkdirat(&parent, part, TEMPORARY)?,
                Err(errno) => return Err(errno.into()),
            }
            parent = self.open(&so_far)?;
        }
        Ok(parent)
    }

    fn finish(self) -> io::Result<Vec<PathBuf>> {
        for (path, mode, times) in self.directories.iter().rev() {
            let fd = self.open(path)?;
            fchmod(&fd, *mode)?;
            futimens(&fd, times)?;
        }
        Ok(self.skipped)
    }
}

/// Removes what has the name of a file to come; a directory with something in it is the user's to remove.
fn replace(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?),
        Err(errno) => Err(errno.into()),
    }
}

fn target(entry: &Entry<'_, impl Read>) -> io::Result<PathBuf> {
    let target = entry.link_name()?;
    Ok(target
        .ok_or_else(|| io::Error::other("a link without a target"))?
        .into_owned())
}

/// The path without leading slashes; an error if it leads out.
fn inside(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other("it leaves the directory"));
            }
        }
    }
    Ok(plain)
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
            header.set_mode(if *kind == EntryType::Directory {
                0o500
            } else {
                0o640
            });
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
    fn stays_below_and_replaces() {
        use EntryType::{Directory, Link, Regular, Symlink};
        type Case<'a> = (&'a [(&'a str, EntryType, &'a str)], Result<&'a str, &'a str>);
        let cases: &[Case<'_>] = &[
            (&[("d/", Directory, ""), ("d/f", Regular, "new")], Ok("d/f")),
            (&[("old", Regular, "new")], Ok("old")),
            // A link in the way is replaced, not followed.
            (&[("out/f", Regular, "new")], Ok("out/f")),
            (&[("l", Symlink, "/tmp"), ("l/f", Regular, "new")], Ok("l/f")),
            (&[("a", Regular, "new"), ("h", Link, "a")], Ok("h")),
            (&[("../f", Regular, "new")], Err("leaves the directory")),
            (&[("h", Link, "../../etc/passwd")], Err("leaves the directory")),
            (&[("h", Link, "out/secret")], Err("h: ")),
            (&[("full", Regular, "new")], Err("full: ")),
        ];
        for (entries, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let (outside, into) = (dir.path().join("outside"), dir.path().join("into"));
            std::fs::create_dir_all(into.join("full/x")).unwrap();
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("secret"), "s").unwrap();
            std::fs::write(into.join("old"), "old").unwrap();
            std::os::unix::fs::symlink(&outside, into.join("out")).unwrap();
            let result = unpack(tar_of(entries).as_slice(), &into);
            match (&result, expected) {
                (Ok(_), Ok(path)) => assert_eq!(
                    std::fs::read_to_string(into.join(path)).unwrap(),
                    "new",
                    "{entries:?}"
                ),
                (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{entries:?}: {error}"),
                other => panic!("{entries:?}: {other:?}"),
            }
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "{entries:?}");
        }
    }
}
