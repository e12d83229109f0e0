//! The JSON form of instructions: an array of strings.

use serde_json::value::RawValue;

use super::lines::Piece;
use super::words::Lexed;

/// What an argument is when read as JSON.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Json {
    /// Not a JSON array at all, so it is shell form.
    No,
    /// An array of strings, unescaped.
    Strings(Vec<Lexed>),
    /// An array with something else in it, at this range of the logical line.
    OtherElement(std::ops::Range<usize>),
}

/// Reads an argument as a JSON array.
pub(super) fn parse(piece: Piece<'_>) -> Json {
    let piece = piece.trim();
    if !piece.text.starts_with('[') {
        return Json::No;
    }
    let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(piece.text) else {
        return Json::No;
    };
    let mut strings = Vec::with_capacity(elements.len());
    for element in elements {
        let raw = element.get();
        // The raw values borrow from the piece, so the distance of the two is the offset in it.
        let start = piece.at + (raw.as_ptr().addr() - piece.text.as_ptr().addr());
        let range = start..start + raw.len();
        match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(content) => strings.push(Lexed {
                text: unescape(content),
                range,
            }),
            None => return Json::OtherElement(range),
        }
    }
    Json::Strings(strings)
}

/// The text of a valid JSON string. A surrogate without its partner becomes U+FFFD, as in Go; serde_json would refuse it.
fn unescape(content: &str) -> String {
    let mut text = String::with_capacity(content.len());
    let mut units: Vec<u16> = Vec::new();
    let mut chars = content.chars();
    let flush = |units: &mut Vec<u16>, text: &mut String| {
        text.extend(char::decode_utf16(units.drain(..)).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    };
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xfffd));
                    continue;
                }
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        flush(&mut units, &mut text);
        text.push(plain);
    }
    flush(&mut units, &mut text);
    text
}
