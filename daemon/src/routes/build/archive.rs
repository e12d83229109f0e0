//! The tar in a stream that may be compressed.

use std::io::{self, Read};

use cooper_registry::store::decompress_archive;

/// The plain tar in `reader`: compression is undone, by what the stream begins with, not by what it is called. No bytes are
/// no files.
pub(super) fn decompressed<'r>(reader: &'r mut dyn Read) -> io::Result<Box<dyn Read + 'r>> {
    let mut head = [0];
    if reader.read(&mut head)? == 0 {
        return Ok(Box::new(io::empty()));
    }
    decompress_archive(io::Cursor::new(head).chain(reader)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// Of python's `bz2` and `lzma`.
    const BZIP2: [u8; 43] = [
        66, 90, 104, 57, 49, 65, 89, 38, 83, 89, 35, 13, 202, 253, 0, 0, 0, 1, 128, 10, 1, 132, 0, 32, 0, 33,
        131, 65, 154, 1, 83, 11, 139, 185, 34, 156, 40, 72, 17, 134, 229, 126, 128,
    ];
    const XZ: [u8; 64] = [
        253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 22, 0, 0, 0, 116, 47, 229, 163, 1, 0,
        6, 99, 111, 110, 116, 101, 110, 116, 0, 0, 220, 141, 53, 34, 255, 193, 71, 123, 0, 1, 31, 7, 22, 46,
        184, 115, 31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90,
    ];

    #[test]
    fn compressions() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"content").unwrap();
        let gzip = gzip.finish().unwrap();
        let zstd = zstd::encode_all(&b"content"[..], 1).unwrap();
        for (bytes, expected) in [
            (&b"content"[..], Some(&b"content"[..])),
            (&gzip, Some(b"content")),
            (&zstd, Some(b"content")),
            (b"", Some(b"")),
            (b"x", Some(b"x")),
            (&BZIP2, Some(b"content")),
            (&XZ, Some(b"content")),
            (b"BZh9", None),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0, 1], None),
        ] {
            let mut reader = bytes;
            let got = decompressed(&mut reader).and_then(|mut plain| {
                let mut got = Vec::new();
                plain.read_to_end(&mut got).map(|_| got)
            });
            assert_eq!(got.ok().as_deref(), expected, "{bytes:?}");
        }
    }
}
