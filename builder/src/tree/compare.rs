//! Where two unpacked layers differ, as their archives would tell.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Stat, fgetxattr, flistxattr, statat};

use super::entry::{Entry, FileKind, RootHandle, list};
use crate::build::{Error, IoContext as _};

const MAX_DEPTH: usize = 4096;
const XATTR_LIMIT: usize = 64 << 10;

/// What differs about a file, with both values for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeDifference {
    pub(crate) path: PathBuf,
    /// `missing`, `type`, `content`, `mode`, `owner`, `mtime`, `xattr`, `link`, `device`
    pub(crate) what: &'static str,
    pub(crate) left: String,
    pub(crate) right: String,
}

/// The first differences, at most `limit`, in the order of the archive.
pub(crate) fn compare_trees(left: &Path, right: &Path, limit: usize) -> Result<Vec<TreeDifference>, Error> {
    let mut comparison = Comparison {
        left: RootHandle::open_host(left)?,
        right: RootHandle::open_host(right)?,
        links: [HashMap::new(), HashMap::new()],
        found: Vec::new(),
        limit,
    };
    comparison.directory(Path::new(""), 0)?;
    Ok(comparison.found)
}

struct Comparison {
    left: RootHandle,
    right: RootHandle,
    /// First path of each file with several names.
    links: [HashMap<(u64, u64), PathBuf>; 2],
    found: Vec<TreeDifference>,
    limit: usize,
}

impl Comparison {
    fn tell(&mut self, path: &Path, what: &'static str, left: impl Into<String>, right: impl Into<String>) {
        let (left, right) = (left.into(), right.into());
        if left != right {
            self.found.push(TreeDifference {
                path: path.to_owned(),
                what,
                left,
                right,
            });
        }
    }

    fn directory(&mut self, path: &Path, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::internal("a layer is nested too deeply"));
        }
        let (left, right) = (
            self.left.open_dir(path).at(path)?,
            self.right.open_dir(path).at(path)?,
        );
        let names = merge(list(&left).at(path)?, list(&right).at(path)?);
        for (name, in_left, in_right) in names {
            if self.found.len() >= self.limit {
                break;
            }
            let child = path.join(&name);
            if in_left && in_right {
                self.entry(&child, (&left, &right), &name, depth)?;
            } else {
                let said = |there: bool| if there { "present" } else { "missing" };
                self.tell(&child, "missing", said(in_left), said(in_right));
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        (left_dir, right_dir): (&OwnedFd, &OwnedFd),
        name: &OsStr,
        depth: usize,
    ) -> Result<(), Error> {
        let read = |root: &RootHandle, dir: &OwnedFd| {
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).at(path)?;
            Entry::from_stat(root, path.to_owned(), PathBuf::new(), stat)
        };
        let (left, right) = (read(&self.left, left_dir)?, read(&self.right, right_dir)?);
        if kind(&left.kind) != kind(&right.kind) {
            self.tell(path, "type", kind(&left.kind), kind(&right.kind));
            return Ok(());
        }
        match (self.first(0, path, &left.stat), self.first(1, path, &right.stat)) {
            (None, None) => {}
            (one, other) if one == other => return Ok(()),
            (one, other) => {
                let said = |first: Option<PathBuf>| {
                    first.map_or("its own file".to_owned(), |path| {
                        format!("link to {}", path.display())
                    })
                };
                self.tell(path, "link", said(one), said(other));
                return Ok(());
            }
        }
        match (&left.kind, &right.kind) {
            (FileKind::Directory, _) => {
                self.attributes(path, &left, &right)?;
                return self.directory(path, depth + 1);
            }
            (FileKind::Symlink(one), FileKind::Symlink(other)) => {
                self.tell(path, "content", one.to_string_lossy(), other.to_string_lossy());
            }
            (FileKind::Device(_, one), FileKind::Device(_, other)) => {
                self.tell(path, "device", format!("{one:#x}"), format!("{other:#x}"));
            }
            (FileKind::Regular, _) => self.content(path, &left.stat, &right.stat)?,
            _ => {}
        }
        self.attributes(path, &left, &right)
    }

    fn attributes(&mut self, path: &Path, left: &Entry, right: &Entry) -> Result<(), Error> {
        self.tell(
            path,
            "mode",
            format!("{:o}", left.mode()),
            format!("{:o}", right.mode()),
        );
        let owner = |stat: &Stat| format!("{}:{}", stat.st_uid, stat.st_gid);
        self.tell(path, "owner", owner(&left.stat), owner(&right.stat));
        if matches!(left.kind, FileKind::Regular | FileKind::Directory) {
            let (one, other) = (xattrs(&self.left, path)?, xattrs(&self.right, path)?);
            self.tell(path, "xattr", one, other);
        }
        // Archives have whole seconds.
        self.tell(
            path,
            "mtime",
            left.stat.st_mtime.to_string(),
            right.stat.st_mtime.to_string(),
        );
        Ok(())
    }

    fn content(&mut self, path: &Path, left: &Stat, right: &Stat) -> Result<(), Error> {
        if left.st_size != right.st_size {
            self.tell(
                path,
                "content",
                format!("{} bytes", left.st_size),
                format!("{} bytes", right.st_size),
            );
            return Ok(());
        }
        let mut files = [
            self.left.open_file(path).at(path)?,
            self.right.open_file(path).at(path)?,
        ];
        let mut buffers = [vec![0; 64 << 10], vec![0; 64 << 10]];
        let mut offset = 0;
        loop {
            let mut lengths = [0; 2];
            for ((file, buffer), length) in files.iter_mut().zip(&mut buffers).zip(&mut lengths) {
                let limit = buffer.len() as u64;
                let mut rest: &mut [u8] = buffer;
                *length = std::io::copy(&mut file.take(limit), &mut rest)
                    .map_err(|error| Error::io(path, &error))?;
            }
            let (one, other) = (&buffers[0][..], &buffers[1][..]);
            if let Some(at) = one
                .iter()
                .zip(other)
                .position(|(a, b)| a != b)
                .filter(|&at| (at as u64) < lengths[0])
            {
                let said = |byte: u8| format!("{byte:#04x} at byte {}", offset + at as u64);
                let (one, other) = (said(one[at]), said(other[at]));
                self.tell(path, "content", one, other);
                return Ok(());
            }
            if lengths[0] == 0 {
                return Ok(());
            }
            offset += lengths[0];
        }
    }

    /// The path under which this file was met before.
    fn first(&mut self, side: usize, path: &Path, stat: &Stat) -> Option<PathBuf> {
        use rustix::fs::FileType;
        // Overlayfs shares one inode among deletions, which are no links.
        let deletion =
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
        if stat.st_nlink < 2 || deletion || FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return None;
        }
        let links = &mut self.links[side];
        match links.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => Some(first.clone()),
            None => {
                links.insert((stat.st_dev, stat.st_ino), path.to_owned());
                None
            }
        }
    }
}

