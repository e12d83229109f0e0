//! The comma separated list of a `--mount`, and values in it, as BuildKit reads them.

use crate::dockerfile::{Diagnostic, Span, Word};

/// One element of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    /// Lower case.
    pub(super) key: String,
    /// What follows the first `=`.
    pub(super) value: Option<String>,
    /// All of it as written.
    pub(super) text: String,
    pub(super) span: Span,
    /// Of the value; of the field if there is none.
    pub(super) value_span: Span,
}

/// Takes a list apart: a line of CSV (RFC 4180), whose elements may be in double quotes.
pub(super) fn fields(word: &Word) -> Result<Vec<Field>, Diagnostic> {
    // Where the flag lost its own quotes, places inside of it are not known.
    let exact = word.text.len() == word.span.len();
    let part = |start: usize, end: usize| {
        if exact {
            Span {
                end: word.span.start + end,
                ..word.span.tail(start)
            }
        } else {
            word.span
        }
    };
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let rest = &word.text[at..];
        let (text, length, quote) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (text, length) = unquote(quoted).ok_or_else(|| {
                    Diagnostic::error(
                        word.span,
                        "failed to parse csv mounts: extraneous or missing \" in a quoted field",
                    )
                })?;
                (text, length + 1, 1)
            }
            None => {
                let length = rest.find(',').unwrap_or(rest.len());
                if rest[..length].contains('"') {
                    let message = "failed to parse csv mounts: bare \" in a field without quotes";
                    return Err(Diagnostic::error(part(at, at + length), message));
                }
                (rest[..length].to_owned(), length, 0)
            }
        };
        let span = part(at, at + length);
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), None),
        };
        let value_span = match &value {
            Some(value) if !value.is_empty() => part(at + quote + key.len() + 1, at + length - quote),
            _ => span,
        };
        found.push(Field {
            key: key.to_lowercase(),
            value,
            span,
            value_span,
            text,
        });
        at += length;
        if at >= word.text.len() {
            return Ok(found);
        }
        at += 1;
    }
}

/// Text up to the closing quote, and the bytes it took with that; the end of the field must follow.
fn unquote(quoted: &str) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if char != '"' {
            text.push(char);
            continue;
        }
        match chars.peek() {
            Some((_, '"')) => {
                chars.next();
                text.push('"');
            }
            None | Some((_, ',')) => return Some((text, at + 1)),
            Some(_) => return None,
        }
    }
    None
}

/// As Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Octal permission bits.
pub(super) fn parse_mode(text: &str) -> Option<u32> {
    let valid = !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| valid && *mode <= 0o7777)
}

pub(super) fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Bytes as docker/go-units' `RAMInBytes`: a number, perhaps with a fraction, and a unit of powers of 1024.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let end = text.rfind(|char: char| char.is_ascii_digit()).map(|at| at + 1)?;
    let (number, unit) = text.split_at(end);
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_lowercase();
    let prefix = match unit.as_str() {
        "" | "b" => "",
        unit => unit
            .strip_suffix("ib")
            .or_else(|| unit.strip_suffix('b'))
            .unwrap_or(unit),
    };
    let power = ["", "k", "m", "g", "t", "p"]
        .iter()
        .position(|known| *known == prefix)?;
    let bytes = number * 1024_f64.powi(i32::try_from(power).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "it is below 2^63, not negative, and the fraction of a byte does not count"
    )]
    let bytes = (bytes < i64::MAX as f64).then_some(bytes as u64);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        Word {
            text: text.to_owned(),
            span: Span {
                start: 10,
                end: 10 + text.len(),
                line: 1,
                column: 11,
            },
        }
    }

    #[test]
    fn lists() {
        for (text, expected) in [
            ("type=bind,TARGET=/x,ro", "type=bind|target=/x|ro"),
            ("target=\"/x\"", "bare"),
            ("\"target=/a,b\",\"x=\"\"y\"\"\"", "target=/a,b|x=\"y\""),
            ("\"a", "missing"),
            ("\"a\"b", "missing"),
            ("", ""),
            ("a=b=c,", "a=b=c|"),
        ] {
            let found = match fields(&word(text)) {
                Ok(list) => list
                    .iter()
                    .map(|field| match &field.value {
                        Some(value) => format!("{}={value}", field.key),
                        None => field.key.clone(),
                    })
                    .collect::<Vec<_>>()
                    .join("|"),
                Err(problem) => problem.message.clone(),
            };
            let same = found == expected
                || (!expected.is_empty() && found.starts_with("failed") && found.contains(expected));
            assert!(same, "{text}: {found}");
        }
        let list = fields(&word("type=bind,target=/x")).unwrap();
        assert_eq!(
            (list[1].span.range(), list[1].value_span.range()),
            (20..29, 27..29)
        );
        assert_eq!(list[1].value_span.column, 28);
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("1", Some(1)),
            ("1k", Some(1024)),
            ("1.5m", Some(3 << 19)),
            ("2GiB", Some(2 << 30)),
            ("2 gb", Some(2 << 30)),
            ("0", Some(0)),
            ("", None),
            ("-1", None),
            ("abc", None),
            ("1x", None),
            ("1e3", None),
            ("99999999p", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(
            (parse_id("7"), parse_id("+7"), parse_id("4294967296")),
            (Some(7), None, None)
        );
        assert_eq!((parse_mode("0400"), parse_mode("0999")), (Some(0o400), None));
        assert_eq!((parse_bool("T"), parse_bool("yes")), (Some(true), None));
    }
}
