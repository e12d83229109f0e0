//! Values as Go's `fmt` prints them, for history entries equal to BuildKit's.

use std::fmt::Write as _;
use std::time::Duration;

/// `%q` of a string.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        escape(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// `%q` of a slice of strings.
pub(super) fn quote_all(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%q` of an integer: a character literal.
pub(super) fn quote_number(number: u32) -> String {
    let mut out = String::from("'");
    escape(
        &mut out,
        char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\'',
    );
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char, quote: char) {
    let short = match c {
        '\x07' => 'a',
        '\x08' => 'b',
        '\x0c' => 'f',
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\x0b' => 'v',
        '\\' => '\\',
        c if c == quote => quote,
        c if is_print(c) => return out.push(c),
        c => {
            let code = u32::from(c);
            // Writing to a String cannot fail.
            let _ = match code {
                0..0x80 => write!(out, "\\x{code:02x}"),
                0x80..0x10000 => write!(out, "\\u{code:04x}"),
                _ => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push('\\');
    out.push(short);
}

/// Go's `unicode.IsPrint` as far as Rust's tables tell: no white space but U+0020, nothing unassigned.
fn is_print(c: char) -> bool {
    if c == ' ' || c == '\'' || c == '"' {
        return true;
    }
    // In front of the character, so that it does not count as a combining one at the start.
    let text = format!("a{c}");
    !c.is_whitespace() && text.escape_debug().count() == 2
}

/// `time.Duration.String`
pub(super) fn duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => ("ns", 1),
        1_000..1_000_000 => ("µs", 1_000),
        1_000_000..1_000_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    if unit != "s" {
        return format!("{}{unit}", decimal(nanos, size));
    }
    let minutes = nanos / (60 * size);
    let seconds = format!("{}s", decimal(nanos % (60 * size), size));
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

fn decimal(value: u128, size: u128) -> String {
    let (whole, part) = (value / size, value % size);
    if part == 0 {
        return whole.to_string();
    }
    let width = size.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_prints() {
        for (text, expected) in [
            ("a b", r#""a b""#),
            ("é\n\u{1}\"\\'", r#""é\n\x01\"\\'""#),
            ("\u{a0}\u{200b}😀\u{301}", "\"\\u00a0\\u200b😀\u{301}\""),
        ] {
            assert_eq!(quote(text), expected);
        }
        for (number, expected) in [
            (0, r"'\x00'"),
            (3, r"'\x03'"),
            (10, r"'\n'"),
            (39, r"'\''"),
            (65, "'A'"),
        ] {
            assert_eq!(quote_number(number), expected);
        }
        for (millis, expected) in [
            (0, "0s"),
            (5_000, "5s"),
            (1_500, "1.5s"),
            (100, "100ms"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        assert_eq!(duration(Duration::from_nanos(1_500)), "1.5µs");
    }
}
