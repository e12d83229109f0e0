//! File trees as plain archives.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::fd::OwnedFd;

use crate::store::tar::encode::{Entry, Flag, header};
use crate::store::tar::padding;
use crate::store::tar::tree::{Piece, TreeWalk};
use crate::store::{Error, Result};

const BUFFER: usize = 256 << 10;

/// Writes trees and files as one tar, in the deterministic form of layers.
///
/// Order is the caller's; within a tree it is sorted. Nothing of a file is held in memory.
pub struct TreeArchive<'a> {
    out: &'a mut dyn Write,
    latest: Option<i64>,
}

impl std::fmt::Debug for TreeArchive<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeArchive").finish_non_exhaustive()
    }
}

impl<'a> TreeArchive<'a> {
    /// Writes to `out`; times later than `latest` (unix seconds) become that.
    pub fn new(out: &'a mut dyn Write, latest: Option<i64>) -> Self {
        Self { out, latest }
    }

    /// Adds the tree below `root`, a directory that does not change meanwhile, in the directory `prefix`: empty, or
    /// with a slash at its end.
    ///
    /// # Errors
    /// When the tree cannot be read or `out` takes no more.
    pub fn tree(&mut self, root: OwnedFd, prefix: &str) -> Result<()> {
        let mut walk = TreeWalk::placed(root, prefix.as_bytes(), self.latest)?;
        let mut buffer = vec![0; BUFFER];
        while let Some(piece) = walk.next_piece()? {
            match piece {
                Piece::Bytes(bytes) => self.put(&bytes)?,
                Piece::End => {}
                Piece::File { fd, size, path } => {
                    let mut file = File::from(fd).take(size);
                    let mut left = size;
                    while left > 0 {
                        let got = match file.read(&mut buffer) {
                            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                            other => other,
                        };
                        let got = got.map_err(|error| Error::io(&path, error))?;
                        self.put(&buffer[..got])?;
                        left -= got as u64;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a file of mode 0644 that belongs to root.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let head = header(&Entry {
            path: path.as_bytes(),
            flag: Flag::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: self.latest.unwrap_or(0),
            link: b"",
            device: (0, 0),
            xattrs: &std::collections::BTreeMap::new(),
        });
        self.put(&head)?;
        self.put(bytes)?;
        let padding = usize::try_from(padding(size)).expect("less than a block");
        self.put(&[0; 512][..padding])
    }

    /// Writes the end mark.
    ///
    /// # Errors
    /// When `out` takes no more.
    pub fn finish(self) -> Result<()> {
        let written = self.out.write_all(&[0; 1024]).and_then(|()| self.out.flush());
        written.map_err(|error| Error::io("archive", error))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| Error::io("archive", error))
    }
}
