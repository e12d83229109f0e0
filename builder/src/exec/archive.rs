//! Local archives that ADD extracts.

use std::io::Read;

use cooper_registry::store::{Layer, Store};

use crate::build::Error;
use crate::tree::{FileKind, RootHandle, Selection};

const BLOCK: usize = 512;

/// How a file is compressed, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    /// The name of one that cannot be read here.
    Other(&'static str),
}

/// Unpacks the one file of `selection` if it is a tar, compressed or not, into a tree of its own; none if it is anything
/// else, which is copied as it is.
pub(super) fn extract(
    store: &Store,
    root: &RootHandle,
    selection: &Selection,
) -> Result<Option<Layer>, Error> {
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
    let mut start = Vec::new();
    let read = open()?.take(BLOCK as u64).read_to_end(&mut start);
    read.map_err(|error| Error::io(&entry.real, &error))?;
    let block = match compression(&start) {
        Compression::None => start,
        Compression::Gzip => first_block(flate2::read::MultiGzDecoder::new(open()?)),
        Compression::Zstd => {
            first_block(zstd::Decoder::new(open()?).map_err(|error| Error::io(&entry.real, &error))?)
        }
        Compression::Other(name) => {
            let path = entry.real.display();
            return Err(Error::Source(format!(
                "/{path} is compressed with {name}, which ADD cannot extract yet"
            )));
        }
    };
    if !is_tar(&block) {
        return Ok(None);
    }
    Ok(Some(store.import_layer(&mut open()?)?))
}

fn compression(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Other("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Other("xz"),
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
            (b"BZh9", Compression::Other("bzip2")),
            (b"plain", Compression::None),
            (b"", Compression::None),
        ] {
            assert_eq!(compression(start), expected);
        }
    }
}
