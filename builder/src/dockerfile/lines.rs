//! Physical lines, and the logical lines that continuations join them to.

use super::ast::Escape;
use super::diagnostic::Diagnostic;
use super::span::Span;

/// Goes through the lines of a file, each with its line ending.
#[derive(Debug)]
pub(super) struct Lines<'a> {
    source: &'a [u8],
    at: usize,
    number: usize,
}

/// One line as it stands in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Its bytes with the line ending.
    pub(super) raw: &'a [u8],
    /// Offset of the first byte in the file.
    pub(super) start: usize,
    /// From 1.
    pub(super) number: usize,
    /// Bytes in front of `raw` on the same line (a byte order mark).
    pub(super) skipped: usize,
}

impl<'a> Lines<'a> {
    pub(super) fn new(source: &'a [u8]) -> Self {
        Self {
            source,
            at: 0,
            number: 0,
        }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    fn next(&mut self) -> Option<Line<'a>> {
        let mut start = self.at;
        let rest = &self.source[start..];
        if rest.is_empty() {
            return None;
        }
        let end = rest
            .iter()
            .position(|&b| b == b'\n')
            .map_or(self.source.len(), |i| start + i + 1);
        self.at = end;
        self.number += 1;
        let mut skipped = 0;
        if self.number == 1 && rest.starts_with(b"\xef\xbb\xbf") {
            skipped = 3;
            start += skipped;
        }
        Some(Line {
            raw: &self.source[start..end],
            start,
            number: self.number,
            skipped,
        })
    }
}

impl<'a> Line<'a> {
    /// Without the line ending; every trailing CR and LF counts as such.
    pub(super) fn body(&self) -> &'a [u8] {
        let kept = self
            .raw
            .iter()
            .rposition(|b| !matches!(b, b'\r' | b'\n'))
            .map_or(0, |i| i + 1);
        &self.raw[..kept]
    }

    /// Bytes of leading white space in the sense of Unicode.
    pub(super) fn indent(&self) -> usize {
        let body = self.body();
        let valid = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&body[..error.valid_up_to()]).unwrap_or_default(),
        };
        valid.len() - valid.trim_start().len()
    }

    /// Whether the first character is `#`.
    pub(super) fn is_comment(&self) -> bool {
        self.body().get(self.indent()) == Some(&b'#')
    }

    pub(super) fn is_blank(&self) -> bool {
        self.indent() == self.body().len()
    }

    /// The span of `range`, offsets within the line.
    pub(super) fn span(&self, range: std::ops::Range<usize>) -> Span {
        Span {
            start: self.start + range.start,
            end: self.start + range.end,
            line: self.number,
            column: self.skipped + range.start + 1,
        }
    }
}

/// Length of `body` without its line continuation, or none if the line ends here.
///
/// As in BuildKit, two escape characters in front of the end are no continuation, nor are three.
fn continued(body: &[u8], escape: Escape) -> Option<usize> {
    let escape = escape.byte();
    let end = body.iter().rposition(|b| !matches!(b, b' ' | b'\t'))?;
    (body[end] == escape && (end == 0 || body[end - 1] != escape)).then_some(end)
}

/// An instruction's text with its continuations joined, and where each part of it came from.
#[derive(Debug)]
pub(super) struct LogicalLine {
    pub(super) text: String,
    /// First blank line among the continuations.
    pub(super) blank_continuation: Option<Span>,
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    joined: usize,
    source: Span,
}

impl LogicalLine {
    /// Joins `first` with the lines it continues on, which are taken from `lines`.
    ///
    /// Bytes that are not UTF-8 are reported once a line and replaced by `?`, so offsets stay true.
    pub(super) fn join(
        first: Line<'_>,
        lines: &mut Lines<'_>,
        escape: Escape,
        problems: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut line = Self {
            text: String::new(),
            blank_continuation: None,
            parts: Vec::new(),
        };
        let mut open = line.append(&first, first.indent(), escape, problems);
        while open {
            let Some(next) = lines.next() else { break };
            if next.is_comment() {
                continue;
            }
            if next.is_blank() {
                line.blank_continuation
                    .get_or_insert_with(|| next.span(0..next.body().len()));
                continue;
            }
            open = line.append(&next, 0, escape, problems);
        }
        line
    }

    /// Adds a physical line from `from` on; true if it asks for another.
    fn append(
        &mut self,
        line: &Line<'_>,
        from: usize,
        escape: Escape,
        problems: &mut Vec<Diagnostic>,
    ) -> bool {
        let body = &line.body()[from..];
        let end = continued(body, escape);
        let kept = end.unwrap_or(body.len());
        self.parts.push(Part {
            joined: self.text.len(),
            source: line.span(from..from + kept),
        });
        let mut faulty = None;
        let mut offset = from;
        for chunk in body[..kept].utf8_chunks() {
            self.text.push_str(chunk.valid());
            offset += chunk.valid().len();
            if !chunk.invalid().is_empty() {
                faulty.get_or_insert(offset..offset + chunk.invalid().len());
                self.text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
                offset += chunk.invalid().len();
            }
        }
        if let Some(range) = faulty {
            let problem = Diagnostic::error(line.span(range), "invalid UTF-8 in an instruction");
            problems.push(problem.with_help("save the file as UTF-8; other encodings are not supported"));
        }
        end.is_some()
    }

    /// The span of a range of [`Self::text`]; a range over several lines covers what lies between them.
    pub(super) fn span(&self, range: std::ops::Range<usize>) -> Span {
        let first = self.part_at(range.start);
        let offset = (range.start - first.joined).min(first.source.len());
        let start = first.source.start + offset;
        let end = if range.is_empty() {
            start
        } else {
            let last = self.part_at(range.end - 1);
            last.source.start + (range.end - last.joined).min(last.source.len())
        };
        Span {
            start,
            end: end.max(start),
            line: first.source.line,
            column: first.source.column + offset,
        }
    }

    /// The whole text, as a piece to take apart.
    pub(super) fn piece(&self) -> Piece<'_> {
        Piece {
            text: &self.text,
            at: 0,
        }
    }

    fn part_at(&self, joined: usize) -> Part {
        let after = self.parts.partition_point(|part| part.joined <= joined);
        self.parts[after.saturating_sub(1)]
    }
}

/// A part of a logical line's text that knows its place in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
}

impl<'a> Piece<'a> {
    pub(super) fn slice(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            at: self.at + range.start,
            text: &self.text[range],
        }
    }

    pub(super) fn from(&self, start: usize) -> Self {
        self.slice(start..self.text.len())
    }

    /// Place in the logical line.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.text.len()
    }

    /// Without Unicode white space on both ends.
    pub(super) fn trim(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        let length = self.text.trim().len();
        self.slice(start..start + length)
    }
}
