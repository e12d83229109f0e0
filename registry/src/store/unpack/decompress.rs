//! Finds the compression of a layer by its first bytes.

use std::io::{BufRead, BufReader, Read};

use super::super::error::{Error, Result};

/// Memory that a stream may ask an xz decoder for; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;

/// The plain bytes of an archive that somebody gives by hand: gzip, zstd, bzip2, xz or none, as its first bytes tell.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn decompress_archive<'a>(archive: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    decompress(archive, true)
}

/// Wraps `archive` in the decoder that its magic number asks for. Several gzip members or zstd frames in a row are one
/// stream, as `gzip` and `zstd` themselves read them. bzip2 and xz are no formats of layers; they are read where `import`
/// says that any archive is.
pub(crate) fn decompress<'a>(archive: impl Read + 'a, import: bool) -> Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(256 << 10, archive);
    // A first read may be short; magic numbers need at most six bytes.
    let mut head = Vec::with_capacity(6);
    let mut rest = (&mut input).take(6);
    rest.read_to_end(&mut head)
        .map_err(|error| Error::Archive(error.to_string()))?;
    let input = BufReader::with_capacity(256 << 10, std::io::Cursor::new(head.clone()).chain(input));
    match head.as_slice() {
        [] => Err(Error::Archive("empty".into())),
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => zstd(input),
        [b'B', b'Z', b'h', ..] if import => Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(input))),
        [0xfd, b'7', b'z', b'X', b'Z', 0] if import => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags);
            let stream = stream.map_err(|error| Error::Archive(error.to_string()))?;
            Ok(Box::new(liblzma::bufread::XzDecoder::new_stream(input, stream)))
        }
        [b'B', b'Z', b'h', ..] => Err(Error::Archive("unsupported compression bzip2".into())),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Err(Error::Archive("unsupported compression xz".into())),
        _ => Ok(Box::new(input)),
    }
}

fn zstd<'a>(input: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let decoder = zstd::stream::read::Decoder::with_buffer(input);
    Ok(Box::new(
        decoder.map_err(|error| Error::Archive(error.to_string()))?,
    ))
}
