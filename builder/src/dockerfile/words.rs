//! Takes the text of an instruction apart: keyword, flags, words.

use super::ast::Escape;
use super::lines::Piece;

/// A word after lexing: its text may lack quotes or escapes that its range in the logical line still covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lexed {
    pub(super) text: String,
    pub(super) range: std::ops::Range<usize>,
}

/// The white space that separates plain words. Unlike Unicode's it has no newline, which cannot occur, nor NBSP.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// First word and the rest without the white space between; the rest is empty if there is one word only.
pub(super) fn split_first<'a>(piece: Piece<'a>) -> (Piece<'a>, Piece<'a>) {
    let end = piece.text.find(is_blank).unwrap_or(piece.text.len());
    let rest = piece.text[end..].trim_start_matches(is_blank);
    (piece.slice(0..end), piece.from(piece.text.len() - rest.len()))
}

/// Words between white space, without any regard for quotes.
pub(super) fn split_blank<'a>(piece: Piece<'a>) -> Vec<Piece<'a>> {
    let mut words = Vec::new();
    let mut rest = piece.trim();
    while !rest.text.is_empty() {
        let (word, after) = split_first(rest);
        words.push(word);
        rest = after;
    }
    words
}

/// Leading words that begin with `--`, up to a bare `--` which is dropped, and the rest.
///
/// Quotes are removed and a backslash takes the next character literally, whatever the escape directive says.
pub(super) fn split_flags<'a>(piece: Piece<'a>) -> (Vec<Lexed>, Piece<'a>) {
    let mut flags = Vec::new();
    let mut at = 0;
    loop {
        at += piece.text[at..].len() - piece.text[at..].trim_start().len();
        if !piece.text[at..].starts_with("--") {
            return (flags, piece.from(at));
        }
        let (text, end) = flag_word(&piece.text[at..]);
        let range = piece.at + at..piece.at + at + end;
        at += end;
        if text == "--" {
            return (flags, piece.from(at));
        }
        flags.push(Lexed { text, range });
    }
}

/// The first flag of `text` without quotes, and its length in the source.
fn flag_word(text: &str) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => word.extend(chars.next().map(|(_, c)| c)),
            c if quote == Some(c) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(c),
            c if quote.is_none() && c.is_whitespace() => return (word, i),
            c => word.push(c),
        }
    }
    (word, text.len())
}

/// Words between white space outside quotes. Quotes and escapes are kept, for expansion removes them later; only an escape
/// character at the very end is dropped.
pub(super) fn split_quoted(piece: Piece<'_>, escape: Escape) -> Vec<Lexed> {
    let escape = escape.char();
    let mut words = Vec::new();
    let mut chars = piece.text.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let mut word = String::new();
        let mut quote: Option<char> = None;
        let mut end = piece.text.len();
        while let Some(&(i, c)) = chars.peek() {
            if quote.is_none() && c.is_whitespace() {
                end = i;
                break;
            }
            chars.next();
            match quote {
                None if c == '\'' || c == '"' => quote = Some(c),
                Some(open) if c == open => quote = None,
                _ => {}
            }
            // Nothing can be escaped between single quotes.
            if c == escape && quote != Some('\'') {
                if let Some((_, next)) = chars.next() {
                    word.push(c);
                    word.push(next);
                }
                continue;
            }
            word.push(c);
        }
        // A word of nothing but the dropped escape character does not count.
        if !word.is_empty() {
            words.push(Lexed {
                text: word,
                range: piece.at + start..piece.at + end,
            });
        }
    }
    words
}