fn kind(kind: &FileKind) -> &'static str {
    match kind {
        FileKind::Directory => "directory",
        FileKind::Regular => "file",
        FileKind::Symlink(_) => "link",
        FileKind::Device(_, 0) => "deletion",
        FileKind::Device(..) => "device",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    }
}

/// All attributes of a file but the host's labels: `name=hex …`.
fn xattrs(root: &RootHandle, path: &Path) -> Result<String, Error> {
    use rustix::fs::OFlags;
    let file = root
        .open(
            path,
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY,
        )
        .at(path)?;
    let mut names = vec![0; XATTR_LIMIT];
    let Ok(length) = flistxattr(file.as_fd(), &mut names[..]) else {
        return Ok(String::new());
    };
    let mut all = Vec::new();
    for name in names[..length].split(|&b| b == 0) {
        let told =
            name == b"security.capability" || name.starts_with(b"user.") || name == b"trusted.overlay.opaque";
        if !told {
            continue;
        }
        let mut value = vec![0; XATTR_LIMIT];
        if let Ok(length) = fgetxattr(file.as_fd(), name, &mut value[..]) {
            let hex = cooper_registry::digest::to_hex(&value[..length]);
            all.push(format!("{}={hex}", String::from_utf8_lossy(name)));
        }
    }
    all.sort();
    Ok(all.join(" "))
}

/// Both sorted lists as one, and in which of them each name is.
fn merge(left: Vec<OsString>, right: Vec<OsString>) -> Vec<(OsString, bool, bool)> {
    let mut all = Vec::with_capacity(left.len().max(right.len()));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return all,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(one), Some(other)) => one.cmp(other),
        };
        let one = if order.is_le() { left.next() } else { None };
        let other = if order.is_ge() { right.next() } else { None };
        let (in_left, in_right) = (one.is_some(), other.is_some());
        all.extend(one.or(other).map(|name| (name, in_left, in_right)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    type Change = fn(&Path);

    #[test]
    fn first_difference() {
        let cases: [(&str, Change, &str); 9] = [
            ("nothing", |_| {}, ""),
            (
                "content",
                |dir| fs::write(dir.join("d/f"), "twp").unwrap(),
                "d/f content 0x6f at byte 2 | 0x70 at byte 2",
            ),
            (
                "size",
                |dir| fs::write(dir.join("d/f"), "long").unwrap(),
                "d/f content 3 bytes | 4 bytes",
            ),
            (
                "mode",
                |dir| fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o600)).unwrap(),
                "a mode 644 | 600",
            ),
            (
                "missing",
                |dir| fs::remove_file(dir.join("a")).unwrap(),
                "a missing present | missing",
            ),
            (
                "more",
                |dir| fs::create_dir(dir.join("b")).unwrap(),
                "b missing missing | present",
            ),
            (
                "type",
                |dir| {
                    fs::remove_file(dir.join("a")).unwrap();
                    fs::create_dir(dir.join("a")).unwrap();
                },
                "a type file | directory",
            ),
            (
                "link",
                |dir| {
                    fs::remove_file(dir.join("l")).unwrap();
                    symlink("e", dir.join("l")).unwrap();
                },
                "l content a | e",
            ),
            (
                "hard link",
                |dir| {
                    fs::remove_file(dir.join("z")).unwrap();
                    fs::write(dir.join("z"), "one").unwrap();
                },
                "z link link to a | its own file",
            ),
        ];
        for (name, change, expected) in cases {
            let dir = tempfile::tempdir().unwrap();
            let trees = [dir.path().join("left"), dir.path().join("right")];
            for tree in &trees {
                fs::create_dir_all(tree.join("d")).unwrap();
                fs::write(tree.join("a"), "one").unwrap();
                fs::hard_link(tree.join("a"), tree.join("z")).unwrap();
                fs::write(tree.join("d/f"), "two").unwrap();
                symlink("a", tree.join("l")).unwrap();
            }
            change(&trees[1]);
            // Every change here touches times, too: those are compared on their own below.
            let found = compare_trees(&trees[0], &trees[1], 100).unwrap();
            let first = found.iter().find(|found| found.what != "mtime");
            let text = first.map_or(String::new(), |found| {
                format!(
                    "{} {} {} | {}",
                    found.path.display(),
                    found.what,
                    found.left,
                    found.right
                )
            });
            assert_eq!(text, expected, "{name}");
        }
    }
}
