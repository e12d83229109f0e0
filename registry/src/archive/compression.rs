//! Compressed streams, found by their magic numbers.

use std::io::{self, BufRead, BufReader, Read};

use crate::oci::media_type;
use crate::store;

/// Largest window of a zstd frame, as a power of two: bounds the memory that a stream can ask for to 64 MiB.
const MAX_WINDOW_LOG: u32 = 26;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes of a stream; an error for those that are known but not supported.
    fn sniff(head: &[u8]) -> store::Result<Self> {
        let unsupported = |name: &str| {
            store::Error::Archive(format!(
                "unsupported compression {name}: expected gzip, zstd or none"
            ))
        };
        match head {
            [] => Err(store::Error::Archive("empty".into())),
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(unsupported("bzip2")),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(unsupported("xz")),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(unsupported("lz4")),
            _ => Ok(Self::Plain),
        }
    }

    /// The media type of a layer compressed like this, in Docker's manifests where they have one.
    pub(super) fn layer_type(self) -> &'static str {
        match self {
            Self::Plain => media_type::DOCKER_LAYER,
            Self::Gzip => media_type::DOCKER_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// The plain bytes of a stream, and how it is compressed.
pub(super) fn open<'a>(stream: impl Read + 'a) -> store::Result<(Compression, Box<dyn Read + 'a>)> {
    let mut input = BufReader::with_capacity(256 << 10, stream);
    let mut head = Vec::with_capacity(6);
    // A single read may be short of a magic number.
    input
        .by_ref()
        .take(6)
        .read_to_end(&mut head)
        .map_err(read_error)?;
    let kind = Compression::sniff(&head)?;
    let whole = BufReader::with_capacity(256 << 10, io::Cursor::new(head).chain(input));
    Ok((kind, decoder(kind, whole)?))
}

fn decoder<'a>(kind: Compression, input: impl BufRead + 'a) -> store::Result<Box<dyn Read + 'a>> {
    Ok(match kind {
        Compression::Plain => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).map_err(read_error)?;
            decoder.window_log_max(MAX_WINDOW_LOG).map_err(read_error)?;
            Box::new(decoder)
        }
    })
}

pub(super) fn read_error(error: io::Error) -> store::Error {
    store::Error::Archive(format!("cannot be read: {error}"))
}
