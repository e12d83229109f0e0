//! What COPY puts into its layer, put together in memory first: where each file goes, what replaces what, and what the
//! directories on the way are like. The layer is then written in one go, in archive order.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use cooper_registry::store::{Attributes, LayerWriter, Node as Special};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::chmod::Chmod;
use super::data::xattrs;
use super::entry::{Entry, FileKind, RootHandle};
use super::lowers::{DirState, Lowers};
use super::owner::Owner;
use super::resolve::{Look, PATH_MAX, Seen, resolve_in};
use super::select::Selection;
use crate::build::{Error, IoContext as _};

/// Owner and mode of what is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct CopyOptions {
    /// `--chown`, or root for files of the context; none keeps each file's own.
    pub(crate) owner: Option<Owner>,
    /// `--chmod`
    pub(crate) chmod: Option<Chmod>,
}

impl CopyOptions {
    fn mode(&self, mode: u32, is_dir: bool) -> u32 {
        self.chmod
            .as_ref()
            .map_or(mode, |chmod| chmod.apply(mode, is_dir))
    }

    fn made_dir(&self, time: (i64, u32)) -> Attributes {
        let owner = self.owner.unwrap_or_default();
        Attributes {
            mode: self.chmod.as_ref().map_or(0o755, Chmod::made_dir),
            user: owner.user,
            group: owner.group,
            mtime: time,
            ..Attributes::default()
        }
    }

    fn attributes(&self, entry: &Entry) -> Attributes {
        let stat = &entry.stat;
        let owner = self.owner.unwrap_or(Owner {
            user: stat.st_uid,
            group: stat.st_gid,
        });
        Attributes {
            mode: self.mode(entry.mode(), entry.is_dir()),
            user: owner.user,
            group: owner.group,
            mtime: mtime(stat),
            ..Attributes::default()
        }
    }
}

/// What is copied from one root with the same options. Hard links are kept within one group.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) root: &'a RootHandle,
    pub(crate) options: &'a CopyOptions,
    /// Links are kept among all groups of this number.
    pub(crate) links: usize,
}

#[derive(Debug)]
enum Content<'a> {
    Dir {
        children: BTreeMap<OsString, usize>,
        /// The layers below have this directory, too.
        lower: bool,
        attributes: Attributes,
    },
    Copied {
        root: &'a RootHandle,
        entry: &'a Entry,
        attributes: Attributes,
        links: usize,
    },
    Inline {
        bytes: &'a [u8],
        attributes: Attributes,
    },
}

/// A layer in the making.
#[derive(Debug)]
pub(crate) struct Assembly<'a> {
    below: &'a Lowers,
    /// `--link`: the layer does not depend on what is below, but for the attributes of the directories on the way.
    lends: Option<&'a Lowers>,
    nodes: Vec<Content<'a>>,
    /// When all that has no time of its own is made.
    now: (i64, u32),
    /// Where the last file went.
    last: Option<(PathBuf, usize)>,
}

