//! Sizes and times as docker prints them (`docker/go-units`).

use std::time::Duration;

/// Decimal size with four significant digits, as progress and `system df` show it: `1.984MB`.
pub(crate) fn size(bytes: u64) -> String {
    size_with(bytes, 4)
}

/// Decimal size with three significant digits, as the lists show it: `1.98MB`.
pub(crate) fn short_size(bytes: u64) -> String {
    size_with(bytes, 3)
}

#[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
fn size_with(bytes: u64, digits: usize) -> String {
    const UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", general(value, digits), UNITS[unit])
}

/// C's `%.{digits}g` for values below 10 000: significant digits, no trailing zeros, exponent form when rounding
/// reaches `10^digits` (docker shows `1e+03kB` too).
fn general(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exponential = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = exponential.split_once('e').unwrap_or((&exponential, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    match usize::try_from(exponent) {
        Ok(whole) if whole >= digits => format!("{}e+{exponent:02}", trim(mantissa)),
        Ok(whole) => trim(&format!("{value:.*}", digits - 1 - whole)),
        Err(_) => trim(&format!(
            "{value:.*}",
            digits - 1 + exponent.unsigned_abs() as usize
        )),
    }
}

/// Binary size with four digits, as `info` shows memory: `23.54GiB`.
#[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
pub(crate) fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{}{}", general(value, 4), UNITS[unit])
}

/// Rough length of time: `About an hour`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // As docker: hours are rounded, years are not.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2 minutes ago`, from unix seconds.
pub(crate) fn ago(created: i64, now: i64) -> String {
    let elapsed = u64::try_from(now.saturating_sub(created)).unwrap_or(0);
    format!("{} ago", duration(Duration::from_secs(elapsed)))
}

/// Cuts a text to `width` characters, the last of which is then `…`.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The first twelve digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

/// A text in double quotes with Go's escapes, as the COMMAND column shows it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            control if control.is_control() && u32::from(control) < 0x80 => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// Unix seconds as `2026-11-22 07:16:11 +0000 UTC`, as Go prints times.
pub(crate) fn timestamp(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// Unix seconds as RFC 3339 in UTC.
pub(crate) fn rfc3339(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => seconds.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, four, three) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1023, "1.023kB", "1.02kB"),
            (1_984_000, "1.984MB", "1.98MB"),
            (1_500_000, "1.5MB", "1.5MB"),
            (12_345_678, "12.35MB", "12.3MB"),
            (123_456_789, "123.5MB", "123MB"),
            (999_600, "999.6kB", "1e+03kB"),
            (5_368_709_120, "5.369GB", "5.37GB"),
        ] {
            assert_eq!(
                (size(bytes), short_size(bytes)),
                (four.to_owned(), three.to_owned()),
                "{bytes}"
            );
        }
    }

    #[test]
    fn durations() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (729 * 86400, "24 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected, "{seconds}");
        }
        assert_eq!(ago(100, 220), "2 minutes ago");
        assert_eq!(ago(300, 220), "Less than a second ago");
    }

    #[test]
    fn texts() {
        assert_eq!(
            ellipsis("sh -c 'echo hello; sleep 1'", 20),
            "sh -c 'echo hello; …"
        );
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(quote("sh -c \"a\tb\"\u{1}"), "\"sh -c \\\"a\\tb\\\"\\x01\"");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(timestamp(1_795_331_771), "2026-11-22 07:16:11 +0000 UTC");
        assert_eq!(binary_size(25_276_000_000), "23.54GiB");
    }
}
