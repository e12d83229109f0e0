//! Walks a directory tree in archive order and yields its deterministic archive piece by piece.
//!
//! Order: each directory before what it holds, names sorted by their raw bytes. A directory's entries are held in memory
//! while it is open, one open handle per level; nothing else grows with the tree but the table of hard-linked inodes.
//!
//! The root itself has an entry (`./`) only when it is not an ordinary `0755 root:root` directory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, fstat, futimens, openat, readlinkat, statat,
    utimensat,
};
use rustix::io::Errno;

use super::super::confined::{DEVICE, is_confined, parse_device_note};
use super::super::error::{Error, IoContext, Result};
use super::encode::{Entry, Flag, header};
use super::xattr::{Target, in_layer, overlay_opaque};
use super::{OPAQUE, WHITEOUT, padding};

/// Deeper trees than this are refused: every level holds a descriptor.
const MAX_DEPTH: usize = 4096;

/// A stretch of the archive.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Header blocks or padding.
    Bytes(Vec<u8>),
    /// The first `size` bytes of an open file.
    File {
        fd: OwnedFd,
        size: u64,
        /// Path in the tree, for messages.
        path: PathBuf,
    },
    /// The closing 1024 zero bytes; always the last piece.
    End,
}

/// Length of [`Piece::End`].
pub(crate) const TRAILER: usize = 1024;

#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    /// Sorted in reverse, so that the next one is popped.
    names: Vec<Vec<u8>>,
    /// Length of the parent's path.
    base: usize,
}

/// The walk; see the module.
#[derive(Debug)]
pub(crate) struct TreeWalk {
    stack: Vec<Level>,
    path: Vec<u8>,
    links: HashMap<(u64, u64), Vec<u8>>,
    ready: VecDeque<Piece>,
    ended: bool,
    /// Later times are set to it, in unix seconds, in the tree too.
    clamp: Option<i64>,
    /// Later times are written as this one.
    latest: Option<i64>,
}

impl TreeWalk {
    /// A walk of the directory `root`. Times later than `clamp` (unix seconds) are set to it, in the tree and so in the
    /// archive.
    pub(crate) fn new(root: OwnedFd, clamp: Option<i64>) -> Result<Self> {
        Self::begin(root, b"", clamp, None)
    }

    /// A walk of `root` as what lies in the directory `prefix` (empty, or with a slash at its end), which has an entry
    /// then; times later than `latest` (unix seconds) are written as that.
    pub(crate) fn placed(root: OwnedFd, prefix: &[u8], latest: Option<i64>) -> Result<Self> {
        Self::begin(root, prefix, None, latest)
    }

    fn begin(root: OwnedFd, prefix: &[u8], clamp: Option<i64>, latest: Option<i64>) -> Result<Self> {
        let mut walk = Self {
            stack: Vec::new(),
            path: prefix.to_vec(),
            links: HashMap::new(),
            ready: VecDeque::new(),
            ended: false,
            clamp,
            latest,
        };
        let mut stat = fstat(&root).at("/")?;
        if let Some(times) = walk.clamped(&mut stat) {
            futimens(&root, &times).at("/")?;
        }
        let attributes = Target::File(root.as_fd()).all().at("/")?;
        let opaque = walk.check_overlay(&attributes)?;
        let xattrs = layer_xattrs(attributes);
        if !prefix.is_empty() {
            walk.push_header(prefix, Flag::Directory, &stat, 0, b"", &xattrs);
        } else if stat.st_mode & 0o7777 != 0o755 || stat.st_uid != 0 || stat.st_gid != 0 || !xattrs.is_empty()
        {
            walk.push_header(b"./", Flag::Directory, &stat, 0, b"", &xattrs);
        }
        if opaque {
            walk.push_opaque();
        }
        walk.enter(root, prefix.len())?;
        Ok(walk)
    }

