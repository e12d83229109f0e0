//! Numeric tar fields.

/// A header number: octal text padded with spaces and NULs, or GNU base-256. `None` if malformed or beyond `i64`.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    let &first = field.first()?;
    if first & 0x80 != 0 {
        return base256(field);
    }
    let text = field.trim_ascii_start();
    let end = text
        .iter()
        .position(|&b| b == 0 || b == b' ')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    // Some writers put NULs in front; nothing but padding may follow.
    if digits.is_empty() {
        return rest.iter().all(|&b| b == 0 || b == b' ').then_some(0);
    }
    digits.iter().try_fold(0i64, |value, &b| match b {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(b - b'0')),
        _ => None,
    })
}

/// Two's complement, big endian; the top bit is the marker and the next one the sign.
fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let start: i64 = if negative { -1 } else { 0 };
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let low = if negative {
        i64::from(first) - 0x100
    } else {
        i64::from(first)
    };
    field[1..]
        .iter()
        .try_fold(if negative { low } else { start + low }, |value, &b| {
            value.checked_mul(256)?.checked_add(i64::from(b))
        })
}

/// A decimal PAX number without sign.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A PAX time: seconds with an optional fraction, as seconds and nanoseconds (rounded down).
pub(super) fn time(text: &[u8]) -> Option<(i64, i64)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|&b| b == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanos = (0..9).fold(0i64, |n, i| {
        n * 10 + fraction.get(i).map_or(0, |&b| i64::from(b - b'0'))
    });
    Some(match (negative, nanos) {
        (false, _) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\x00", Some(-256)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(numeric(field), expected, "{field:?}");
        }
    }

    #[test]
    fn pax_times() {
        for (text, expected) in [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.0000000009", Some((0, 0))),
            ("1.1234567891234", Some((1, 123_456_789))),
            ("", None),
            ("1.x", None),
            ("+1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }
}
