//! The tar in a stream that may be compressed.

use std::io::{self, Read};

/// Magic numbers of what can be compressed, the longest of six bytes.
const LONGEST: u64 = 6;

/// The plain tar in `reader`: gzip and zstd are undone, by what the stream begins with, not by what it is called.
pub(super) fn decompressed<'r>(reader: &'r mut dyn Read) -> io::Result<Box<dyn Read + 'r>> {
    let mut head = Vec::new();
    reader.take(LONGEST).read_to_end(&mut head)?;
    let unknown = |name: &str| {
        let text =
            format!("the archive is compressed with {name}, which is not understood: use gzip, zstd or none");
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    };
    let whole = |head: Vec<u8>| io::Cursor::new(head).chain(reader);
    match head.as_slice() {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(whole(head)))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Box::new(zstd::Decoder::new(whole(head))?)),
        [b'B', b'Z', b'h', ..] => unknown("bzip2"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unknown("xz"),
        _ => Ok(Box::new(whole(head))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

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