    /// The next piece; `None` after [`Piece::End`].
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Ok(Some(piece));
            }
            let Some(level) = self.stack.last_mut() else {
                if self.ended {
                    return Ok(None);
                }
                self.ended = true;
                return Ok(Some(Piece::End));
            };
            match level.names.pop() {
                Some(name) => self.visit(&name)?,
                None => {
                    let base = level.base;
                    self.stack.pop();
                    self.path.truncate(base);
                }
            }
        }
    }

    fn at(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    fn enter(&mut self, dir: OwnedFd, base: usize) -> Result<()> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(Error::Tree {
                path: self.at().to_owned(),
                reason: "too deeply nested".into(),
            });
        }
        let mut names = read_names(&dir).at(self.at())?;
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.stack.push(Level { dir, names, base });
        Ok(())
    }

    fn visit(&mut self, name: &[u8]) -> Result<()> {
        let base = self.path.len();
        self.path.extend_from_slice(name);
        let keep = self.emit(name, base)?;
        if !keep {
            self.path.truncate(base);
        }
        Ok(())
    }

    /// Emits one name; true when the walk has gone down into it (the path must then stay).
    fn emit(&mut self, name: &[u8], base: usize) -> Result<bool> {
        let parent = &self
            .stack
            .last()
            .expect("a name is visited only while its directory is on the stack")
            .dir;
        let path = PathBuf::from(OsStr::from_bytes(&self.path));
        let mut stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        if kind == FileType::Socket {
            return Ok(false);
        }
        if kind == FileType::CharacterDevice && device == (0, 0) {
            self.push_whiteout(name);
            return Ok(false);
        }
        if name.starts_with(WHITEOUT) {
            let reason = "the image format reserves names that start with .wh. for deletions".into();
            return Err(Error::Tree { path, reason });
        }
        if let Some(times) = self.clamped(&mut stat) {
            utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        }
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let dir = openat(parent, name, flags, Mode::empty()).at(&path)?;
            let attributes = Target::File(dir.as_fd()).all().at(&path)?;
            let opaque = self.check_overlay(&attributes)?;
            self.path.push(b'/');
            let full = self.path.clone();
            self.push_header(&full, Flag::Directory, &stat, 0, b"", &layer_xattrs(attributes));
            if opaque {
                self.push_opaque();
            }
            self.enter(dir, base)?;
            return Ok(true);
        }
        let file = match kind {
            FileType::RegularFile => Some(open_file(parent, name).at(&path)?),
            _ => None,
        };
        let target = match &file {
            Some(fd) => Target::File(fd.as_fd()),
            None => Target::Name(parent.as_fd(), name),
        };
        let attributes = target.all().at(&path)?;
        if attributes.contains_key(&b"trusted.overlay.whiteout"[..])
            || attributes.contains_key(&b"user.overlay.whiteout"[..])
        {
            self.push_whiteout(name);
            return Ok(false);
        }
        self.check_overlay(&attributes)?;
        let link = match kind {
            FileType::Symlink => readlinkat(parent, name, Vec::new()).at(&path)?.into_bytes(),
            _ => Vec::new(),
        };
        let full = self.path.clone();
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key).cloned() {
                self.push_header(&full, Flag::Hardlink, &stat, 0, &first, &BTreeMap::new());
                return Ok(false);
            }
            self.links.insert(key, full.clone());
        }
        let note = attributes
            .get(DEVICE)
            .filter(|_| is_confined() && stat.st_size == 0);
        if let Some((character, (major, minor))) = note.and_then(|note| parse_device_note(note)) {
            let flag = if character { Flag::Char } else { Flag::Block };
            let mut node = stat;
            node.st_rdev = rustix::fs::makedev(major, minor);
            self.push_header(&full, flag, &node, 0, b"", &layer_xattrs(attributes));
            return Ok(false);
        }
        let flag = match kind {
            FileType::RegularFile => Flag::Regular,
            FileType::Symlink => Flag::Symlink,
            FileType::CharacterDevice => Flag::Char,
            FileType::BlockDevice => Flag::Block,
            FileType::Fifo => Flag::Fifo,
            _ => {
                return Err(Error::Tree {
                    path,
                    reason: "unknown file type".into(),
                });
            }
        };
        let size = if kind == FileType::RegularFile {
            u64::try_from(stat.st_size).unwrap_or(0)
        } else {
            0
        };
        self.push_header(&full, flag, &stat, size, &link, &layer_xattrs(attributes));
        if let Some(fd) = file.filter(|_| size > 0) {
            self.ready.push_back(Piece::File { fd, size, path });
            let pad = padding(size);
            if pad > 0 {
                let pad = usize::try_from(pad).expect("padding is less than a block");
                self.ready.push_back(Piece::Bytes(vec![0; pad]));
            }
        }
        Ok(false)
    }

    /// The time to set where the file is later than the limit.
    fn clamped(&self, stat: &mut Stat) -> Option<Timestamps> {
        let limit = self.clamp?;
        let late = stat.st_mtime > limit || (stat.st_mtime == limit && stat.st_mtime_nsec > 0);
        stat.st_mtime = stat.st_mtime.min(limit);
        let time = Timespec {
            tv_sec: limit,
            tv_nsec: 0,
        };
        late.then_some(Timestamps {
            last_access: time,
            last_modification: time,
        })
    }

    fn push_header(
        &mut self,
        path: &[u8],
        flag: Flag,
        stat: &Stat,
        size: u64,
        link: &[u8],
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) {
        let device = match flag {
            Flag::Char | Flag::Block => (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
            _ => (0, 0),
        };
        let bytes = header(&Entry {
            path,
            flag,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size,
            mtime: self
                .latest
                .map_or(stat.st_mtime, |latest| stat.st_mtime.min(latest)),
            link,
            device,
            xattrs,
        });
        self.ready.push_back(Piece::Bytes(bytes));
    }

    fn push_whiteout(&mut self, name: &[u8]) {
        let parent = &self.path[..self.path.len() - name.len()];
        let path = [parent, WHITEOUT, name].concat();
        self.push_mark(&path);
    }

    fn push_opaque(&mut self) {
        let path = [&self.path, OPAQUE].concat();
        self.push_mark(&path);
    }

    /// Marks have no metadata of their own but a time, which must not vary with when the kernel made them.
    fn push_mark(&mut self, path: &[u8]) {
        let bytes = header(&Entry {
            path,
            flag: Flag::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link: b"",
            device: (0, 0),
            xattrs: &BTreeMap::new(),
        });
        self.ready.push_back(Piece::Bytes(bytes));
    }

    /// Whether the directory is opaque. Refuses what would make the tree mean something only on top of its parents.
    fn check_overlay(&self, attributes: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<bool> {
        for space in ["trusted", "user"] {
            for kind in ["redirect", "metacopy"] {
                if attributes.contains_key(format!("{space}.overlay.{kind}").as_bytes()) {
                    let reason = format!("overlay was mounted with {kind}: the layer does not stand alone");
                    return Err(Error::Tree {
                        path: self.at().to_owned(),
                        reason,
                    });
                }
            }
        }
        Ok(attributes
            .get(overlay_opaque())
            .is_some_and(|value| value == b"y"))
    }
}

fn layer_xattrs(mut attributes: BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    attributes.retain(|name, _| in_layer(name));
    attributes
}

fn open_file(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat(parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) => openat(parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// The names in an open directory, without `.` and `..`, in the file system's order.
pub(crate) fn read_names(dir: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