impl<'a> Assembly<'a> {
    /// An empty layer on top of `below`.
    pub(crate) fn new(below: &'a Lowers) -> Self {
        let root = Content::Dir {
            children: BTreeMap::new(),
            lower: true,
            attributes: Attributes::default(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            below,
            lends: None,
            nodes: vec![root],
            now: (
                i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
                now.subsec_nanos(),
            ),
            last: None,
        }
    }

    /// A layer that goes on top of anything (`--link`): no link below is followed, and nothing there decides where a file
    /// goes. Directories on the way are those of `base` where it has them.
    pub(crate) fn on_scratch(scratch: &'a Lowers, base: &'a Lowers) -> Self {
        Self {
            lends: Some(base),
            ..Self::new(scratch)
        }
    }

    /// Copies one selection to `dest`, an absolute path; one that ends with `/` is a directory. Links in it are followed
    /// inside the root, the last one too.
    pub(crate) fn copy(
        &mut self,
        group: &Group<'a>,
        selection: &'a Selection,
        dest: &str,
    ) -> Result<(), Error> {
        let Some((top, below)) = selection.entries.split_first() else {
            return Ok(());
        };
        if !top.is_dir() {
            let real = self.file_target(dest, &selection.name, group.options)?;
            return self.put_copy(group, top, &real);
        }
        let (base, _) = resolve_in(self, Path::new(dest)).at(dest)?;
        let made = group.options.made_dir(self.now);
        let id = self.make_dirs(&base, &made)?;
        if let Content::Dir { attributes, .. } = &mut self.nodes[id] {
            attributes.mtime = mtime(&top.stat);
        }
        for entry in below {
            self.put_copy(group, entry, &base.join(&entry.rel))?;
        }
        Ok(())
    }

    /// Writes `bytes` to a file (a here-document); its mode is 0644 but for `--chmod`.
    pub(crate) fn write(
        &mut self,
        name: &str,
        bytes: &'a [u8],
        dest: &str,
        options: &CopyOptions,
    ) -> Result<(), Error> {
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        if !Path::new(name).components().all(plain) {
            return Err(Error::Source(format!("invalid inline file name {name:?}")));
        }
        let real = self.file_target(dest, Path::new(name), options)?;
        let attributes = Attributes {
            mode: options.mode(0o644, false),
            ..options.made_dir(self.now)
        };
        self.put(&real, Content::Inline { bytes, attributes })
    }

    /// Makes the directory `path` and its missing parents, links followed (WORKDIR).
    pub(crate) fn make_dir(&mut self, path: &str, owner: Owner) -> Result<(), Error> {
        let (real, _) = resolve_in(self, Path::new(path)).at(path)?;
        let options = CopyOptions {
            owner: Some(owner),
            chmod: None,
        };
        // Only what is missing makes a layer.
        if self.below.dir(&real).at(&real)?.is_some() {
            return Ok(());
        }
        let made = options.made_dir(self.now);
        self.make_dirs(&real, &made)
            .map(drop)
            .map_err(|error| match error {
                Error::Source(_) => Error::File {
                    path: real.clone(),
                    errno: Errno::NOTDIR,
                },
                error => error,
            })
    }

    /// Writes the layer. Says whether a source changed after it was listed.
    pub(crate) fn write_to(&self, writer: &mut LayerWriter<'_>, stop: &AtomicBool) -> Result<bool, Error> {
        let mut output = Output {
            writer,
            stop,
            links: HashMap::new(),
            path: PathBuf::new(),
            changed: false,
        };
        let children = |id: usize| match &self.nodes[id] {
            Content::Dir { children, .. } => Some(children.iter()),
            Content::Copied { .. } | Content::Inline { .. } => None,
        };
        let mut stack: Vec<_> = children(0).into_iter().collect();
        while let Some(level) = stack.last_mut() {
            let Some((name, id)) = level.next() else {
                stack.pop();
                if !stack.is_empty() {
                    output.leave()?;
                }
                continue;
            };
            output.entry(name, &self.nodes[*id])?;
            stack.extend(children(*id));
        }
        Ok(output.changed)
    }

    /// Where a file named `name` goes that is copied to `dest`; makes the directory.
    fn file_target(&mut self, dest: &str, name: &Path, options: &CopyOptions) -> Result<PathBuf, Error> {
        let (mut real, kind) = resolve_in(self, Path::new(dest)).at(dest)?;
        if kind == Some(FileType::Directory) || dest.ends_with('/') {
            real.push(name);
        }
        let made = options.made_dir(self.now);
        self.make_dirs(real.parent().unwrap_or(Path::new("")), &made)
            .map_err(|error| match error {
                Error::Source(_) => Error::File {
                    path: real.clone(),
                    errno: Errno::NOTDIR,
                },
                error => error,
            })?;
        Ok(real)
    }

    fn put_copy(&mut self, group: &Group<'a>, entry: &'a Entry, real: &Path) -> Result<(), Error> {
        let attributes = group.options.attributes(entry);
        if entry.is_dir() {
            return self.put_dir(group, entry, real, attributes);
        }
        if let FileKind::Device(FileType::CharacterDevice, 0) = entry.kind {
            return Err(Error::Source(format!(
                "/{} is a whiteout, which cannot be copied",
                entry.real.display()
            )));
        }
        let copied = Content::Copied {
            root: group.root,
            entry,
            attributes,
            links: group.links,
        };
        self.put(real, copied)
    }

    /// Puts a file to `real`, in place of another one.
    fn put(&mut self, real: &Path, content: Content<'a>) -> Result<(), Error> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::Source(
                "cannot replace the root directory with a file".to_owned(),
            ));
        };
        let id = self.known_dir(parent)?;
        let is_dir = match self.child(id, name) {
            Some(child) => {
                let is_dir = matches!(self.nodes[child], Content::Dir { .. });
                if !is_dir {
                    self.nodes[child] = content;
                    return Ok(());
                }
                is_dir
            }
            None => self.lower_child(id, parent, name)? == Some(FileType::Directory),
        };
        if is_dir {
            return Err(Error::Source(format!(
                "cannot replace directory /{} with a file",
                real.display()
            )));
        }
        self.add(id, name, content);
        Ok(())
    }

    /// A directory below the top of what is copied: an existing one takes the source's attributes, as in BuildKit.
    fn put_dir(
        &mut self,
        group: &Group<'a>,
        entry: &Entry,
        real: &Path,
        mut attributes: Attributes,
    ) -> Result<(), Error> {
        let (Some(parent), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(Error::internal("a copied directory has a name"));
        };
        attributes.xattrs = group
            .root
            .open_dir(&entry.real)
            .map(xattrs)
            .unwrap_or_default()
            .into_iter()
            .collect();
        let parent_id = self.known_dir(parent)?;
        let id = match self.child(parent_id, name) {
            Some(child) => child,
            None => self.new_dir(parent_id, real, &attributes, None)?,
        };
        let Content::Dir {
            attributes: existing, ..
        } = &mut self.nodes[id]
        else {
            return Err(cannot_copy_to_non_directory(real));
        };
        let mut kept = std::mem::take(&mut existing.xattrs);
        kept.extend(attributes.xattrs);
        *existing = Attributes {
            xattrs: kept,
            ..attributes
        };
        Ok(())
    }

    /// Makes `real` (free of links) and its parents part of the layer; those that are not there yet are made with `made`.
    fn make_dirs(&mut self, real: &Path, made: &Attributes) -> Result<usize, Error> {
        let mut id = 0;
        let mut path = PathBuf::new();
        for name in real {
            path.push(name);
            id = match self.child(id, name) {
                Some(child) if matches!(self.nodes[child], Content::Dir { .. }) => child,
                Some(_) => return Err(cannot_copy_to_non_directory(&path)),
                None => self.new_dir(id, &path, made, self.lends)?,
            };
        }
        Ok(id)
    }

    /// Adds the directory `real` that is not in the layer yet: as it is below, or as `lends` has it, or else with `made`.
    fn new_dir(
        &mut self,
        parent: usize,
        real: &Path,
        made: &Attributes,
        lends: Option<&Lowers>,
    ) -> Result<usize, Error> {
        let (dir, name) = (real.parent().unwrap_or(Path::new("")), real.file_name());
        let name = name.ok_or_else(|| Error::internal("a directory to make has a name"))?;
        if real.as_os_str().len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG).at(real);
        }
        let lower = match self.lower_child(parent, dir, name)? {
            Some(FileType::Directory) => true,
            Some(_) => return Err(cannot_copy_to_non_directory(real)),
            None => false,
        };
        let state = match (lower, lends) {
            (true, _) => self.below.dir(real).at(real)?,
            (false, Some(base)) => base.dir(real).at(real)?,
            (false, None) => None,
        };
        let attributes = match state {
            Some(state) if lower => existing(state),
            // Its time is none of the base's, or any other base would make another layer.
            Some(state) => Attributes {
                mtime: self.now,
                ..existing(state)
            },
            None => made.clone(),
        };
        let content = Content::Dir {
            children: BTreeMap::new(),
            lower,
            attributes,
        };
        Ok(self.add(parent, name, content))
    }

    fn add(&mut self, parent: usize, name: &OsStr, content: Content<'a>) -> usize {
        let id = self.nodes.len();
        self.nodes.push(content);
        if let Content::Dir { children, .. } = &mut self.nodes[parent] {
            children.insert(name.to_owned(), id);
        }
        id
    }

    fn child(&self, id: usize, name: &OsStr) -> Option<usize> {
        match &self.nodes[id] {
            Content::Dir { children, .. } => children.get(name).copied(),
            Content::Copied { .. } | Content::Inline { .. } => None,
        }
    }

    /// What is below at `name` in the directory `dir`, whose node is `id`.
    fn lower_child(&self, id: usize, dir: &Path, name: &OsStr) -> Result<Option<FileType>, Error> {
        if !matches!(self.nodes[id], Content::Dir { lower: true, .. }) {
            return Ok(None);
        }
        let stat = self.below.child(dir, name).at(dir.join(name))?;
        Ok(stat.map(|stat| FileType::from_raw_mode(stat.st_mode)))
    }

    /// The node of a directory that is part of the layer.
    fn known_dir(&mut self, real: &Path) -> Result<usize, Error> {
        if let Some((path, id)) = &self.last
            && path == real
        {
            return Ok(*id);
        }
        let mut id = 0;
        for name in real {
            let child = self.child(id, name);
            id = child.ok_or_else(|| Error::internal("a file's directory comes before it"))?;
        }
        if !matches!(self.nodes[id], Content::Dir { .. }) {
            return Err(cannot_copy_to_non_directory(real));
        }
        self.last = Some((real.to_owned(), id));
        Ok(id)
    }
}

