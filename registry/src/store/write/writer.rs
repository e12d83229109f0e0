//! The writer.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chmodat, chownat,
    fchmod, fchown, fstat, futimens, linkat, mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};

use super::super::blobs::open_dir;
use super::super::confined::{DEVICE, device_note, is_confined, parse_device_note};
use super::super::error::{Error, IoContext, Result};
use super::super::handle::Store;
use super::super::snapshot::Snapshot;
use super::super::tar::blob::hash_tree;
use super::super::tar::encode::{Entry, Flag, header};
use super::super::tar::tree::TRAILER;
use super::super::tar::xattr::{Target, in_layer};
use super::super::tar::{WHITEOUT, padding};
use super::super::types::Layer;
use crate::digest::{Algorithm, DiffId, Hasher};

const ZEROS: [u8; 4096] = [0; 4096];

/// What an entry has besides its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Group.
    pub group: u32,
    /// Time of last modification: unix seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes by full name; those that do not belong to a layer are left out.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Special files that a layer can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket: in the tree, but no archive has it.
    Socket,
}

#[derive(Debug)]
struct Level {
    dir: OwnedFd,
    attributes: Attributes,
    /// Length of the parent's path.
    base: usize,
    /// The last name that was written, for the order.
    last: Vec<u8>,
}

/// A layer being written; see [`Store::write_layer`]. Dropped, it leaves nothing.
#[derive(Debug)]
pub struct LayerWriter<'a> {
    store: &'a Store,
    snapshot: Snapshot,
    clamp: Option<i64>,
    pub(super) stop: &'a AtomicBool,
    stack: Vec<Level>,
    path: Vec<u8>,
    hasher: Hasher,
    size: u64,
    /// What was hashed is not what the tree gives.
    differs: bool,
    pub(super) buffer: Vec<u8>,
}

impl Store {
    /// Begins a layer whose entries the caller gives in archive order: a directory before what it holds, names in one
    /// directory by their bytes. Times later than `clamp` (unix seconds) become it. When `stop` is set, writing ends with
    /// `ECANCELED`.
    ///
    /// # Errors
    /// The scratch directory cannot be made.
    pub fn write_layer<'a>(&'a self, clamp: Option<i64>, stop: &'a AtomicBool) -> Result<LayerWriter<'a>> {
        let snapshot = self.new_snapshot()?;
        let root = open_dir(&snapshot.upper())?;
        Ok(LayerWriter {
            store: self,
            snapshot,
            clamp,
            stop,
            stack: vec![Level {
                dir: root,
                attributes: Attributes::default(),
                base: 0,
                last: Vec::new(),
            }],
            path: Vec::new(),
            hasher: Algorithm::Sha256.hasher(),
            size: 0,
            differs: false,
            buffer: Vec::new(),
        })
    }
}

