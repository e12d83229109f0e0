//! Unpacks an archive into a tree that is in use.
//!
//! The directory that is unpacked into is the root of every name and link in the archive and in the tree: nothing outside of
//! it is reached, whatever its files are replaced by meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fchown, ftruncate, futimens, linkat, makedev,
    mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::super::confined::{is_confined, unmapped};
use super::super::error::{Error, Result};
use super::super::tar::decode::{Kind, TarEntry, TarReader};
use super::super::unpack::decompress;
use super::node::{Meta, kind};

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct Extract {
    /// Neither a directory is replaced by something else, nor the other way round.
    pub keep_kinds: bool,
    /// Whose everything becomes.
    pub owner: Owner,
    /// The first part of each name that is this becomes that; `.` stands for names without one.
    pub rename: Option<(Vec<u8>, Vec<u8>)>,
}

/// Whose the files are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owner {
    /// As the archive says.
    #[default]
    Archive,
    /// This user's and group's.
    Ids(u32, u32),
    /// Whoever unpacks; what only root may set is left out.
    Caller,
}

const BUFFER: usize = 256 << 10;

/// Unpacks `archive` (plain, gzip, bzip2, xz or zstd) into an open directory. What is there already is replaced, directories
/// are merged.
///
/// # Errors
/// [`Error::Entry`] for an entry that cannot be made, [`Error::Archive`] for a broken archive; what came before stays.
pub fn extract(archive: &mut dyn Read, directory: OwnedFd, options: &Extract) -> Result<()> {
    let plain = decompress(archive, true)?;
    let mut reader = TarReader::new(plain, false);
    let mut extractor = Extractor {
        root: directory,
        options,
        times: Vec::new(),
        buffer: vec![0; BUFFER],
    };
    while let Some(entry) = reader.next_entry()? {
        let name = String::from_utf8_lossy(&entry.path).into_owned();
        extractor
            .apply(&entry, &mut reader)
            .map_err(|failure| match failure {
                Failure::Said(reason) => Error::entry(&entry.path, reason),
                Failure::Store(error) => error,
                Failure::System(Errno::INVAL) if let Some(reason) = unmapped(entry.uid, entry.gid) => {
                    Error::entry(&entry.path, reason)
                }
                Failure::System(errno) => Error::io(name, errno),
            })?;
    }
    extractor.finish();
    Ok(())
}

