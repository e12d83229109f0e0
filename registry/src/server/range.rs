//! `Range` headers of blob requests (RFC 9110 section 14, with the conformance suite's reading of doubtful ones).

/// More ranges than this in one header are not served as ranges.
const MAX_RANGES: usize = 1024;

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The whole blob: no range, a unit we do not know, or so many bytes that ranges save nothing.
    Whole,
    /// Nothing that exists: 416.
    Unsatisfiable,
    /// First and last byte, inclusive, each within the blob; at least one.
    Ranges(Vec<(u64, u64)>),
}

/// Reads a `Range` header for a blob of `size` bytes.
pub(super) fn parse(header: Option<&str>, size: u64) -> Wanted {
    let Some(list) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    if list.split(',').count() > MAX_RANGES {
        return Wanted::Whole;
    }
    let mut ranges = Vec::new();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match one(item, size) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
            Err(()) => return Wanted::Unsatisfiable,
        }
    }
    if ranges.is_empty() {
        return Wanted::Unsatisfiable;
    }
    // Overlapping ranges would let a small request ask for many times the blob; Go's server answers likewise.
    let asked = ranges
        .iter()
        .map(|(first, last)| last - first + 1)
        .fold(0, u64::saturating_add);
    if ranges.len() > 1 && asked > size {
        Wanted::Whole
    } else {
        Wanted::Ranges(ranges)
    }
}

/// One `a-b`, `a-` or `-n`: `Ok(None)` if it lies outside of the blob, `Err` if it is malformed or backwards.
fn one(item: &str, size: u64) -> Result<Option<(u64, u64)>, ()> {
    let (first, last) = item.split_once('-').ok_or(())?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // A number beyond u64 is beyond every blob.
        if digits {
            Ok(text.parse().unwrap_or(u64::MAX))
        } else {
            Err(())
        }
    };
    if first.is_empty() {
        let count = number(last)?.min(size);
        return Ok((count > 0).then(|| (size - count, size - 1)));
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return Err(());
    }
    Ok((first < size).then(|| (first, last.min(size - 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_ten_byte_blob() {
        let ranges = |list: &[(u64, u64)]| Wanted::Ranges(list.to_vec());
        let many = |count: usize| format!("bytes={}", vec!["0-0"; count].join(","));
        let cases = [
            (None, Wanted::Whole),
            (Some("items=0-1"), Wanted::Whole),
            (Some("bytes=0-0"), ranges(&[(0, 0)])),
            (Some("bytes=9-9"), ranges(&[(9, 9)])),
            (Some("bytes=2-"), ranges(&[(2, 9)])),
            (Some("bytes=-3"), ranges(&[(7, 9)])),
            (Some("bytes=-30"), ranges(&[(0, 9)])),
            (Some("bytes=5-99999999999999999999999"), ranges(&[(5, 9)])),
            (Some("bytes=0-1, 4-5"), ranges(&[(0, 1), (4, 5)])),
            (Some("bytes=0-1,20-30"), ranges(&[(0, 1)])),
            (Some("bytes=0-9,0-9"), Wanted::Whole),
            (Some("bytes=10-"), Wanted::Unsatisfiable),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=5-0"), Wanted::Unsatisfiable),
            (Some("bytes=a-b"), Wanted::Unsatisfiable),
            (Some("bytes="), Wanted::Unsatisfiable),
            (Some("bytes=--1"), Wanted::Unsatisfiable),
            (Some(&many(10)), ranges(&[(0, 0); 10])),
            (Some(&many(100_000)), Wanted::Whole),
        ];
        for (header, expected) in cases {
            assert_eq!(
                parse(header, 10),
                expected,
                "{:?}",
                header.map(|text| &text[..text.len().min(40)])
            );
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
