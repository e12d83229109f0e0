//! Maps of sparse entries: the old GNU header and the PAX formats 0.0, 0.1 and 1.0 (GNU tar manual, "Sparse Formats").

use super::number::{decimal, numeric};

/// More fragments than this are refused.
pub(super) const MAX_FRAGMENTS: usize = 1 << 20;

/// Where the stored data of a sparse file belongs: (offset, length) in ascending order.
pub(crate) type Map = Vec<(u64, u64)>;

/// Appends the 24-byte map entries of a GNU header or extension block.
pub(super) fn read_gnu(map: &mut Map, entries: &[u8]) -> Result<(), &'static str> {
    for entry in entries.chunks_exact(24) {
        if entry[0] == 0 || entry[12] == 0 {
            break;
        }
        let number = |field| {
            numeric(field)
                .and_then(|n| u64::try_from(n).ok())
                .ok_or("malformed sparse map")
        };
        map.push((number(&entry[..12])?, number(&entry[12..])?));
        if map.len() > MAX_FRAGMENTS {
            return Err("too many sparse fragments");
        }
    }
    Ok(())
}

/// The comma-separated map of PAX format 0.1.
pub(super) fn parse_list(text: &[u8]) -> Result<Map, &'static str> {
    let numbers: Option<Vec<u64>> = text.split(|&b| b == b',').map(decimal).collect();
    let numbers = numbers
        .filter(|n| n.len() % 2 == 0)
        .ok_or("malformed sparse map")?;
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Checks that `map` is ascending, inside `size`, and accounts for exactly `stored` bytes of data.
pub(super) fn validate(map: &Map, size: u64, stored: u64) -> Result<(), &'static str> {
    if map.len() > MAX_FRAGMENTS {
        return Err("too many sparse fragments");
    }
    let mut end = 0u64;
    let mut total = 0u64;
    for &(offset, length) in map {
        let next = offset.checked_add(length).ok_or("sparse map out of range")?;
        if offset < end || next > size {
            return Err("sparse map out of range");
        }
        end = next;
        total += length;
    }
    if total == stored {
        Ok(())
    } else {
        Err("sparse map does not match the stored data")
    }
}