impl Look for Assembly<'_> {
    fn look(&self, real: &Path) -> Result<Option<Seen>, Errno> {
        let mut id = 0;
        for name in real {
            match (self.child(id, name), &self.nodes[id]) {
                (Some(child), _) => id = child,
                (None, Content::Dir { lower: true, .. }) => return self.below.look(real),
                (None, Content::Dir { .. }) => return Ok(None),
                (None, Content::Copied { .. } | Content::Inline { .. }) => return Err(Errno::NOTDIR),
            }
        }
        Ok(Some(match &self.nodes[id] {
            Content::Dir { .. } => Seen::Other(FileType::Directory),
            Content::Inline { .. } => Seen::Other(FileType::RegularFile),
            Content::Copied { entry, .. } => match &entry.kind {
                FileKind::Symlink(target) => Seen::Link(target.clone()),
                _ => Seen::Other(FileType::from_raw_mode(entry.stat.st_mode)),
            },
        }))
    }

    fn open_file(&self, _real: &Path) -> Result<std::fs::File, Errno> {
        Err(Errno::OPNOTSUPP)
    }
}

/// Writes nodes one after the other.
struct Output<'o, 'w> {
    writer: &'o mut LayerWriter<'w>,
    stop: &'o AtomicBool,
    /// The first path of each file with several names.
    links: HashMap<(usize, u64, u64), PathBuf>,
    path: PathBuf,
    changed: bool,
}

