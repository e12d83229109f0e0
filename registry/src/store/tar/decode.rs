//! A streaming tar parser for archives that nobody vouches for: V7, USTAR, GNU and PAX. Every count is bounded, sizes are
//! decided once (the PAX record wins, and a contradiction is an error), names come out as raw bytes and unchecked.

use std::io::{self, Read};

use super::super::error::{Error, Result};
use super::number::{decimal, numeric, time};
use super::pax::Pax;
use super::sparse::{self, Map};
use super::{BLOCK, padding};

/// PATH_MAX of the kernel; no longer name can be made or linked to.
const MAX_PATH: usize = 4096;
/// Bound on one PAX or GNU long-name record. Attribute values are at most 64 KiB each.
const MAX_EXTENDED: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Hardlink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

/// One entry; its data is read with [`TarReader::read_data`].
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Size of the file that the entry makes; holes included.
    pub(crate) size: u64,
    /// Unix seconds and nanoseconds.
    pub(crate) mtime: (i64, i64),
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored data goes, if the file is sparse.
    pub(crate) sparse: Option<Map>,
}

/// The parser.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    inner: R,
    /// Stored data of the current entry not read yet.
    left: u64,
    /// Padding behind it.
    pad: u64,
    last: Vec<u8>,
    require_end: bool,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    /// A parser of `inner`. With `require_end` an archive that stops without its closing zero blocks is truncated; a layer
    /// whose digest is known needs no such proof and Go's reader does not ask for it.
    pub(crate) fn new(inner: R, require_end: bool) -> Self {
        Self {
            inner,
            left: 0,
            pad: 0,
            last: Vec::new(),
            require_end,
            ended: false,
        }
    }

    /// The stream below, positioned behind the archive's end mark once [`TarReader::next_entry`] gave `None`.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// The next entry after skipping what is left of the current one.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>> {
        let mut pax = None;
        let mut long_name = None;
        let mut long_link = None;
        if self.ended {
            return Ok(None);
        }
        loop {
            self.skip_rest()?;
            let Some(block) = self.read_header()? else {
                if pax.is_some() || long_name.is_some() || long_link.is_some() {
                    return Err(Error::Archive(
                        "truncated: an extended header without its entry".into(),
                    ));
                }
                self.ended = true;
                return Ok(None);
            };
            let stored = number(&block[124..136], "size", &block)?;
            match block[156] {
                b'x' | b'X' => {
                    let data = self.read_extended(stored, &block)?;
                    pax =
                        Some(Pax::parse(&data).map_err(|reason| Error::entry(&header_name(&block), reason))?);
                }
                b'g' => drop(self.read_extended(stored, &block)?),
                b'L' => long_name = Some(self.read_long(stored, &block)?),
                b'K' => long_link = Some(self.read_long(stored, &block)?),
                // GNU's volume label.
                b'V' => self.set_data(stored),
                _ => {
                    return self
                        .entry(&block, stored, pax.unwrap_or_default(), long_name, long_link)
                        .map(Some);
                }
            }
        }
    }

    /// Stored data of the current entry; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let got = read_some(&mut self.inner, &mut buffer[..want])?;
        if got == 0 {
            return Err(self.truncated());
        }
        self.left -= got as u64;
        Ok(got)
    }

    fn truncated(&self) -> Error {
        let name = String::from_utf8_lossy(&self.last);
        Error::Archive(format!("truncated in or after entry {name:?}"))
    }

    fn set_data(&mut self, size: u64) {
        self.left = size;
        self.pad = padding(size);
    }

    fn skip_rest(&mut self) -> Result<()> {
        let mut buffer = [0u8; 8192];
        while self.left + self.pad > 0 {
            let want = (self.left + self.pad).min(buffer.len() as u64);
            let want = usize::try_from(want).expect("bounded by the buffer");
            let got = read_some(&mut self.inner, &mut buffer[..want])? as u64;
            if got == 0 {
                return Err(self.truncated());
            }
            let data = got.min(self.left);
            self.left -= data;
            self.pad -= got - data;
        }
        Ok(())
    }

    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = [0u8; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match read_some(&mut self.inner, &mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.truncated()),
                got => filled += got,
            }
        }
        Ok(Some(block))
    }

    fn read_header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let Some(block) = self.read_block()? else {
            return if self.require_end {
                Err(self.truncated())
            } else {
                Ok(None)
            };
        };
        if block == [0; BLOCK] {
            return match self.read_block()? {
                None => Ok(None),
                Some(second) if second == [0; BLOCK] => Ok(None),
                Some(_) => Err(Error::Archive("a lone zero block inside the archive".into())),
            };
        }
        let unsigned: i64 = checksum(&block, i64::from);
        let signed: i64 = checksum(&block, |b| i64::from(i8::from_ne_bytes([b])));
        let sum = numeric(&block[148..156]);
        if sum != Some(unsigned) && sum != Some(signed) {
            let after = String::from_utf8_lossy(&self.last);
            return Err(Error::Archive(if self.last.is_empty() {
                "not a tar archive: bad header checksum".into()
            } else {
                format!("bad header checksum after entry {after:?}")
            }));
        }
        Ok(Some(block))
    }

    fn read_extended(&mut self, size: u64, block: &[u8; BLOCK]) -> Result<Vec<u8>> {
        if size > MAX_EXTENDED {
            return Err(Error::entry(
                &header_name(block),
                format!("extended header of {size} bytes"),
            ));
        }
        self.set_data(size);
        let mut data = vec![0; usize::try_from(size).expect("bounded above")];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.read_data(&mut data[filled..])?;
        }
        Ok(data)
    }

    fn read_long(&mut self, size: u64, block: &[u8; BLOCK]) -> Result<Vec<u8>> {
        let mut data = self.read_extended(size, block)?;
        let end = data.iter().position(|&b| b == 0).unwrap_or(data.len());
        data.truncate(end);
        Ok(data)
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        header_size: u64,
        pax: Pax,
        long_name: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<TarEntry> {
        let mut path = match (pax.get("GNU.sparse.name").or(pax.get("path")), long_name) {
            (Some(path), _) => path.to_vec(),
            (None, Some(name)) => name,
            (None, None) => header_name(block),
        };
        self.last.clone_from(&path);
        let fail = |reason: &str| Error::entry(&self.last, reason);
        let link = match (pax.get("linkpath"), long_link) {
            (Some(link), _) => link.to_vec(),
            (None, Some(link)) => link,
            (None, None) => text(&block[157..257]).to_vec(),
        };
        if path.is_empty() {
            return Err(fail("empty name"));
        }
        if path.len() > MAX_PATH || link.len() > MAX_PATH {
            return Err(Error::entry(
                &self.last[..self.last.len().min(64)],
                "name too long",
            ));
        }
        let kind = match block[156] {
            b'0' | b'7' | 0 | b'S' => Kind::Regular,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Char,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(fail(&format!("unsupported entry type {:?}", char::from(other)))),
        };
        // V7 had no type for directories but the closing slash.
        let kind = if kind == Kind::Regular && path.ends_with(b"/") {
            Kind::Directory
        } else {
            kind
        };
        while path.len() > 1 && path.ends_with(b"/") {
            path.pop();
        }

        let stored = match pax.get("size") {
            None => header_size,
            Some(text) => {
                let size = decimal(text).ok_or_else(|| fail("malformed PAX size"))?;
                // A writer may leave the field empty or, where the number does not fit it, anything.
                if header_size != 0 && header_size != size && size < 1 << 33 {
                    return Err(fail("PAX size contradicts the header size"));
                }
                size
            }
        };
        if stored > i64::MAX as u64 {
            return Err(fail("size out of range"));
        }
        let stored = if kind == Kind::Regular { stored } else { 0 };
        let id = |key: &str, field: &[u8]| -> Result<u32> {
            let value = match pax.get(key) {
                Some(text) => decimal(text),
                None => numeric(field).and_then(|n| u64::try_from(n).ok()),
            };
            let id = value
                .and_then(|n| u32::try_from(n).ok())
                .filter(|&n| n != u32::MAX);
            id.ok_or_else(|| fail(&format!("{key} out of range")))
        };
        let uid = id("uid", &block[108..116])?;
        let gid = id("gid", &block[116..124])?;
        let mtime = match pax.get("mtime") {
            Some(text) => time(text).ok_or_else(|| fail("malformed PAX mtime"))?,
            None => (
                numeric(&block[136..148]).ok_or_else(|| fail("malformed mtime"))?,
                0,
            ),
        };
        let mode = numeric(&block[100..108]).ok_or_else(|| fail("malformed mode"))?;
        let device = match kind {
            Kind::Char | Kind::Block => {
                let part = |field| numeric(field).and_then(|n| u32::try_from(n).ok());
                let (Some(major), Some(minor)) = (part(&block[329..337]), part(&block[337..345])) else {
                    return Err(fail("device number out of range"));
                };
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(fail("device number out of range"));
                }
                (major, minor)
            }
            _ => (0, 0),
        };
        let xattrs = pax.xattrs();
        self.set_data(stored);
        let (size, sparse) = if kind == Kind::Regular {
            self.sparse(block, &pax)?
        } else {
            (0, None)
        };
        Ok(TarEntry {
            path,
            kind,
            mode: u32::try_from(mode & 0o7777).expect("masked"),
            uid,
            gid,
            size,
            mtime,
            link,
            device,
            xattrs,
            sparse,
        })
    }

    /// The size of the file and its map, if it is sparse. Reads the map where it stands in the data.
    fn sparse(&mut self, block: &[u8; BLOCK], pax: &Pax) -> Result<(u64, Option<Map>)> {
        let name = self.last.clone();
        let fail = |reason: &str| Error::entry(&name, reason);
        let (size, map) = if block[156] == b'S' {
            let mut map = Map::new();
            sparse::read_gnu(&mut map, &block[386..482]).map_err(fail)?;
            let mut extended = block[482] != 0;
            let size = number(&block[483..495], "real size", block)?;
            while extended {
                let more = self.read_block()?.ok_or_else(|| self.truncated())?;
                sparse::read_gnu(&mut map, &more[..504]).map_err(fail)?;
                extended = more[504] != 0;
            }
            (size, map)
        } else {
            let real = pax.get("GNU.sparse.realsize").or(pax.get("GNU.sparse.size"));
            let Some(real) = real else {
                return Ok((self.left, None));
            };
            let size = decimal(real).ok_or_else(|| fail("malformed sparse size"))?;
            let map = if pax.get("GNU.sparse.major") == Some(b"1") {
                self.read_map()
                    .map_err(|error| error.unwrap_or_else(|| fail("malformed sparse map")))?
            } else if let Some(list) = pax.get("GNU.sparse.map") {
                sparse::parse_list(list).map_err(fail)?
            } else {
                pax.sparse_pairs.clone()
            };
            (size, map)
        };
        if size > i64::MAX as u64 {
            return Err(fail("size out of range"));
        }
        sparse::validate(&map, size, self.left).map_err(fail)?;
        Ok((size, Some(map)))
    }

    /// The map of PAX format 1.0: decimal lines in front of the data, filled up to a block.
    fn read_map(&mut self) -> Result<Map, Option<Error>> {
        let mut count = None;
        let mut numbers: Vec<u64> = Vec::new();
        let mut digits: Vec<u8> = Vec::new();
        while count.is_none_or(|count| numbers.len() < count) {
            let mut block = [0u8; BLOCK];
            let mut filled = 0;
            while filled < BLOCK {
                match self.read_data(&mut block[filled..])? {
                    0 => return Err(None),
                    got => filled += got,
                }
            }
            for &byte in &block {
                if count.is_some_and(|count| numbers.len() >= count) {
                    break;
                }
                if byte != b'\n' {
                    digits.push(byte);
                    if digits.len() > 20 {
                        return Err(None);
                    }
                    continue;
                }
                let value = decimal(&digits).ok_or(None)?;
                digits.clear();
                if count.is_none() {
                    let fragments = usize::try_from(value)
                        .ok()
                        .filter(|&n| n <= sparse::MAX_FRAGMENTS);
                    count = Some(fragments.ok_or(None)? * 2);
                } else {
                    numbers.push(value);
                }
            }
        }
        Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::Archive(format!("truncated: {error}")));
            }
            Err(error) => return Err(Error::Archive(error.to_string())),
            Ok(got) => return Ok(got),
        }
    }
}

fn checksum(block: &[u8; BLOCK], value: impl Fn(u8) -> i64) -> i64 {
    block
        .iter()
        .enumerate()
        .map(|(at, &b)| if (148..156).contains(&at) { 32 } else { value(b) })
        .sum()
}

fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&b| b == 0).unwrap_or(field.len())]
}

/// The name of the header itself; the prefix counts only in USTAR (GNU keeps times there).
fn header_name(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&block[..100]);
    let prefix = if &block[257..263] == b"ustar\0" {
        text(&block[345..500])
    } else {
        b""
    };
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

fn number(field: &[u8], what: &str, block: &[u8; BLOCK]) -> Result<u64> {
    let value = numeric(field).and_then(|n| u64::try_from(n).ok());
    value.ok_or_else(|| Error::entry(&header_name(block), format!("malformed or negative {what}")))
}
