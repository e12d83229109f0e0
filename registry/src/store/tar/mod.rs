//! The layer archive format, both ways: a deterministic writer over a directory tree ([`tree`], [`encode`], [`blob`]) and a
//! bounded streaming parser of foreign archives ([`decode`], [`number`], [`pax`], [`sparse`]).
//!
//! The `tar` crate is not used to parse: it reads PAX and GNU long-name records of any length into memory, does not know
//! the PAX sparse formats, and would leave the precedence of sizes to chance. Precedence here is that of Go's
//! `archive/tar`, which every other tool of the container world uses.

pub(crate) mod blob;
pub(crate) mod decode;
pub(crate) mod encode;
mod number;
mod pax;
mod sparse;
pub(crate) mod tree;
pub(crate) mod xattr;

/// Size of a tar block.
pub(crate) const BLOCK: usize = 512;

/// Prefix of whiteout names (OCI image-spec `layer.md`, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Name that marks a directory as opaque.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// Bytes that fill `size` up to a whole block.
pub(crate) fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