impl LayerWriter<'_> {
    /// Makes a directory; what follows goes into it until [`Self::leave`].
    ///
    /// # Errors
    /// The system's, or [`Error::Tree`] for names that a layer cannot have or that are out of order.
    pub fn enter(&mut self, name: &OsStr, attributes: &Attributes) -> Result<()> {
        let (base, mut attributes) = (self.path.len(), self.prepared(attributes));
        self.push_name(name)?;
        let path = self.at();
        let parent = &self.top().dir;
        mkdirat(parent, name, Mode::RWXU).at(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(parent, name, flags, Mode::empty()).at(&path)?;
        self.path.push(b'/');
        self.head(Flag::Directory, &attributes, 0, b"", (0, 0));
        attributes.mode &= 0o7777;
        self.stack.push(Level {
            dir,
            attributes,
            base,
            last: Vec::new(),
        });
        Ok(())
    }

    /// Ends the directory entered last. Only now it gets its attributes, so that nothing in it inherits any.
    ///
    /// # Errors
    /// The system's.
    pub fn leave(&mut self) -> Result<()> {
        if self.stack.len() < 2 {
            return Err(self.wrong("a directory is left that was not entered"));
        }
        let Some(level) = self.stack.pop() else {
            return Ok(());
        };
        let path = self.at();
        self.finish(&level.dir, &level.attributes, &path)?;
        self.check(&fstat(&level.dir).at(&path)?, &level.attributes, None);
        self.path.truncate(level.base);
        Ok(())
    }

    /// Writes a file with the first `size` bytes of `source`, holes kept. Returns how many there were: fewer make a
    /// shorter file.
    ///
    /// # Errors
    /// Those of [`Self::enter`].
    pub fn file(&mut self, name: &OsStr, attributes: &Attributes, source: &File, size: u64) -> Result<u64> {
        if size == 0
            && is_confined()
            && let Some(note) = Target::File(source.as_fd())
                .all()
                .at(Path::new(name))?
                .remove(DEVICE)
            && let Some((character, device)) = parse_device_note(&note)
        {
            return self.device_note(name, attributes, character, device).map(|()| 0);
        }
        let stat = fstat(source).at(Path::new(name))?;
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(u64::MAX);
        let sparse = blocks.saturating_mul(512) < size;
        self.write_file(name, attributes, size, |writer, to, path| {
            if sparse {
                writer.copy_sparse(source, to, size, path)
            } else {
                writer.copy(source, to, size, path)
            }
        })
    }

    /// Writes a file with these bytes.
    ///
    /// # Errors
    /// Those of [`Self::enter`].
    pub fn bytes(&mut self, name: &OsStr, attributes: &Attributes, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        self.write_file(name, attributes, size, |writer, to, path| {
            (&*to).write_all(bytes).at(path)?;
            writer.hash(bytes);
            Ok(size)
        })
        .map(drop)
    }

    /// Links to the file `first`, a path in the layer that was written before.
    ///
    /// # Errors
    /// Those of [`Self::enter`].
    pub fn hard_link(&mut self, name: &OsStr, attributes: &Attributes, first: &Path) -> Result<()> {
        let (base, attributes) = (self.path.len(), self.prepared(attributes));
        self.push_name(name)?;
        let path = self.at();
        let root = &self.stack[0].dir;
        // Written by this writer, so no component is a link.
        linkat(root, first, &self.top().dir, name, AtFlags::empty()).at(&path)?;
        let bare = Attributes {
            xattrs: BTreeMap::new(),
            ..attributes
        };
        self.head(Flag::Hardlink, &bare, 0, first.as_os_str().as_bytes(), (0, 0));
        let stat = statat(&self.top().dir, name, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        self.check(&stat, &bare, None);
        self.path.truncate(base);
        Ok(())
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of [`Self::enter`].
    pub fn symlink(&mut self, name: &OsStr, attributes: &Attributes, target: &OsStr) -> Result<()> {
        let (base, mut attributes) = (self.path.len(), self.prepared(attributes));
        attributes.mode = 0o777;
        attributes.xattrs.clear();
        self.push_name(name)?;
        let path = self.at();
        let parent = self.top().dir.as_fd();
        symlinkat(target, parent, name).at(&path)?;
        let (uid, gid) = owner(&attributes);
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        self.head(Flag::Symlink, &attributes, 0, target.as_bytes(), (0, 0));
        self.check(&stat, &attributes, None);
        self.path.truncate(base);
        Ok(())
    }

    /// Makes a special file.
    ///
    /// # Errors
    /// Those of [`Self::enter`]; a character device 0:0 would be a deletion and is refused.
    pub fn node(&mut self, name: &OsStr, attributes: &Attributes, node: Node) -> Result<()> {
        match node {
            Node::Character(major, minor) if is_confined() && (major, minor) != (0, 0) => {
                return self.device_note(name, attributes, true, (major, minor));
            }
            Node::Block(major, minor) if is_confined() => {
                return self.device_note(name, attributes, false, (major, minor));
            }
            _ => {}
        }
        let (base, mut attributes) = (self.path.len(), self.prepared(attributes));
        attributes.xattrs.clear();
        self.push_name(name)?;
        let path = self.at();
        let (kind, flag, device) = match node {
            Node::Character(0, 0) => return Err(self.wrong("a device 0:0 is a deletion")),
            Node::Character(major, minor) => (FileType::CharacterDevice, Some(Flag::Char), (major, minor)),
            Node::Block(major, minor) => (FileType::BlockDevice, Some(Flag::Block), (major, minor)),
            Node::Fifo => (FileType::Fifo, Some(Flag::Fifo), (0, 0)),
            Node::Socket => (FileType::Socket, None, (0, 0)),
        };
        let parent = self.top().dir.as_fd();
        let number = rustix::fs::makedev(device.0, device.1);
        mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, number).at(&path)?;
        let (uid, gid) = owner(&attributes);
        chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        // Made just now in a directory that nobody else writes to, so the name is no link.
        chmodat(
            parent,
            name,
            Mode::from_raw_mode(attributes.mode),
            AtFlags::empty(),
        )
        .at(&path)?;
        utimensat(parent, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).at(&path)?;
        if let Some(flag) = flag {
            self.head(flag, &attributes, 0, b"", device);
            self.check(&stat, &attributes, None);
        }
        self.path.truncate(base);
        Ok(())
    }

    /// Makes the file that stands for a device node where nodes cannot be made, and hashes the node.
    fn device_note(
        &mut self,
        name: &OsStr,
        attributes: &Attributes,
        character: bool,
        device: (u32, u32),
    ) -> Result<()> {
        let (base, attributes) = (self.path.len(), self.prepared(attributes));
        self.push_name(name)?;
        let path = self.at();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.top().dir, name, flags, Mode::RUSR | Mode::WUSR).at(&path)?;
        let flag = if character { Flag::Char } else { Flag::Block };
        self.head(flag, &attributes, 0, b"", device);
        let note = device_note(character, device);
        Target::File(file.as_fd()).set(DEVICE, &note).at(&path)?;
        self.finish(&file, &attributes, &path)?;
        self.check(&fstat(&file).at(&path)?, &attributes, Some(0));
        self.path.truncate(base);
        Ok(())
    }

    /// Publishes the layer, as [`Store::commit_snapshot`] does.
    ///
    /// # Errors
    /// A directory was not left, or those of [`Store::commit_snapshot`].
    pub fn finish_layer(mut self) -> Result<Layer> {
        if self.stack.len() != 1 {
            return Err(self.wrong("a directory was not left"));
        }
        self.stack.clear();
        let (digest, size) = if self.differs {
            hash_tree(open_dir(&self.snapshot.upper())?, Algorithm::Sha256, None)?
        } else {
            self.hasher.update(&[0; TRAILER]);
            (self.hasher.finish(), self.size + TRAILER as u64)
        };
        self.store.publish_hashed(self.snapshot, DiffId(digest), size)
    }

    fn top(&self) -> &Level {
        self.stack
            .last()
            .expect("the root's level is popped by finish_layer only")
    }

    fn at(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path))
    }

    fn wrong(&self, reason: &str) -> Error {
        Error::Tree {
            path: self.at(),
            reason: reason.to_owned(),
        }
    }

    fn push_name(&mut self, name: &OsStr) -> Result<()> {
        let bytes = name.as_bytes();
        self.path.extend_from_slice(bytes);
        if bytes.starts_with(WHITEOUT) {
            return Err(self.wrong("the image format reserves names that start with .wh. for deletions"));
        }
        let level = self.stack.last_mut();
        let level = level.expect("the root's level is popped by finish_layer only");
        if bytes <= level.last.as_slice() {
            return Err(self.wrong("written out of order"));
        }
        bytes.clone_into(&mut level.last);
        Ok(())
    }

    /// As they will be: times clamped, only attributes that belong to a layer.
    fn prepared(&self, attributes: &Attributes) -> Attributes {
        let mut attributes = attributes.clone();
        attributes.mode &= 0o7777;
        attributes.xattrs.retain(|name, _| in_layer(name));
        if let Some(limit) = self.clamp
            && attributes.mtime > (limit, 0)
        {
            attributes.mtime = (limit, 0);
        }
        attributes
    }

    /// Ends without a layer: what was written is in the snapshot's upper directory.
    #[must_use]
    pub fn into_snapshot(self) -> Snapshot {
        self.snapshot
    }

    pub(super) fn hash(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn head(&mut self, flag: Flag, attributes: &Attributes, size: u64, link: &[u8], device: (u32, u32)) {
        let bytes = header(&Entry {
            path: &self.path,
            flag,
            mode: attributes.mode,
            uid: attributes.user,
            gid: attributes.group,
            size,
            mtime: attributes.mtime.0,
            link,
            device,
            xattrs: &attributes.xattrs,
        });
        self.hash(&bytes);
    }

    fn write_file(
        &mut self,
        name: &OsStr,
        attributes: &Attributes,
        size: u64,
        fill: impl FnOnce(&mut Self, &File, &Path) -> Result<u64>,
    ) -> Result<u64> {
        let (base, attributes) = (self.path.len(), self.prepared(attributes));
        self.push_name(name)?;
        let path = self.at();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = File::from(openat(&self.top().dir, name, flags, Mode::RUSR | Mode::WUSR).at(&path)?);
        self.head(Flag::Regular, &attributes, size, b"", (0, 0));
        let written = fill(self, &to, &path)?;
        let pad = usize::try_from(padding(size)).expect("padding is less than a block");
        self.hash(&ZEROS[..pad]);
        self.finish(&to, &attributes, &path)?;
        self.check(&fstat(&to).at(&path)?, &attributes, Some(size));
        self.path.truncate(base);
        Ok(written)
    }

    /// Owner first: changing it clears set-uid and capabilities.
    fn finish(&mut self, fd: &impl AsFd, attributes: &Attributes, path: &Path) -> Result<()> {
        let (uid, gid) = owner(attributes);
        fchown(fd, Some(uid), Some(gid)).at(path)?;
        fchmod(fd, Mode::from_raw_mode(attributes.mode)).at(path)?;
        for (name, value) in &attributes.xattrs {
            // Best effort, as BuildKit: not every file system takes every attribute.
            if let Err(errno) = Target::File(fd.as_fd()).set(name, value) {
                let name = String::from_utf8_lossy(name);
                tracing::debug!(path = %path.display(), %name, %errno, "an extended attribute could not be set");
                self.differs = true;
            }
        }
        futimens(fd, &times(attributes.mtime)).at(path)
    }

    /// Compares what the file system has with what was hashed.
    fn check(&mut self, stat: &Stat, attributes: &Attributes, size: Option<u64>) {
        let same = stat.st_mode & 0o7777 == attributes.mode
            && (stat.st_uid, stat.st_gid) == (attributes.user, attributes.group)
            && stat.st_mtime == attributes.mtime.0
            && size.is_none_or(|size| u64::try_from(stat.st_size) == Ok(size));
        self.differs |= !same;
    }
}

