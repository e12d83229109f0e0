//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use std::time::Duration;

/// Reads a non-negative duration. A number needs a unit, except zero.
///
/// None if it is malformed, negative, or beyond Go's range of 2^63 nanoseconds.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let whole_length = digits(rest);
        let whole: u128 = if whole_length == 0 {
            0
        } else {
            rest[..whole_length].parse().ok()?
        };
        rest = &rest[whole_length..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let length = digits(after);
            fraction = &after[..length];
            rest = &after[length..];
        }
        if whole_length == 0 && fraction.is_empty() {
            return None;
        }
        let unit_length = rest
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit: u128 = match &rest[..unit_length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_length..];
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // Digits beyond 18 cannot matter: the largest unit has 13.
        let fraction = &fraction[..fraction.len().min(18)];
        if !fraction.is_empty() {
            let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
            total = total.checked_add(fraction.parse::<u128>().ok()? * unit / scale)?;
        }
    }
    let nanoseconds = u64::try_from(total).ok().filter(|&n| i64::try_from(n).is_ok())?;
    (nanoseconds == 0 || !text.starts_with('-')).then(|| Duration::from_nanos(nanoseconds))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_go_durations() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(
                parse(text).map(|d| d.as_nanos()),
                expected.map(u128::from),
                "{text}"
            );
        };
        check("0", Some(0));
        check("5s", Some(5_000_000_000));
        check("1h2m3s", Some(3_723_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check(".5ms", Some(500_000));
        check("1µs", Some(1_000));
        check("-1s", None);
        check("5", None);
        check("", None);
        check("s", None);
        check("1x", None);
        check("9999999999h", None);
    }
}
