//! Here-documents: finding them in a line and reading their bodies.

use super::ast::Heredoc;
use super::expand::Lexer;
use super::lines::{Lines, LogicalLine, Piece};
use super::span::Span;

/// A `<<WORD` before its body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) name: String,
    pub(super) fd: u32,
    pub(super) expand: bool,
    pub(super) chomp: bool,
}

/// Reads a whole word as the opening of a here-document: digits, `<<`, perhaps `-`, and a word that may be quoted.
///
/// # Errors
/// The message of a quote that is not closed.
pub(super) fn opening(word: &str) -> Result<Option<Opening>, String> {
    let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let Some(rest) = word[digits..].strip_prefix("<<") else {
        return Ok(None);
    };
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace());
    if rest.is_empty() || rest.contains('<') {
        return Ok(None);
    }
    // The delimiter is always lexed with backslashes, whatever the escape directive says.
    let lexer = Lexer {
        keep_unset: true,
        ..Lexer::default()
    };
    let unset = |_: &str| None;
    let plain = lexer.expand(rest, &unset).map_err(|error| error.to_string())?;
    let [name] = plain.words.as_slice() else {
        return Ok(None);
    };
    let raw = Lexer {
        raw_quotes: true,
        ..lexer
    }
    .expand(rest, &unset)
    .map_err(|error| error.to_string())?;
    let quotes = |text: &str| text.matches(['\'', '"']).count();
    let raw_quotes = raw.words.first().map_or(0, |word| quotes(word));
    Ok(Some(Opening {
        fd: word[..digits].parse().unwrap_or(0),
        chomp,
        expand: quotes(name) == raw_quotes,
        name: name.clone(),
    }))
}

/// All openings of a line, in order, each with its place if it could be found.
///
/// # Errors
/// The message of an opening that is broken.
pub(super) fn openings(piece: Piece<'_>) -> Result<Vec<(Opening, std::ops::Range<usize>)>, String> {
    let lexer = Lexer {
        raw_quotes: true,
        raw_escapes: true,
        keep_unset: true,
        ..Lexer::default()
    };
    // A line that does not lex (say an apostrophe in a command) has no here-documents, as in BuildKit.
    let Ok(expanded) = lexer.expand(piece.text, &|_: &str| None) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut from = 0;
    for word in &expanded.words {
        let Some(opening) = opening(word)? else { continue };
        let at = piece.text[from..].find(word.as_str()).map(|i| from + i);
        let range = match at {
            Some(at) => {
                from = at + word.len();
                piece.at + at..piece.at + from
            }
            // Not found means the text was rewritten; looking again for the others could take quadratic time.
            None => {
                from = piece.text.len();
                piece.range()
            }
        };
        found.push((opening, range));
    }
    Ok(found)
}

/// Reads the body of `opening` up to its terminator; none if the file ends first.
pub(super) fn read_body(
    opening: Opening,
    span: Span,
    lines: &mut Lines<'_>,
    invalid: &mut Vec<Span>,
) -> Option<Heredoc> {
    let mut content = String::new();
    let mut body: Option<Span> = None;
    let mut faulty = None;
    for line in lines.by_ref() {
        let text = line.body();
        let candidate = if opening.chomp {
            &text[text.iter().take_while(|&&b| b == b'\t').count()..]
        } else {
            text
        };
        if candidate == opening.name.as_bytes() {
            invalid.extend(faulty);
            let end = line.span(0..0);
            let body = body.map_or(end, |body| body.to(end));
            let Opening {
                name,
                fd,
                expand,
                chomp,
            } = opening;
            return Some(Heredoc {
                name,
                fd,
                expand,
                chomp,
                content,
                span,
                body,
                terminator: line.span(0..text.len()),
            });
        }
        let here = line.span(0..line.raw.len());
        body = Some(body.map_or(here, |body| body.to(here)));
        let mut offset = 0;
        for chunk in line.raw.utf8_chunks() {
            content.push_str(chunk.valid());
            offset += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                faulty.get_or_insert(line.span(offset..offset + chunk.invalid().len()));
                content.push('?');
                offset += chunk.invalid().len();
            }
        }
    }
    None
}

impl LogicalLine {
    /// Whether a here-document could begin in this line at all.
    pub(super) fn may_open_heredoc(&self) -> bool {
        self.text.contains("<<")
    }
}
