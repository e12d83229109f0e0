//! Where the stream of a mount's files is cut. No IO.

use cooper_registry::digest::Algorithm;

/// Files larger than this have packs of their own, of this size.
pub(super) const PIECE: u64 = 4 << 20;
/// A pack with less is not cut.
const LEAST: u64 = 512 << 10;
/// A pack with more is.
const MOST: u64 = 8 << 20;
/// One in so many files ends a pack.
const ONE_IN: u8 = 32;

/// Part of a file, which is named by its number among all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Cuts files, given as number, name and size, into packs.
pub(super) fn cut<'a>(files: impl Iterator<Item = (usize, &'a [u8], u64)>) -> Vec<Vec<Piece>> {
    let mut packs = Vec::new();
    let mut pack: Vec<Piece> = Vec::new();
    let mut size = 0;
    for (file, name, length) in files.filter(|(_, _, length)| *length > 0) {
        if length > PIECE {
            if !pack.is_empty() {
                packs.push(std::mem::take(&mut pack));
                size = 0;
            }
            let mut offset = 0;
            while offset < length {
                let length = PIECE.min(length - offset);
                packs.push(vec![Piece { file, offset, length }]);
                offset += length;
            }
            continue;
        }
        pack.push(Piece {
            file,
            offset: 0,
            length,
        });
        size += length;
        if size >= MOST || (size >= LEAST && ends_pack(name)) {
            packs.push(std::mem::take(&mut pack));
            size = 0;
        }
    }
    if !pack.is_empty() {
        packs.push(pack);
    }
    packs
}

fn ends_pack(name: &[u8]) -> bool {
    let mut hasher = Algorithm::Sha256.hasher();
    hasher.update(name);
    let digest = hasher.finish();
    let first = u8::from_str_radix(&digest.hex()[..2], 16).unwrap_or(1);
    first.is_multiple_of(ONE_IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_stay_where_they_are() {
        let names: Vec<String> = (0..20_000).map(|i| format!("dir{}/file{i}", i / 100)).collect();
        let sizes = |skip: Option<usize>| -> Vec<Vec<(String, u64, u64)>> {
            let files = names.iter().enumerate().filter(|(i, _)| Some(*i) != skip);
            let files = files.map(|(i, name)| {
                let size = if i == 777 {
                    3 * PIECE + 5
                } else {
                    30_000 + (i as u64 * 7919) % 20_000
                };
                (i, name.as_bytes(), size)
            });
            let named = |piece: &Piece| (names[piece.file].clone(), piece.offset, piece.length);
            cut(files)
                .iter()
                .map(|pack| pack.iter().map(named).collect())
                .collect()
        };
        let all = sizes(None);
        let total: u64 = all.iter().flatten().map(|piece| piece.2).sum();
        assert!(total > 700 << 20 && all.len() < 800, "{total} {}", all.len());
        assert!(
            all.iter()
                .all(|pack| pack.iter().map(|piece| piece.2).sum::<u64>() <= MOST + PIECE)
        );
        let without = sizes(Some(10_000));
        let changed = without.iter().filter(|pack| !all.contains(pack)).count();
        assert!((1..=3).contains(&changed), "{changed}");
    }
}
