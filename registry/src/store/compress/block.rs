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
pub(super) enum Encoder {
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

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
            Format::Gzip => Self::Gzip(Compress::new(Compression::new(u32::from(coding.level)), false)),
            Format::Zstd => Self::Zstd(zstd::bulk::Compressor::new(i32::from(coding.level))?),
        })
    }

    pub(super) fn encode(&mut self, block: &mut Block) -> io::Result<()> {
        block.out.clear();
        match self {
            Self::Gzip(deflate) => {
                let mut crc = Crc::new();
                crc.update(&block.data);
                block.crc = Some(crc);
                deflate.reset();
                if !block.before.is_empty() {
                    deflate.set_dictionary(&block.before).map_err(io::Error::other)?;
                }
                sync_flushed(deflate, &block.data, &mut block.out)
            }
            Self::Zstd(zstd) => {
                block
                    .out
                    .reserve(zstd::zstd_safe::compress_bound(block.data.len()));
                zstd.compress_to_buffer(&block.data, &mut block.out).map(drop)
            }
        }
    }

    /// Bytes that the encoder itself holds, as far as it tells.
    #[cfg(test)]
    pub(super) fn memory(&mut self) -> usize {
        match self {
            Self::Gzip(_) => 0,
            Self::Zstd(zstd) => zstd.context_mut().sizeof(),
        }
    }
}

/// Deflates all of `data` up to a byte boundary.
fn sync_flushed(deflate: &mut Compress, data: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut done = 0;
    loop {
        // Room for the worst case at first, then for a flush that just missed it.
        out.reserve(data.len() - done + data.len() / 1000 + 1024);
        let before = deflate.total_in();
        deflate
            .compress_vec(&data[done..], out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        done += usize::try_from(deflate.total_in() - before).map_err(io::Error::other)?;
        if done == data.len() && out.len() < out.capacity() {
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
