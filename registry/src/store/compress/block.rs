//! Compressing one block.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};

use super::coding::{Coding, Format};

/// How far back deflate looks.
const DEFLATE_WINDOW: usize = 32 << 10;
/// A member without time, name or comment, made on an unknown system (RFC 1952), as Go writes it.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty last block with fixed codes: ends the stream after a sync flush.
const DEFLATE_END: [u8; 2] = [3, 0];

/// A stretch of the input on its way.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) number: u64,
    /// What comes before, as far as the format looks back.
    pub(super) before: Vec<u8>,
    pub(super) data: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) crc: Option<Crc>,
}

/// Compresses blocks, one after the other; every thread has its own.
///
/// A block must come out the same whatever was compressed before it. A reset of deflate leaves old bytes in its window, which
/// the hashes of a block's last bytes see, and zstd's middle levels salt their hash tables anew with every use of a context;
/// so these get a new state for every block. zstd's fast levels do not depend on the past.
pub(super) enum Encoder {
    Fresh(Coding),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// The last level of zstd that uses neither salted tables nor statistics.
const LAST_FAST_LEVEL: u8 = 4;

/// What is joined around the blocks.
#[derive(Debug)]
pub(super) struct Frame {
    format: Format,
    crc: Crc,
}

impl Format {
    /// Bytes of input in a block. Part of the format of what is written: another size gives other bytes.
    pub(super) fn block_size(self) -> usize {
        match self {
            Self::Gzip => 512 << 10,
            Self::Zstd => 2 << 20,
        }
    }

    /// Bytes before a block that its encoder wants to see.
    pub(super) fn look_back(self) -> usize {
        match self {
            Self::Gzip => DEFLATE_WINDOW,
            Self::Zstd => 0,
        }
    }
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding.format {
            Format::Zstd if coding.level <= LAST_FAST_LEVEL => Self::Zstd(zstd_context(coding)?),
            _ => Self::Fresh(coding),
        })
    }

    pub(super) fn encode(&mut self, block: &mut Block) -> io::Result<()> {
        match self {
            Self::Zstd(zstd) => encode_zstd(zstd, block),
            Self::Fresh(coding) => match coding.format {
                Format::Zstd => encode_zstd(&mut zstd_context(*coding)?, block),
                Format::Gzip => {
                    let mut crc = Crc::new();
                    crc.update(&block.data);
                    block.crc = Some(crc);
                    let level = Compression::new(u32::from(coding.level));
                    let mut deflate = Compress::new(level, false);
                    if !block.before.is_empty() {
                        deflate.set_dictionary(&block.before).map_err(io::Error::other)?;
                    }
                    sync_flushed(&mut deflate, &block.data, &mut block.out)
                }
            },
        }
    }
}

pub(super) fn zstd_context(coding: Coding) -> io::Result<zstd::bulk::Compressor<'static>> {
    zstd::bulk::Compressor::new(i32::from(coding.level))
}

pub(super) fn encode_zstd(zstd: &mut zstd::bulk::Compressor<'static>, block: &mut Block) -> io::Result<()> {
    block.out.clear();
    block
        .out
        .reserve(zstd::zstd_safe::compress_bound(block.data.len()));
    zstd.compress_to_buffer(&block.data, &mut block.out).map(drop)
}

/// Deflates all of `data` up to a byte boundary. The room for output is a function of `data` too: stored blocks are as long
/// as there is room.
fn sync_flushed(deflate: &mut Compress, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.clear();
    let (mut read, mut written) = (0, 0);
    loop {
        // Enough for the worst case at first, then for a flush that just missed it.
        out.resize(written + data.len() - read + data.len() / 1000 + 1024, 0);
        let (read_before, written_before) = (deflate.total_in(), deflate.total_out());
        deflate
            .compress(&data[read..], &mut out[written..], FlushCompress::Sync)
            .map_err(io::Error::other)?;
        let count = |now: u64, before: u64| usize::try_from(now - before).map_err(io::Error::other);
        read += count(deflate.total_in(), read_before)?;
        written += count(deflate.total_out(), written_before)?;
        if read == data.len() && written < out.len() {
            out.truncate(written);
            return Ok(());
        }
    }
}

impl Frame {
    pub(super) fn new(coding: Coding) -> Self {
        Self {
            format: coding.format,
            crc: Crc::new(),
        }
    }

    /// In front of all blocks.
    pub(super) fn head(&self) -> &'static [u8] {
        match self.format {
            Format::Gzip => &GZIP_HEADER,
            Format::Zstd => &[],
        }
    }

    /// Takes note of the next block.
    pub(super) fn add(&mut self, block: &Block) {
        if let Some(crc) = &block.crc {
            self.crc.combine(crc);
        }
    }

    /// After all blocks.
    pub(super) fn tail(&self) -> Vec<u8> {
        match self.format {
            Format::Gzip => {
                let crc = self.crc.sum().to_le_bytes();
                [&DEFLATE_END[..], &crc, &self.crc.amount().to_le_bytes()].concat()
            }
            Format::Zstd => Vec::new(),
        }
    }
}
