//! Which ids a user namespace has.

use std::fmt;

use super::subid::Range;

/// One stretch of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    inside: u32,
    outside: u32,
    count: u32,
}

/// The mapping of user or of group ids between a user namespace and its parent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// The user is root; the ranges follow from 1 on.
    pub(super) fn of_user(id: u32, ranges: &[Range]) -> Self {
        let mut extents = vec![Extent {
            inside: 0,
            outside: id,
            count: 1,
        }];
        let mut next: u32 = 1;
        for range in ranges {
            // Nothing fits beyond the largest id, which is not one.
            let count = range.count.min(u32::MAX - 1 - next);
            if count == 0 {
                break;
            }
            extents.push(Extent {
                inside: next,
                outside: range.start,
                count,
            });
            next += count;
        }
        Self(extents)
    }

    /// Reads `/proc/<pid>/uid_map` or `gid_map`; lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        let extent = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
            Some(Extent {
                inside: numbers.next()?.ok()?,
                outside: numbers.next()?.ok()?,
                count: numbers.next()?.ok()?,
            })
        };
        Self(text.lines().filter_map(extent).collect())
    }

    /// User ids of the calling process's namespace; none at all if /proc is not there.
    pub fn of_users() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default())
    }

    /// Group ids of the calling process's namespace.
    pub fn of_groups() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default())
    }

    /// Whether there is such an id inside.
    pub fn contains(&self, id: u32) -> bool {
        self.0
            .iter()
            .any(|extent| id >= extent.inside && id - extent.inside < extent.count)
    }

    /// What the id is called outside.
    pub fn outside(&self, id: u32) -> Option<u32> {
        self.0.iter().find_map(|extent| {
            let offset = id.checked_sub(extent.inside)?;
            (offset < extent.count).then(|| extent.outside + offset)
        })
    }

    /// `inside outside count` of every stretch, as newuidmap(1) takes them and `/proc/<pid>/uid_map` does.
    pub(super) fn numbers(&self) -> Vec<[u32; 3]> {
        self.0
            .iter()
            .map(|extent| [extent.inside, extent.outside, extent.count])
            .collect()
    }
}

/// The ids inside: `0-65536`.
impl fmt::Display for IdMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let mut extents = self.0.clone();
        extents.sort_by_key(|extent| extent.inside);
        for extent in extents {
            let last = extent.inside.saturating_add(extent.count.saturating_sub(1));
            match ranges.last_mut() {
                Some((_, end)) if end.checked_add(1) == Some(extent.inside) => *end = last,
                _ => ranges.push((extent.inside, last)),
            }
        }
        for (index, (first, last)) in ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            if first == last {
                write!(formatter, "{comma}{first}")?;
            } else {
                write!(formatter, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, count: u32) -> Range {
        Range { start, count }
    }

    #[test]
    fn ranges_follow_root() {
        let check = |ranges: &[Range], numbers: &[[u32; 3]], shown: &str| {
            let map = IdMap::of_user(1000, ranges);
            assert_eq!(map.numbers(), numbers);
            assert_eq!(map.to_string(), shown);
        };
        check(&[], &[[0, 1000, 1]], "0");
        check(
            &[range(100_000, 65_536)],
            &[[0, 1000, 1], [1, 100_000, 65_536]],
            "0-65536",
        );
        check(
            &[range(100_000, 10), range(300_000, 5)],
            &[[0, 1000, 1], [1, 100_000, 10], [11, 300_000, 5]],
            "0-15",
        );
        check(
            &[range(1, u32::MAX - 1), range(1, 5)],
            &[[0, 1000, 1], [1, 1, u32::MAX - 2]],
            "0-4294967293",
        );
    }

    #[test]
    fn lookups() {
        let map =
            IdMap::parse("         0       1000          1\n      1     100000      65536\nx\n 70000 5 2\n");
        for (id, outside) in [
            (0, Some(1000)),
            (1, Some(100_000)),
            (65_536, Some(165_535)),
            (65_537, None),
            (70_001, Some(6)),
            (70_002, None),
            (u32::MAX, None),
        ] {
            assert_eq!(
                (map.contains(id), map.outside(id)),
                (outside.is_some(), outside),
                "{id}"
            );
        }
        assert_eq!(map.to_string(), "0-65536, 70000-70001");
        assert_eq!(IdMap::default().to_string(), "");
    }
}
