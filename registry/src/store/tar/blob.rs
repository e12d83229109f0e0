//! The archive of a tree as a byte stream: hashed in one pass, or read as a blob that checks itself.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::super::error::{Error, IoContext, Result};
use super::tree::{Piece, TRAILER, TreeWalk};
use crate::digest::{Algorithm, Digest, Hasher};

const BUFFER: usize = 256 << 10;

/// Digest and size of the archive of the tree at `root`, in one pass and without writing it. Times later than `clamp` are
/// set to it on the way.
pub(crate) fn hash_tree(root: OwnedFd, algorithm: Algorithm, clamp: Option<i64>) -> Result<(Digest, u64)> {
    let mut reader = BlobReader::unverified(root, algorithm, clamp)?;
    let mut buffer = vec![0u8; BUFFER];
    loop {
        if reader.pull(&mut buffer)? == 0 {
            let size = reader.produced;
            let digest = reader
                .hasher
                .take()
                .expect("an unverified reader keeps its hasher")
                .finish();
            return Ok((digest, size));
        }
    }
}

/// What the stream must turn out to be.
#[derive(Debug, Clone)]
struct Expected {
    digest: Digest,
    size: u64,
}

#[derive(Debug)]
enum Current {
    None,
    Bytes { bytes: Vec<u8>, at: usize },
    File { file: File, left: u64, path: PathBuf },
}

/// Regenerates a layer's archive. From offset 0 the whole stream is hashed and compared before its closing zero blocks are
/// handed out; from a later offset, where the bytes before are not read, the total size is compared.
#[derive(Debug)]
pub(crate) struct BlobReader {
    walk: TreeWalk,
    current: Current,
    hasher: Option<Hasher>,
    expected: Option<Expected>,
    /// Bytes of the archive so far, skipped ones included.
    produced: u64,
    skip: u64,
}

impl BlobReader {
    fn unverified(root: OwnedFd, algorithm: Algorithm, clamp: Option<i64>) -> Result<Self> {
        Ok(Self {
            walk: TreeWalk::new(root, clamp)?,
            current: Current::None,
            hasher: Some(algorithm.hasher()),
            expected: None,
            produced: 0,
            skip: 0,
        })
    }

    /// A reader of the archive of the tree at `root`, which must hash to `digest` and have `size` bytes, from `offset`.
    pub(crate) fn new(root: OwnedFd, digest: Digest, size: u64, offset: u64) -> Result<Self> {
        let hasher = (offset == 0).then(|| digest.algorithm().hasher());
        Ok(Self {
            walk: TreeWalk::new(root, None)?,
            current: Current::None,
            hasher,
            expected: Some(Expected { digest, size }),
            produced: 0,
            skip: offset,
        })
    }

    fn load(&mut self) -> Result<bool> {
        let Some(piece) = self.walk.next_piece()? else {
            return Ok(false);
        };
        self.current = match piece {
            Piece::Bytes(bytes) => Current::Bytes { bytes, at: 0 },
            Piece::File { fd, size, path } => Current::File {
                file: File::from(fd),
                left: size,
                path,
            },
            Piece::End => {
                self.verify()?;
                Current::Bytes {
                    bytes: vec![0; TRAILER],
                    at: 0,
                }
            }
        };
        self.apply_skip()?;
        Ok(true)
    }

    fn apply_skip(&mut self) -> Result<()> {
        if self.skip == 0 {
            return Ok(());
        }
        let skipped = match &mut self.current {
            Current::None => 0,
            Current::Bytes { bytes, at } => {
                let step = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                *at += step;
                step as u64
            }
            Current::File { file, left, path } => {
                let step = self.skip.min(*left);
                file.seek(SeekFrom::Start(step)).at(path)?;
                *left -= step;
                step
            }
        };
        self.skip -= skipped;
        self.produced += skipped;
        Ok(())
    }

    /// Runs when everything but the trailer has been produced.
    fn verify(&mut self) -> Result<()> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let size = self.produced + TRAILER as u64;
        if let Some(mut hasher) = self.hasher.take() {
            hasher.update(&[0; TRAILER]);
            let got = hasher.finish();
            if got != expected.digest {
                return Err(Error::DigestMismatch {
                    expected: expected.digest.clone(),
                    got,
                });
            }
        } else if size != expected.size {
            return Err(Error::Damaged(format!(
                "layer {} has {size} bytes, {} recorded",
                expected.digest, expected.size
            )));
        }
        Ok(())
    }

    fn pull(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut filled = 0;
        while filled < buffer.len() {
            let room = &mut buffer[filled..];
            let step = match &mut self.current {
                Current::None => 0,
                Current::Bytes { bytes, at } => {
                    let step = room.len().min(bytes.len() - *at);
                    room[..step].copy_from_slice(&bytes[*at..*at + step]);
                    *at += step;
                    step
                }
                Current::File { left: 0, .. } => 0,
                Current::File { file, left, path } => {
                    let want = usize::try_from(*left).unwrap_or(usize::MAX).min(room.len());
                    let step = loop {
                        match file.read(&mut room[..want]) {
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            other => break other.at(&path)?,
                        }
                    };
                    if step == 0 {
                        return Err(Error::Damaged(format!(
                            "{} became shorter while it was read",
                            path.display()
                        )));
                    }
                    *left -= step as u64;
                    step
                }
            };
            if step == 0 {
                self.current = Current::None;
                if !self.load()? {
                    break;
                }
                continue;
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&room[..step]);
            }
            self.produced += step as u64;
            filled += step;
        }
        Ok(filled)
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pull(buffer).map_err(io::Error::from)
    }
}
