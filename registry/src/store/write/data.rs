//! Contents of the files that a layer writer writes.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{SeekFrom, copy_file_range, ftruncate, seek, tell};
use rustix::io::Errno;

use super::super::error::{Error, IoContext, Result};
use super::writer::LayerWriter;

const BUFFER: usize = 1 << 20;

impl LayerWriter<'_> {
    /// Copies and hashes `size` bytes; fewer if there are no more. Gives their number.
    pub(super) fn copy(&mut self, from: &File, to: &File, size: u64, path: &Path) -> Result<u64> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        let copied = self.copy_range(from, to, size, path, &mut buffer);
        self.buffer = buffer;
        copied
    }

    /// The kernel copies where it can, and what it has written is read from memory for the hash: measured on ext4 this costs
    /// half of what writing from here does. A file system that shares blocks moves nothing at all.
    fn copy_range(
        &mut self,
        mut from: &File,
        mut to: &File,
        size: u64,
        path: &Path,
        buffer: &mut [u8],
    ) -> Result<u64> {
        let mut left = size;
        let mut in_kernel = true;
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::io(path, Errno::CANCELED));
            }
            let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            if in_kernel {
                match copy_file_range(from, None, to, None, want) {
                    // The end, or a file system that claims so (copy_file_range(2), BUGS): reading tells.
                    Ok(0) => in_kernel = false,
                    Ok(got) => {
                        let at = tell(to).at(path)?.saturating_sub(got as u64);
                        to.read_exact_at(&mut buffer[..got], at).at(path)?;
                        self.hash(&buffer[..got]);
                        left -= got as u64;
                    }
                    // Not between these files.
                    Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                        in_kernel = false;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(Error::io(path, errno)),
                }
                continue;
            }
            let got = match from.read(&mut buffer[..want]) {
                Ok(0) => break,
                Ok(got) => got,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::io(path, error)),
            };
            to.write_all(&buffer[..got]).at(path)?;
            self.hash(&buffer[..got]);
            left -= got as u64;
        }
        Ok(size - left)
    }

    /// The same with holes that stay holes.
    pub(super) fn copy_sparse(&mut self, from: &File, to: &File, size: u64, path: &Path) -> Result<u64> {
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                // Nothing but a hole up to the end.
                Err(Errno::NXIO) => size,
                Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
                Err(errno) => return Err(Error::io(path, errno)),
            };
            self.hash_zeros(start - at, path)?;
            if start == size {
                break;
            }
            let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            seek(from, SeekFrom::Start(start)).at(path)?;
            seek(to, SeekFrom::Start(start)).at(path)?;
            let copied = self.copy(from, to, end - start, path)?;
            at = start + copied;
            if copied < end - start {
                return Ok(at);
            }
        }
        ftruncate(to, size).at(path)?;
        Ok(size)
    }

    fn hash_zeros(&mut self, mut left: u64, path: &Path) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.resize(BUFFER, 0);
        while left > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::io(path, Errno::CANCELED));
            }
            let step = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            self.hash(&buffer[..step]);
            left -= step as u64;
        }
        self.buffer = buffer;
        Ok(())
    }
}