fn owner(attributes: &Attributes) -> (Uid, Gid) {
    (Uid::from_raw(attributes.user), Gid::from_raw(attributes.group))
}

fn times(mtime: (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.0,
            tv_nsec: mtime.1.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use super::*;

    fn attributes(mode: u32, seconds: i64) -> Attributes {
        Attributes {
            mode,
            mtime: (seconds, 5),
            ..Attributes::default()
        }
    }

    /// What the writer says is what a walk of the tree says, whatever is in it.
    #[test]
    fn one_pass_is_two_passes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let stop = AtomicBool::new(false);
        let big = dir.path().join("big");
        std::fs::write(&big, vec![7; 3 << 20]).unwrap();
        let sparse = File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(5 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 2 << 20).unwrap();
        let sparse = File::open(dir.path().join("sparse")).unwrap();
        for (clamp, source_size, time) in [
            (None, 3 << 20, 1_000),
            (Some(500), 3 << 20, 1_000),
            // A source that became shorter, and a time that no file system keeps.
            (None, 4 << 20, 1_000),
            (None, 3 << 20, 1 << 45),
        ] {
            let mut writer = store.write_layer(clamp, &stop).unwrap();
            let name = OsStr::new;
            let mut private = attributes(0o1777, time);
            private.xattrs.insert(b"user.kept".to_vec(), b"1".to_vec());
            private.xattrs.insert(b"security.selinux".to_vec(), b"2".to_vec());
            writer.enter(name("a"), &private).unwrap();
            writer
                .bytes(name("f"), &attributes(0o4755, time), b"hello")
                .unwrap();
            writer
                .hard_link(name("g"), &attributes(0o4755, time), Path::new("a/f"))
                .unwrap();
            writer
                .node(name("pipe"), &attributes(0o600, time), Node::Fifo)
                .unwrap();
            writer
                .node(name("socket"), &attributes(0o600, time), Node::Socket)
                .unwrap();
            writer.leave().unwrap();
            let read = File::open(&big).unwrap();
            writer.file(name("big"), &private, &read, source_size).unwrap();
            writer
                .symlink(name("link"), &attributes(0o777, time), name("nowhere"))
                .unwrap();
            writer
                .file(name("sparse"), &attributes(0o644, 1), &sparse, 5 << 20)
                .unwrap();
            let layer = writer.finish_layer().unwrap();
            let walked = hash_tree(open_dir(&layer.tree).unwrap(), Algorithm::Sha256, None).unwrap();
            assert_eq!(
                (layer.diff_id.0, layer.size),
                walked,
                "{clamp:?} {source_size} {time}"
            );
        }
        assert_eq!(store.check(true).unwrap(), Vec::<String>::new());
    }

    /// The same layer as from a copy that is hashed afterwards. Says how long both take; `COOPER_BIG_LAYER` is the size in
    /// MiB.
    #[test]
    fn as_fast_as_it_gets() {
        let size = std::env::var("COOPER_BIG_LAYER")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(8u64);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let stop = AtomicBool::new(false);
        let source = dir.path().join("source");
        {
            let mut file = File::create(&source).unwrap();
            let block: Vec<u8> = (0..1 << 20)
                .map(|i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
                .collect();
            (0..size).for_each(|_| file.write_all(&block).unwrap());
        }
        let plain = attributes(0o644, 7);
        let read = File::open(&source).unwrap();
        let cpu = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            std::time::Duration::from_secs(time.tv_sec.unsigned_abs())
                + std::time::Duration::from_nanos(time.tv_nsec.unsigned_abs())
        };
        let one_pass = || {
            let mut writer = store.write_layer(None, &stop).unwrap();
            (&read).seek(std::io::SeekFrom::Start(0)).unwrap();
            writer.file(OsStr::new("f"), &plain, &read, size << 20).unwrap();
            writer.finish_layer().unwrap()
        };
        let two_passes = || {
            let snapshot = store.new_snapshot().unwrap();
            let target = snapshot.upper().join("f");
            std::fs::copy(&source, &target).unwrap();
            let file = File::open(&target).unwrap();
            fchmod(&file, Mode::from_raw_mode(0o644)).unwrap();
            futimens(&file, &times((7, 5))).unwrap();
            store.commit_snapshot(snapshot, None).unwrap()
        };
        let ways: [(&str, &dyn Fn() -> Layer); 2] = [("one pass", &one_pass), ("two passes", &two_passes)];
        let mut made = Vec::new();
        for (name, make) in ways.iter().chain(ways.iter().rev()) {
            let (started, spent) = (std::time::Instant::now(), cpu());
            made.push(make());
            println!(
                "{size} MiB, {name}: {:?}, of the processor {:?}",
                started.elapsed(),
                cpu() - spent
            );
        }
        assert!(made.iter().all(|layer| *layer == made[0]));
    }

    #[test]
    fn refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let stop = AtomicBool::new(false);
        let plain = Attributes::default();
        type Act = fn(&mut LayerWriter<'_>, &Attributes) -> Result<()>;
        let cases: [(&str, Act); 4] = [
            ("written out of order", |writer, plain| {
                writer.bytes(OsStr::new("b"), plain, b"")?;
                writer.bytes(OsStr::new("a"), plain, b"")
            }),
            ("reserves names", |writer, plain| {
                writer.bytes(OsStr::new(".wh.a"), plain, b"")
            }),
            ("deletion", |writer, plain| {
                writer.node(OsStr::new("c"), plain, Node::Character(0, 0))
            }),
            ("not entered", |writer, _| writer.leave()),
        ];
        for (expected, act) in cases {
            let error = act(&mut store.write_layer(None, &stop).unwrap(), &plain)
                .unwrap_err()
                .to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