impl Output<'_, '_> {
    fn entry(&mut self, name: &OsStr, content: &Content<'_>) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        match content {
            Content::Dir { attributes, .. } => {
                self.path.push(name);
                self.writer.enter(name, attributes)?;
            }
            Content::Inline { bytes, attributes } => self.writer.bytes(name, attributes, bytes)?,
            Content::Copied {
                root,
                entry,
                attributes,
                links,
            } => self.copied(name, root, entry, attributes, *links)?,
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Error> {
        self.path.pop();
        Ok(self.writer.leave()?)
    }

    fn copied(
        &mut self,
        name: &OsStr,
        root: &RootHandle,
        entry: &Entry,
        attributes: &Attributes,
        links: usize,
    ) -> Result<(), Error> {
        if entry.stat.st_nlink > 1 {
            let identity = (links, entry.stat.st_dev, entry.stat.st_ino);
            if let Some(first) = self.links.get(&identity) {
                return Ok(self.writer.hard_link(name, attributes, first)?);
            }
            self.links.insert(identity, self.path.join(name));
        }
        match &entry.kind {
            FileKind::Regular => return self.regular(name, root, entry, attributes),
            FileKind::Symlink(target) => self.writer.symlink(name, attributes, target)?,
            FileKind::Device(kind, number) => {
                let (major, minor) = (rustix::fs::major(*number), rustix::fs::minor(*number));
                let node = if *kind == FileType::BlockDevice {
                    Special::Block(major, minor)
                } else {
                    Special::Character(major, minor)
                };
                self.writer.node(name, attributes, node)?;
            }
            FileKind::Fifo => self.writer.node(name, attributes, Special::Fifo)?,
            FileKind::Socket => self.writer.node(name, attributes, Special::Socket)?,
            FileKind::Directory => return Err(Error::internal("a directory is not copied as a file")),
        }
        Ok(())
    }

    fn regular(
        &mut self,
        name: &OsStr,
        root: &RootHandle,
        entry: &Entry,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let from = root.open_file(&entry.real).at(&entry.real)?;
        let mut attributes = attributes.clone();
        attributes.xattrs = xattrs(&from).into_iter().collect();
        let size = u64::try_from(entry.stat.st_size).unwrap_or(0);
        let written = self.writer.file(name, &attributes, &from, size);
        if self.stop.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let now = rustix::fs::fstat(&from).at(&entry.real)?;
        self.changed |= written? != size || !entry.same_version(&now);
        Ok(())
    }
}

fn existing(state: DirState) -> Attributes {
    Attributes {
        mode: state.stat.st_mode & 0o7777,
        user: state.stat.st_uid,
        group: state.stat.st_gid,
        mtime: mtime(&state.stat),
        xattrs: state.xattrs,
    }
}

fn mtime(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn cannot_copy_to_non_directory(path: &Path) -> Error {
    Error::Source(format!("cannot copy to non-directory: /{}", path.display()))
}
