//! subuid(5) and subgid(5): which ids a user may hand out. No IO but [`read`].

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Largest file that is read.
const MAX_FILE: u64 = 16 << 20;
/// What the kernel takes (`UID_GID_MAP_MAX_EXTENTS`), less the user's own.
const MAX_RANGES: usize = 339;

/// Ids of the parent namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) count: u32,
}

/// The file's content; a missing one is empty.
pub(super) fn read(path: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read gives nobody anything.
        let _ = file.take(MAX_FILE).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The ranges of the user in the file's order; the owner is given by name or by number. Lines that are malformed are
/// skipped, as newuidmap(1) does, and so are ranges that overlap others or the user's own id, which no mapping may hold.
pub(super) fn ranges(text: &str, name: Option<&str>, uid: u32, own: u32) -> Vec<Range> {
    let number = uid.to_string();
    let mut found: Vec<Range> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(owner), Some(start), Some(count), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        if owner != number && Some(owner) != name {
            continue;
        }
        let (Ok(start), Ok(count)) = (start.trim().parse::<u32>(), count.trim().parse::<u32>()) else {
            continue;
        };
        let Some(end) = start.checked_add(count).filter(|_| count > 0) else {
            continue;
        };
        let overlaps = |other: &Range| start < other.start + other.count && other.start < end;
        if (start..end).contains(&own) || found.iter().any(overlaps) || found.len() >= MAX_RANGES {
            continue;
        }
        found.push(Range { start, count });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_user() {
        let check = |text: &str, expected: &[(u32, u32)]| {
            let got: Vec<_> = ranges(text, Some("ann"), 1000, 1000)
                .iter()
                .map(|range| (range.start, range.count))
                .collect();
            assert_eq!(got, expected, "{text:?}");
        };
        check("", &[]);
        check("ann:100000:65536\n", &[(100_000, 65_536)]);
        check(
            "anna:1:2\nann:100000:10\n1000:200000:5\n",
            &[(100_000, 10), (200_000, 5)],
        );
        check(
            "ann:100000\nann:x:1\nann:1:0\nann:1:2:3\nann:4294967295:2\n# ann\n",
            &[],
        );
        check(
            "ann:100000:10\nann:100005:10\nann:100010:1\n",
            &[(100_000, 10), (100_010, 1)],
        );
        check("ann:900:200\n", &[]);
    }
}
