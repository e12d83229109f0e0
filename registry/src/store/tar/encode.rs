//! Encodes tar headers exactly as Go's `archive/tar` Writer does with an unset format: USTAR when everything fits, else
//! PAX with only the records that are needed, in key order.

use std::collections::BTreeMap;

use super::BLOCK;

const NAME: usize = 100;
const PREFIX: usize = 155;
const MAX_OCTAL_7: u64 = 0o7_777_777;
const MAX_OCTAL_11: u64 = 0o77_777_777_777;

/// Type flags of the entries that the writer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    Regular,
    Hardlink,
    Symlink,
    Char,
    Block,
    Directory,
    Fifo,
}

impl Flag {
    fn byte(self) -> u8 {
        match self {
            Self::Regular => b'0',
            Self::Hardlink => b'1',
            Self::Symlink => b'2',
            Self::Char => b'3',
            Self::Block => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }
}

/// One entry to encode. User and group names are always empty.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'a> {
    /// Path from the root, without leading slash; directories end with one.
    pub(crate) path: &'a [u8],
    pub(crate) flag: Flag,
    /// Permission bits with setuid, setgid, sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of data that follow the header.
    pub(crate) size: u64,
    /// Unix seconds.
    pub(crate) mtime: i64,
    /// Target of a symbolic or hard link.
    pub(crate) link: &'a [u8],
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    /// Extended attributes by full name.
    pub(crate) xattrs: &'a BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The header blocks of `entry`, a PAX header first if one is needed.
pub(crate) fn header(entry: &Entry<'_>) -> Vec<u8> {
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut needs_pax = !entry.xattrs.is_empty();
    let mut record = |key: &str, value: Vec<u8>, pax: bool| {
        records.insert(key.as_bytes().to_vec(), value);
        needs_pax |= pax;
    };
    let split = split_path(entry.path);
    if !entry.path.is_ascii() || entry.path.len() > NAME {
        record("path", entry.path.to_vec(), split.is_none());
    }
    if !entry.link.is_ascii() || entry.link.len() > NAME {
        record("linkpath", entry.link.to_vec(), true);
    }
    for (key, id) in [("uid", entry.uid), ("gid", entry.gid)] {
        if u64::from(id) > MAX_OCTAL_7 {
            record(key, id.to_string().into_bytes(), true);
        }
    }
    if entry.size > MAX_OCTAL_11 {
        record("size", entry.size.to_string().into_bytes(), true);
    }
    let mtime = u64::try_from(entry.mtime)
        .ok()
        .filter(|&mtime| mtime <= MAX_OCTAL_11);
    if mtime.is_none() {
        record("mtime", entry.mtime.to_string().into_bytes(), true);
    }
    for (name, value) in entry.xattrs {
        records.insert([b"SCHILY.xattr.", name.as_slice()].concat(), value.clone());
    }

    let mut out = Vec::with_capacity(BLOCK);
    let (prefix, name) = match split {
        Some(parts) if !needs_pax => parts,
        _ => (&b""[..], entry.path),
    };
    if needs_pax {
        write_pax(&mut out, entry.path, &records);
    }
    let mut block = [0u8; BLOCK];
    put_text(&mut block[..NAME], &to_ascii(name));
    put_octal(&mut block[100..108], u64::from(entry.mode & 0o7777));
    put_octal(&mut block[108..116], fit(entry.uid.into(), MAX_OCTAL_7));
    put_octal(&mut block[116..124], fit(entry.gid.into(), MAX_OCTAL_7));
    put_octal(&mut block[124..136], fit(entry.size, MAX_OCTAL_11));
    put_octal(&mut block[136..148], mtime.unwrap_or(0));
    block[156] = entry.flag.byte();
    put_text(&mut block[157..257], &to_ascii(entry.link));
    put_octal(&mut block[329..337], fit(entry.device.0.into(), MAX_OCTAL_7));
    put_octal(&mut block[337..345], fit(entry.device.1.into(), MAX_OCTAL_7));
    put_text(&mut block[345..500], prefix);
    seal(&mut block);
    out.extend_from_slice(&block);
    out
}

/// Go writes zero where a PAX record carries the real number.
fn fit(value: u64, max: u64) -> u64 {
    if value > max { 0 } else { value }
}

fn write_pax(out: &mut Vec<u8>, path: &[u8], records: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let mut data = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        // The length counts its own digits.
        let mut length = body + decimal_digits(body);
        if decimal_digits(length) + body != length {
            length = body + decimal_digits(length);
        }
        data.extend_from_slice(length.to_string().as_bytes());
        data.push(b' ');
        data.extend_from_slice(key);
        data.push(b'=');
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    let mut block = [0u8; BLOCK];
    let name = pax_name(path);
    let name = &name[..name.len().min(NAME)];
    let end = name.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
    put_text(&mut block[..NAME], &name[..end]);
    for field in [100..108, 108..116, 116..124, 136..148] {
        put_octal(&mut block[field], 0);
    }
    put_octal(&mut block[124..136], data.len() as u64);
    block[156] = b'x';
    seal(&mut block);
    out.extend_from_slice(&block);
    out.extend_from_slice(&data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// `dir/PaxHeaders.0/base`, ASCII only; the form of Go's `path.Join(dir, "PaxHeaders.0", base)`.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let base_at = path.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
    let (dir, base) = path.split_at(base_at);
    let mut name = Vec::new();
    if dir != b"./" {
        name.extend_from_slice(dir);
    }
    name.extend_from_slice(b"PaxHeaders.0");
    if !base.is_empty() {
        name.push(b'/');
        name.extend_from_slice(base);
    }
    to_ascii(&name)
}

/// USTAR's prefix and name, when `path` is longer than the name field and can be cut at a slash.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME || !path.is_ascii() {
        return None;
    }
    let length = if path.len() > PREFIX + 1 {
        PREFIX + 1
    } else if path.ends_with(b"/") {
        path.len() - 1
    } else {
        path.len()
    };
    let slash = path[..length]
        .iter()
        .rposition(|&b| b == b'/')
        .filter(|&at| at > 0)?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (!name.is_empty() && name.len() <= NAME && prefix.len() <= PREFIX).then_some((prefix, name))
}