enum Failure {
    Said(String),
    System(Errno),
    Store(Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

struct Extractor<'a> {
    root: OwnedFd,
    options: &'a Extract,
    /// Of directories, set last, because making entries touches them.
    times: Vec<(OwnedFd, Meta)>,
    buffer: Vec<u8>,
}

/// Directories whose times are kept open for the end; beyond that the oldest get theirs at once.
const MAX_TIMES: usize = 256;

impl Extractor<'_> {
    fn apply<R: Read>(&mut self, entry: &TarEntry, reader: &mut TarReader<R>) -> Result<(), Failure> {
        let mut path = clean(&entry.path)
            .ok_or_else(|| Failure::Said("invalid entry name: it leads out of the directory".to_owned()))?;
        self.rename(&mut path)?;
        let Some((name, parents)) = path.split_last() else {
            // The directory that is unpacked into stays as it is, as in Docker.
            return Ok(());
        };
        let parent = self.parent(parents)?;
        let meta = self.meta(entry);
        let existing = self.make_room(&parent, name, entry)?;
        match entry.kind {
            Kind::Directory => {
                if !existing {
                    mkdirat(&parent, name.as_slice(), Mode::from_raw_mode(0o700))?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = openat(&parent, name.as_slice(), flags, Mode::empty())?;
                meta.set(&dir)?;
                if self.times.len() >= MAX_TIMES {
                    self.finish();
                }
                self.times.push((dir, meta));
            }
            Kind::Regular => self.file(&parent, name, entry, &meta, reader)?,
            Kind::Hardlink => {
                let mut target = clean(&entry.link)
                    .ok_or_else(|| Failure::Said("hard link that leads out of the directory".to_owned()))?;
                self.rename(&mut target)?;
                let Some((target, parents)) = target.split_last() else {
                    return Err(Failure::Said("hard link to a directory".to_owned()));
                };
                let source = self.open(parents)?;
                linkat(
                    &source,
                    target.as_slice(),
                    &parent,
                    name.as_slice(),
                    AtFlags::empty(),
                )?;
            }
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), &parent, name.as_slice())?;
                meta.set_node(&parent, name, true)?;
            }
            Kind::Char | Kind::Block if is_confined() => {
                return Err(Failure::Said(
                    "device nodes cannot be made in a user namespace".to_owned(),
                ));
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                let kind = match entry.kind {
                    Kind::Char => FileType::CharacterDevice,
                    Kind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = makedev(entry.device.0, entry.device.1);
                mknodat(&parent, name.as_slice(), kind, Mode::from_raw_mode(0o600), device)?;
                meta.set_node(&parent, name, false)?;
            }
        }
        Ok(())
    }

    fn rename(&self, path: &mut Vec<Vec<u8>>) -> Result<(), Failure> {
        let Some((from, to)) = &self.options.rename else {
            return Ok(());
        };
        let to = clean(to).ok_or_else(|| Failure::Said("renamed to a name that leads out".to_owned()))?;
        if from == b"." {
            path.splice(0..0, to);
        } else if path.first() == Some(from) {
            path.splice(0..1, to);
        }
        Ok(())
    }

    fn meta(&self, entry: &TarEntry) -> Meta {
        let mut xattrs = entry.xattrs.clone();
        let owner = match self.options.owner {
            Owner::Archive => Some((entry.uid, entry.gid)),
            Owner::Ids(uid, gid) => Some((uid, gid)),
            Owner::Caller => {
                xattrs.retain(|(name, _)| name.starts_with(b"user."));
                None
            }
        };
        Meta {
            mode: entry.mode,
            owner,
            modified: entry.mtime,
            xattrs,
        }
    }

    /// Removes what is in the way; true if there is a directory to merge with.
    fn make_room(&self, parent: &OwnedFd, name: &[u8], entry: &TarEntry) -> Result<bool, Failure> {
        let stat: Stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            result => result?,
        };
        let shown = || String::from_utf8_lossy(&entry.path).into_owned();
        let is_dir = kind(&stat) == FileType::Directory;
        match (is_dir, entry.kind == Kind::Directory) {
            (true, true) => return Ok(true),
            (true, false) if self.options.keep_kinds => {
                return Err(Failure::Said(format!(
                    "cannot overwrite directory {:?} with non-directory",
                    shown()
                )));
            }
            (false, true) if self.options.keep_kinds => {
                return Err(Failure::Said(format!(
                    "cannot overwrite non-directory {:?} with directory",
                    shown()
                )));
            }
            (true, false) => {
                // The standard library removes by handles once it has the first, which is named through ours.
                let path = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), name].concat();
                std::fs::remove_dir_all(OsStr::from_bytes(&path))
                    .map_err(|error| Failure::System(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
            }
            (false, _) => unlinkat(parent, name, AtFlags::empty())?,
        }
        Ok(false)
    }

    fn file<R: Read>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &TarEntry,
        meta: &Meta,
        reader: &mut TarReader<R>,
    ) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(openat(parent, name, flags, Mode::from_raw_mode(0o600))?);
        let fragments = entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]);
        if entry.sparse.is_some() {
            ftruncate(&file, entry.size)?;
        }
        for (mut offset, mut left) in fragments {
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                let got = reader
                    .read_data(&mut self.buffer[..want])
                    .map_err(Failure::Store)?;
                if got == 0 {
                    return Err(Failure::Said("data ends early".to_owned()));
                }
                file.write_all_at(&self.buffer[..got], offset)
                    .map_err(|error| Failure::System(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
                offset += got as u64;
                left -= got as u64;
            }
        }
        Ok(meta.set(&file.into())?)
    }

    /// Opens a directory below ours, following links inside.
    fn open(&self, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let joined = path.join(&b'/');
        let name = if joined.is_empty() { &b"."[..] } else { &joined };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match openat2(&self.root, name, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// As [`Self::open`], making what is missing.
    fn parent(&self, path: &[Vec<u8>]) -> Result<OwnedFd, Failure> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        let mut dir = self.open(&[])?;
        for length in 1..=path.len() {
            dir = match self.open(&path[..length]) {
                Err(Errno::NOENT) => {
                    mkdirat(&dir, path[length - 1].as_slice(), Mode::from_raw_mode(0o755))?;
                    let made = self.open(&path[..length])?;
                    if let Owner::Ids(uid, gid) = self.options.owner {
                        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
                        fchown(made.as_fd(), Some(uid), Some(gid))?;
                    }
                    made
                }
                result => result?,
            };
        }
        Ok(dir)
    }

    fn finish(&mut self) {
        for (dir, meta) in self.times.drain(..) {
            // It was set once; if the directory refuses a second time, its time is that of its last entry.
            let _ = futimens(&dir, &meta.times());
        }
    }
}

