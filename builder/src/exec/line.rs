//! The beginning of a file's line in the key of a COPY.

use std::fmt::Write as _;

/// The name as Rust quotes it, mode, owner; and the name's bytes where it is no text. Contexts have a hundred thousand files
/// and almost all names are plain, so those are not formatted but copied.
pub(super) fn start(name: &[u8], mode: u32, user: u32, group: u32) -> String {
    let mut line = String::with_capacity(name.len() + 112);
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    // Writing to a String cannot fail.
    match std::str::from_utf8(name) {
        Ok(text) if name.iter().all(is_plain) => {
            line.push('"');
            line.push_str(text);
            line.push('"');
        }
        _ => {
            let _ = write!(line, "{:?}", String::from_utf8_lossy(name));
        }
    }
    line.push(' ');
    octal(&mut line, mode);
    if user == 0 && group == 0 {
        line.push_str(" 0:0");
    } else {
        let _ = write!(line, " {user}:{group}");
    }
    if std::str::from_utf8(name).is_err() {
        let _ = write!(line, " {}", cooper_registry::digest::to_hex(name));
    }
    line
}

fn octal(line: &mut String, mode: u32) {
    let digits = (32 - mode.leading_zeros()).div_ceil(3).max(1);
    for digit in (0..digits).rev() {
        line.push(char::from_digit(mode >> (3 * digit) & 7, 8).unwrap_or('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of earlier versions stay what they are.
    #[test]
    fn as_formatted() {
        for name in [
            "",
            "a",
            "a b's~/ü",
            "quo\"te",
            "back\\slash",
            "new\nline",
            "\u{7f}",
            "tab\t",
        ] {
            for (mode, user, group) in [
                (0o100_644, 0, 0),
                (0o40_755, 0, 7),
                (0, 5, 0),
                (7, 0, 0),
                (0o1, 1, 1),
                (u32::MAX, 9, 9),
            ] {
                let expected = format!("{name:?} {mode:o} {user}:{group}");
                assert_eq!(start(name.as_bytes(), mode, user, group), expected);
            }
        }
        assert_eq!(start(b"\xff", 0o644, 1, 2), "\"\u{fffd}\" 644 1:2 ff");
    }
}