fn to_ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|&b| b.is_ascii() && b != 0).collect()
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    // Go: a cut name must not end in a slash, some readers would take the entry for a directory.
    if text.len() > field.len() && field.ends_with(b"/") {
        let end = field.iter().rposition(|&b| b != b'/').map_or(0, |last| last + 1);
        if end < field.len() {
            field[end] = 0;
        }
    }
}

/// Zero-padded octal with a closing NUL.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

fn seal(block: &mut [u8; BLOCK]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u64 = block.iter().map(|&b| u64::from(b)).sum();
    put_octal(&mut block[148..155], sum);
    block[155] = b' ';
}

fn decimal_digits(value: usize) -> usize {
    value.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(path: &[u8], size: u64, mtime: i64) -> Vec<u8> {
        header(&Entry {
            path,
            flag: Flag::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime,
            link: b"",
            device: (0, 0),
            xattrs: &BTreeMap::new(),
        })
    }

    #[test]
    fn pax_only_when_needed() {
        let long = [b"d/".repeat(50), b"n".repeat(90)].concat();
        let unsplittable = b"n".repeat(101);
        for (path, size, mtime, blocks) in [
            (&b"a"[..], 0, 0, 1),
            (&long[..], 0, 0, 1),
            (&unsplittable[..], 0, 0, 3),
            (b"\xff", 0, 0, 3),
            ("ä".as_bytes(), 0, 0, 3),
            (b"a", MAX_OCTAL_11, 0, 1),
            (b"a", MAX_OCTAL_11 + 1, 0, 3),
            (b"a", 0, -1, 3),
        ] {
            assert_eq!(
                encode(path, size, mtime).len(),
                blocks * BLOCK,
                "{path:?} {size} {mtime}"
            );
        }
    }

    #[test]
    fn record_length_counts_itself() {
        for value in [1usize, 80, 85, 86, 87, 88, 89, 90, 980, 984, 985, 986, 990, 1000] {
            let mut out = Vec::new();
            let records = BTreeMap::from([(b"path".to_vec(), vec![b'x'; value])]);
            write_pax(&mut out, b"p", &records);
            let data = &out[BLOCK..];
            let space = data.iter().position(|&b| b == b' ').expect("a space");
            let length: usize = std::str::from_utf8(&data[..space])
                .expect("digits")
                .parse()
                .expect("number");
            assert_eq!(data[length - 1], b'\n', "{value}");
            assert!(data[length..].iter().all(|&b| b == 0), "{value}");
        }
    }
}