/// Plain components with `..` taken back; `None` if that leads out.
fn clean(path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut components: Vec<Vec<u8>> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(components.pop()?),
            part if part.contains(&0) => return None,
            part => components.push(part.to_vec()),
        }
    }
    Some(components)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::Path;

    use super::super::pack_directory;
    use super::*;

    fn open(path: &Path) -> OwnedFd {
        File::open(path).unwrap().into()
    }

    /// An archive of (name, kind, content or target).
    fn archive(entries: &[(&str, char, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            // As bytes: the crate refuses names that lead out.
            let bytes = &mut header.as_mut_bytes()[..name.len()];
            bytes.copy_from_slice(name.as_bytes());
            let (flag, size) = match kind {
                'f' => (tar::EntryType::Regular, content.len()),
                'd' => (tar::EntryType::Directory, 0),
                'l' => (tar::EntryType::Symlink, 0),
                'h' => (tar::EntryType::Link, 0),
                other => panic!("{other}"),
            };
            if *kind == 'd' {
                header.set_mode(0o755);
            }
            header.set_entry_type(flag);
            header.set_size(size as u64);
            if matches!(kind, 'l' | 'h') {
                header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
            }
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            header.set_uid(uid.as_raw().into());
            header.set_gid(gid.as_raw().into());
            header.set_cksum();
            out.extend_from_slice(header.as_bytes());
            if size > 0 {
                out.extend_from_slice(content.as_bytes());
                out.resize(out.len().next_multiple_of(512), 0);
            }
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    #[test]
    fn nothing_leaves_the_directory() {
        let check = |entries: &[(&str, char, &str)], expected: Result<&str, &str>| {
            let world = tempfile::tempdir().unwrap();
            let inside = world.path().join("inside");
            fs::create_dir_all(inside.join("sub")).unwrap();
            fs::write(world.path().join("secret"), "secret").unwrap();
            symlink("../..", inside.join("up")).unwrap();
            symlink(world.path(), inside.join("abs")).unwrap();
            let result = extract(
                &mut Cursor::new(archive(entries)),
                open(&inside),
                &Extract::default(),
            );
            let mut left: Vec<_> = fs::read_dir(world.path())
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            left.sort();
            assert_eq!(left, ["inside", "secret"], "{entries:?}");
            assert_eq!(
                fs::read_to_string(world.path().join("secret")).unwrap(),
                "secret",
                "{entries:?}"
            );
            assert_eq!(
                fs::metadata(world.path().join("secret")).unwrap().nlink(),
                1,
                "{entries:?}"
            );
            match (result, expected) {
                (Ok(()), Ok(file)) => assert!(inside.join(file).exists(), "{entries:?}: no {file}"),
                (Err(error), Err(text)) => {
                    let error = error.to_string();
                    assert!(error.contains(text), "{entries:?}: {error}");
                }
                (result, expected) => panic!("{entries:?}: {result:?}, expected {expected:?}"),
            }
        };
        check(&[("../secret", 'f', "evil")], Err("leads out of the directory"));
        check(
            &[("sub/../../secret", 'f', "evil")],
            Err("leads out of the directory"),
        );
        check(&[("/secret", 'f', "mine")], Ok("secret"));
        check(&[("sub/../secret", 'f', "mine")], Ok("secret"));
        check(&[("up/secret", 'f', "mine")], Ok("secret"));
        check(&[("l", 'l', "/"), ("l/secret", 'f', "mine")], Ok("secret"));
        check(&[("l", 'l', "../../.."), ("l/secret", 'f', "mine")], Ok("secret"));
        check(&[("h", 'h', "../secret")], Err("leads out of the directory"));
        check(&[("h", 'h', "up/secret")], Err("No such file"));
        check(&[("up", 'f', "replaced")], Ok("up"));
        check(&[("a/b/c", 'f', "made")], Ok("a/b/c"));
        check(&[(".wh.sub", 'f', "")], Ok(".wh.sub"));
    }

    #[test]
    fn kinds_are_kept_on_request() {
        let check = |keep_kinds: bool, entries: &[(&str, char, &str)], expected: Option<&str>| {
            let world = tempfile::tempdir().unwrap();
            fs::create_dir_all(world.path().join("dir/full")).unwrap();
            fs::write(world.path().join("file"), "old").unwrap();
            let options = Extract {
                keep_kinds,
                ..Extract::default()
            };
            let result = extract(&mut Cursor::new(archive(entries)), open(world.path()), &options);
            let error = result.err().map(|error| error.to_string());
            match (error, expected) {
                (None, None) => {}
                (Some(error), Some(text)) => assert!(error.contains(text), "{error}"),
                (error, expected) => panic!("{entries:?}: {error:?}, expected {expected:?}"),
            }
        };
        let (onto_dir, onto_file) = ([("dir", 'f', "x")], [("file", 'd', "")]);
        check(false, &onto_dir, None);
        check(false, &onto_file, None);
        check(
            true,
            &onto_dir,
            Some("cannot overwrite directory \"dir\" with non-directory"),
        );
        check(
            true,
            &onto_file,
            Some("cannot overwrite non-directory \"file\" with directory"),
        );
        check(true, &[("file", 'f', "new"), ("dir", 'd', "")], None);
    }

    #[test]
    fn what_is_packed_is_unpacked_the_same() {
        let world = tempfile::tempdir().unwrap();
        let (from, to) = (world.path().join("from"), world.path().join("to"));
        fs::create_dir_all(from.join("d/e")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("d/f"), "content").unwrap();
        fs::hard_link(from.join("d/f"), from.join("d/g")).unwrap();
        symlink("f", from.join("d/l")).unwrap();
        mknodat(
            rustix::fs::CWD,
            from.join("d/p"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let pack = |dir: &Path, name: Option<&[u8]>| {
            let mut bytes = Vec::new();
            pack_directory(open(dir), name, &mut bytes).unwrap();
            bytes
        };
        let bytes = pack(&from, None);
        extract(&mut Cursor::new(&bytes), open(&to), &Extract::default()).unwrap();
        assert_eq!(pack(&to, None), bytes);
        let names = |bytes: &[u8]| -> Vec<String> {
            let mut archive = tar::Archive::new(bytes);
            let entries = archive.entries().unwrap();
            entries
                .map(|entry| String::from_utf8(entry.unwrap().path_bytes().into_owned()).unwrap())
                .collect()
        };
        assert_eq!(names(&bytes), ["d/", "d/e/", "d/f", "d/g", "d/l", "d/p"]);
        assert_eq!(names(&pack(&from.join("d/e"), Some(b"renamed"))), ["renamed/"]);
        assert_eq!(names(&pack(&from, Some(b".")))[..2], ["./", "./d/"]);
        assert_eq!(names(&pack(&from, Some(b"")))[..2], ["/", "/d/"]);
    }
}
