//! Archives that ADD extracts.

use std::fs::File;
use std::io::{self, BufReader, Read};

use cooper_registry::store::{Snapshot, Store};

use crate::build::Error;
use crate::tree::{FileKind, Filter, RootHandle, Selection, select};

const BLOCK: usize = 512;
/// Memory that an xz stream may ask for, as where the archive is unpacked.
const XZ_MEMORY: u64 = 128 << 20;

/// How a file is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// An archive's files, in a scratch directory that is removed with it.
#[derive(Debug)]
pub(super) struct Extracted {
    pub(super) root: RootHandle,
    pub(super) selections: Vec<Selection>,
    _scratch: Snapshot,
}

/// Unpacks the one file of `selection` if it is a tar, compressed or not; none if it is anything else, which is copied as
/// it is.
pub(super) fn extract(
    store: &Store,
    root: &RootHandle,
    selection: &Selection,
) -> Result<Option<Extracted>, Error> {
    let [entry] = selection.entries.as_slice() else {
        return Ok(None);
    };
    if entry.kind != FileKind::Regular {
        return Ok(None);
    }
    let open = || {
        root.open_file(&entry.real).map_err(|errno| Error::File {
            path: entry.real.clone(),
            errno,
        })
    };
    let tar = is_archive(&open).map_err(|error| match error {
        Failure::Open(error) => error,
        Failure::Read(error) => Error::io(&entry.real, &error),
    })?;
    if !tar {
        return Ok(None);
    }
    let scratch = store.unpack_scratch(&mut open()?)?;
    let root = RootHandle::open_host(&scratch.upper())?;
    Ok(Some(Extracted {
        selections: select(&root, "/", Filter::default())?,
        root,
        _scratch: scratch,
    }))
}

/// Why a file could not be looked at.
pub(crate) enum Failure {
    Open(Error),
    Read(io::Error),
}

/// Whether a file, opened anew for each look, is a tar, compressed or not.
pub(crate) fn is_archive(open: &dyn Fn() -> Result<File, Error>) -> Result<bool, Failure> {
    let mut start = Vec::new();
    let file = open().map_err(Failure::Open)?;
    file.take(BLOCK as u64)
        .read_to_end(&mut start)
        .map_err(Failure::Read)?;
    let again = || Ok(BufReader::new(open().map_err(Failure::Open)?));
    let block = match compression(&start) {
        Compression::None => start,
        Compression::Gzip => first_block(flate2::bufread::MultiGzDecoder::new(again()?)),
        Compression::Bzip2 => first_block(bzip2::bufread::MultiBzDecoder::new(again()?)),
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0);
            match stream {
                Ok(stream) => first_block(liblzma::bufread::XzDecoder::new_stream(again()?, stream)),
                Err(error) => return Err(Failure::Read(error.into())),
            }
        }
        Compression::Zstd => match zstd::Decoder::with_buffer(again()?) {
            Ok(decoder) => first_block(decoder),
            Err(error) => return Err(Failure::Read(error)),
        },
    };
    Ok(is_tar(&block))
}

fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// What can be read of the first block; a broken stream is no archive.
fn first_block(reader: impl Read) -> Vec<u8> {
    let mut block = Vec::new();
    match reader.take(BLOCK as u64).read_to_end(&mut block) {
        Ok(_) => block,
        Err(_) => Vec::new(),
    }
}

/// Whether a block is a tar header: its checksum fits.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < BLOCK || block[0] == 0 {
        return false;
    }
    let field = &block[148..156];
    let digits: String = field
        .iter()
        .map(|&b| char::from(b))
        .filter(char::is_ascii_digit)
        .collect();
    let sum: u64 = block[..148]
        .iter()
        .chain(&[b' '; 8])
        .chain(&block[156..])
        .map(|&b| u64::from(b))
        .sum();
    u64::from_str_radix(&digits, 8).is_ok_and(|expected| expected == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_recognised() {
        let mut header = tar::Header::new_ustar();
        header.set_path("a").unwrap();
        header.set_size(0);
        header.set_cksum();
        let good = header.as_bytes().to_vec();
        let mut bad = good.clone();
        bad[0] = b'b';
        for (block, expected) in [
            (good.clone(), true),
            (bad, false),
            (vec![0; 512], false),
            (good[..511].to_vec(), false),
        ] {
            assert_eq!(is_tar(&block), expected);
        }
        for (start, expected) in [
            (&b"\x1f\x8b\x08"[..], Compression::Gzip),
            (b"BZh9", Compression::Bzip2),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"plain", Compression::None),
            (b"", Compression::None),
        ] {
            assert_eq!(compression(start), expected);
        }
    }
}
