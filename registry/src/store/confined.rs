//! A store whose owner is not root: this process is root of a user namespace only.
//!
//! Three things differ on disk, none of them in a layer's archive: overlayfs's marks are `user.overlay.*`, device nodes are
//! empty files with a note of what they stand for, and ids are those of the namespace.

use std::sync::OnceLock;

/// Attribute of an empty file that stands for a device node: `c 1 3`, `b 7 200`. In a user namespace nobody can make
/// nodes, yet a layer's archive must say the same again. Elsewhere the name means nothing.
pub(crate) const DEVICE: &[u8] = b"user.cooper.device";

/// Inode number of the initial user namespace in every kernel (`PROC_USER_INIT_INO`).
const INITIAL: u64 = 0xEFFF_FFFD;

/// Whether this process is in a user namespace other than the initial one. Asked once: processes enter one before they
/// open a store.
pub(crate) fn is_confined() -> bool {
    static CONFINED: OnceLock<bool> = OnceLock::new();
    *CONFINED.get_or_init(|| rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL))
}

/// What the ids of this process's user namespace are outside: `u 0 1000 1, u 1 100000 65536, g 0 1000 1, …` (first inside,
/// first outside, number). Empty in the initial namespace.
pub(crate) fn ids() -> String {
    if !is_confined() {
        return String::new();
    }
    let ranges = |kind: &str, path: &str| {
        let map = std::fs::read_to_string(path).unwrap_or_default();
        let words = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        map.lines()
            .map(|line| format!("{kind} {}", words(line)))
            .collect::<Vec<_>>()
    };
    let mut all = ranges("u", "/proc/self/uid_map");
    all.extend(ranges("g", "/proc/self/gid_map"));
    all.join(", ")
}

/// The value of [`DEVICE`] for a character or else block device.
pub(crate) fn device_note(character: bool, device: (u32, u32)) -> Vec<u8> {
    let kind = if character { 'c' } else { 'b' };
    format!("{kind} {} {}", device.0, device.1).into_bytes()
}

/// Reads [`device_note`] back.
pub(crate) fn parse_device_note(note: &[u8]) -> Option<(bool, (u32, u32))> {
    let text = std::str::from_utf8(note).ok()?;
    let mut words = text.split(' ');
    let character = match words.next()? {
        "c" => true,
        "b" => false,
        _ => return None,
    };
    let device = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some((character, device))
}

/// Why a file cannot be given to `uid` and `gid`, if the reason is that the namespace has no such id.
pub(crate) fn unmapped(uid: u32, gid: u32) -> Option<String> {
    if !is_confined() {
        return None;
    }
    let check = |kind: &str, file: &str, map: &str, id: u32| {
        let map = std::fs::read_to_string(map).ok()?;
        let ranges = ranges(&map);
        if ranges
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&u64::from(id)))
        {
            return None;
        }
        let ranges: Vec<String> = ranges
            .iter()
            .map(|(first, last)| format!("{first}-{last}"))
            .collect();
        Some(format!(
            "{kind} {id} is not one of the ids of this user namespace, {} ({file} gives more)",
            ranges.join(", ")
        ))
    };
    check("user", "/etc/subuid", "/proc/self/uid_map", uid)
        .or_else(|| check("group", "/etc/subgid", "/proc/self/gid_map", gid))
}

/// First and last ids inside, of the lines of user_namespaces(7).
fn ranges(map: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (first, _, count) = (numbers.next()?.ok()?, numbers.next()?, numbers.next()?.ok()?);
        Some((first, (first + count).saturating_sub(1)))
    };
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for (first, last) in map.lines().filter_map(range) {
        match ranges.last_mut() {
            Some(before) if before.1 + 1 == first => before.1 = last,
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_notes() {
        for (note, expected) in [
            (&b"c 1 3"[..], Some((true, (1, 3)))),
            (b"b 7 200", Some((false, (7, 200)))),
            (b"p 0 0", None),
            (b"c 1", None),
            (b"c 1 3 4", None),
            (b"c -1 3", None),
            (b"\xff", None),
            (b"", None),
        ] {
            assert_eq!(parse_device_note(note), expected, "{note:?}");
            if let Some((character, device)) = expected {
                assert_eq!(device_note(character, device), note);
            }
        }
    }

    #[test]
    fn ranges_are_joined() {
        let check = |map: &str, expected: &[(u64, u64)]| assert_eq!(ranges(map), expected);
        check(
            "         0       1000          1\n         1     100000      65536\n",
            &[(0, 65_536)],
        );
        check("0 0 4294967295\n", &[(0, 4_294_967_294)]);
        check("0 1000 1\n5 1 2\n", &[(0, 0), (5, 6)]);
    }
}
