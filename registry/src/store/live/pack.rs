//! Writes a tree as an archive while it may change: names sorted in each directory, directories before what they hold.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, fstat, major, minor, readlinkat, statat};
use rustix::io::Errno;

use super::super::confined::{DEVICE, is_confined, parse_device_note};
use super::super::error::{Error, IoContext, Result};
use super::super::tar::encode::{Entry, Flag, header};
use super::super::tar::padding;
use super::super::tar::tree::{TRAILER, read_names};
use super::super::tar::xattr::{Target, in_layer};
use super::node::{MAX_DEPTH, kind, open_dir, open_file};

const BUFFER: usize = 256 << 10;

type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Writes the archive of an open directory. Its own entry is named `name` and a slash, what it holds is below that; without
/// a name it has no entry and what it holds stands at the top.
///
/// # Errors
/// The system's for the tree and for `to`.
pub fn pack_directory(directory: OwnedFd, name: Option<&[u8]>, to: &mut dyn Write) -> Result<()> {
    let mut packer = Packer::new(to);
    // A mount's handle can only be used to open others.
    let directory = open_dir(&directory, b".")
        .at("/")?
        .ok_or_else(|| Error::io("/", Errno::NOENT))?;
    let stat = fstat(&directory).at("/")?;
    if let Some(name) = name {
        packer.path = [name, b"/"].concat();
        let xattrs = layer_xattrs(Target::File(directory.as_fd())).at("/")?;
        packer.header(Flag::Directory, &stat, 0, b"", &xattrs)?;
    }
    packer.tree(directory)?;
    packer.end()
}

/// Writes the archive of one file `file` in an open directory, as an entry named `name`; a directory is not gone into. A
/// symbolic link stays one.
///
/// # Errors
/// As [`pack_directory`]; `ENOENT` if it is not there.
pub fn pack_entry(parent: BorrowedFd<'_>, file: &[u8], name: &[u8], to: &mut dyn Write) -> Result<()> {
    let mut packer = Packer::new(to);
    packer.path = name.to_vec();
    statat(parent, file, AtFlags::SYMLINK_NOFOLLOW).at(OsStr::from_bytes(file))?;
    packer.visit(parent, file)?;
    packer.end()
}

struct Packer<'a> {
    to: &'a mut dyn Write,
    path: Vec<u8>,
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

struct Level {
    dir: OwnedFd,
    /// Sorted in reverse.
    names: Vec<Vec<u8>>,
    base: usize,
}

impl<'a> Packer<'a> {
    fn new(to: &'a mut dyn Write) -> Self {
        Self {
            to,
            path: Vec::new(),
            links: HashMap::new(),
            buffer: vec![0; BUFFER],
        }
    }

    fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    fn level(&self, dir: OwnedFd, base: usize) -> Result<Level> {
        let mut names = read_names(&dir).at(self.at())?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Level { dir, names, base })
    }

    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut stack = vec![self.level(root, self.path.len())?];
        while let Some(level) = stack.last_mut() {
            let Some(name) = level.names.pop() else {
                self.path.truncate(level.base);
                stack.pop();
                continue;
            };
            let base = self.path.len();
            self.path.extend_from_slice(&name);
            match self.visit(level.dir.as_fd(), &name)? {
                Some(dir) if stack.len() < MAX_DEPTH => {
                    let next = self.level(dir, base)?;
                    stack.push(next);
                }
                Some(_) => {
                    return Err(Error::Tree {
                        path: self.at().to_owned(),
                        reason: "too deeply nested".into(),
                    });
                }
                None => self.path.truncate(base),
            }
        }
        Ok(())
    }

    /// Writes one entry; gives the directory to go into, with a slash behind its path.
    fn visit(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Option<OwnedFd>> {
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.at(self.at())?,
        };
        match kind(&stat) {
            FileType::Directory => {
                let Some(dir) = open_dir(parent, name).at(self.at())? else {
                    return Ok(None);
                };
                let stat = fstat(&dir).at(self.at())?;
                let xattrs = layer_xattrs(Target::File(dir.as_fd())).at(self.at())?;
                self.path.push(b'/');
                self.header(Flag::Directory, &stat, 0, b"", &xattrs)?;
                return Ok(Some(dir));
            }
            FileType::RegularFile => self.file(parent, name)?,
            FileType::Symlink => {
                let target = match readlinkat(parent, name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
                    result => result.at(self.at())?,
                };
                let xattrs = layer_xattrs(Target::Name(parent, name)).at(self.at())?;
                if !self.linked(&stat)? {
                    self.header(Flag::Symlink, &stat, 0, target.to_bytes(), &xattrs)?;
                }
            }
            kind => {
                let flag = match kind {
                    FileType::CharacterDevice => Flag::Char,
                    FileType::BlockDevice => Flag::Block,
                    FileType::Fifo => Flag::Fifo,
                    // No archive has sockets.
                    _ => return Ok(None),
                };
                if !self.linked(&stat)? {
                    self.header(flag, &stat, 0, b"", &Xattrs::new())?;
                }
            }
        }
        Ok(None)
    }

    fn file(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        let Some((file, mut stat)) = open_file(parent, name).at(self.at())? else {
            return Ok(());
        };
        if self.linked(&stat)? {
            return Ok(());
        }
        let all = Target::File(file.as_fd()).all().at(self.at())?;
        let note = all.get(DEVICE).filter(|_| is_confined() && stat.st_size == 0);
        let device = note.and_then(|note| parse_device_note(note));
        let xattrs: Xattrs = all.into_iter().filter(|(name, _)| in_layer(name)).collect();
        if let Some((character, (major, minor))) = device {
            stat.st_rdev = rustix::fs::makedev(major, minor);
            let flag = if character { Flag::Char } else { Flag::Block };
            return self.header(flag, &stat, 0, b"", &xattrs);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        self.header(Flag::Regular, &stat, size, b"", &xattrs)?;
        self.data(File::from(file), size)
    }

    /// Exactly `size` bytes, as the header says, and padding.
    fn data(&mut self, mut file: File, size: u64) -> Result<()> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let got = match file.read(&mut self.buffer[..want]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                result => result.at(self.at())?,
            };
            // It was cut while being read.
            let got = if got == 0 {
                self.buffer[..want].fill(0);
                want
            } else {
                got
            };
            self.to.write_all(&self.buffer[..got]).at("archive")?;
            left -= got as u64;
        }
        let pad = usize::try_from(padding(size)).unwrap_or(0);
        self.to
            .write_all(&[0; super::super::tar::BLOCK][..pad])
            .at("archive")
    }

    /// Writes a link to the first name of a file that has several, if that was met before.
    fn linked(&mut self, stat: &Stat) -> Result<bool> {
        if stat.st_nlink < 2 {
            return Ok(false);
        }
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&key).cloned() {
            self.header(Flag::Hardlink, stat, 0, &first, &Xattrs::new())?;
            return Ok(true);
        }
        self.links.insert(key, self.path.clone());
        Ok(false)
    }

    fn header(&mut self, flag: Flag, stat: &Stat, size: u64, link: &[u8], xattrs: &Xattrs) -> Result<()> {
        let device = match flag {
            Flag::Char | Flag::Block => (major(stat.st_rdev), minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let bytes = header(&Entry {
            path: &self.path,
            flag,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size,
            mtime: stat.st_mtime,
            link,
            device,
            xattrs,
        });
        self.to.write_all(&bytes).at("archive")
    }

    fn end(&mut self) -> Result<()> {
        self.to.write_all(&[0; TRAILER]).at("archive")
    }
}

fn layer_xattrs(target: Target<'_>) -> Result<Xattrs, Errno> {
    match target.all() {
        Ok(mut all) => {
            all.retain(|name, _| in_layer(name));
            Ok(all)
        }
        Err(Errno::NOENT | Errno::PERM) => Ok(Xattrs::new()),
        Err(errno) => Err(errno),
    }
}
