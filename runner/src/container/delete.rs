//! Deleting a tree by handle.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories deeper than this are deleted after being moved up, so that the descriptors stay bounded.
const MAX_OPEN: usize = 200;

/// Removes `path` and everything below it, never following a symbolic link and never leaving through a renamed
/// directory: every step is relative to an open directory.
pub(crate) fn delete_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    let name = CString::new(name.as_encoded_bytes())?;
    let Some(root) = open_dir(&parent, &name)? else {
        return Ok(());
    };
    empty(&root, &root, 0)?;
    rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR)?;
    Ok(())
}

fn open_dir(parent: impl AsFd, name: &CString) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn empty(root: &OwnedFd, dir: &OwnedFd, depth: usize) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() != FileType::Directory {
            match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => continue,
                // The file system does not tell types in directory entries.
                Err(Errno::ISDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let Some(child) = open_dir(dir, &name)? else {
            continue;
        };
        if depth >= MAX_OPEN {
            // Deeper trees continue under the root, where `entry` is met again.
            let mut moved = name.to_bytes().to_vec();
            moved.truncate(180);
            moved.extend(format!(".{}", rustix::fs::fstat(&child)?.st_ino).into_bytes());
            rustix::fs::renameat(dir, &name, root, CString::new(moved)?)?;
            continue;
        }
        empty(root, &child, depth + 1)?;
        drop(child);
        rustix::fs::unlinkat(dir, &name, AtFlags::REMOVEDIR)?;
    }
    // Entries that were moved here while it was being read.
    if depth == 0 && Dir::read_from(dir)?.any(|entry| is_real(&entry)) {
        empty(root, dir, 0)
    } else {
        Ok(())
    }
}

fn is_real(entry: &rustix::io::Result<rustix::fs::DirEntry>) -> bool {
    entry
        .as_ref()
        .is_ok_and(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_removed_and_not_followed_and_depth_is_no_limit() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        let deep: std::path::PathBuf = std::iter::once(tree.clone())
            .chain((0..500).map(|_| "d".into()))
            .collect();
        fs::create_dir_all(&deep).unwrap();
        delete_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(outside.join("kept").exists());
        delete_tree(&tree).unwrap();
    }
}
