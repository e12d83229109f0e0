//! Prints diagnostics with the source lines and carets they are about.

use std::fmt::Write as _;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};

/// At most this many source lines are shown for one diagnostic.
const MAX_LINES: usize = 6;
/// A longer source line is cut, with the marked part in sight.
const MAX_WIDTH: usize = 160;
/// Columns shown before the marked part of a cut line.
const CONTEXT: usize = 40;
const TAB: usize = 4;

impl Diagnostics {
    /// All diagnostics as plain text for people, each with `filename:line:column`, its source lines and carets under the
    /// exact characters, and its help.
    ///
    /// `source` must be what was parsed. Tabs are shown as four columns, wide characters as two, bytes that are not UTF-8
    /// as U+FFFD, and control characters are replaced, so a hostile file cannot drive the terminal.
    #[must_use]
    pub fn render(&self, source: &[u8], filename: &str) -> String {
        let mut out = String::new();
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            render_one(&mut out, diagnostic, source, filename);
        }
        if self.0.len() >= Self::LIMIT {
            out.push_str("\ntoo many problems, the rest is not shown\n");
        }
        out
    }
}

fn render_one(out: &mut String, diagnostic: &Diagnostic, source: &[u8], filename: &str) {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let rule = diagnostic
        .rule
        .map(|rule| format!("[{rule}]"))
        .unwrap_or_default();
    let span = diagnostic.span;
    // Writing to a String cannot fail, so the results below carry nothing.
    let _ = writeln!(out, "{severity}{rule}: {}", clean(&diagnostic.message));
    let _ = writeln!(out, "  --> {}:{}:{}", clean(filename), span.line, span.column);

    let start = span.start.min(source.len());
    let end = span.end.clamp(start, source.len());
    let lines = marked_lines(source, start, end);
    let gutter = (span.line + lines.len().saturating_sub(1)).to_string().len();
    if !lines.is_empty() {
        let _ = writeln!(out, "{:gutter$} |", "");
    }
    for (i, line) in lines.iter().take(MAX_LINES).enumerate() {
        let (text, carets) = show_line(line);
        let _ = writeln!(out, "{:gutter$} | {}", span.line + i, text.trim_end());
        if !carets.is_empty() {
            let _ = writeln!(out, "{:gutter$} | {carets}", "");
        }
    }
    if lines.len() > MAX_LINES {
        let _ = writeln!(out, "{:>gutter$} | {} more lines", "...", lines.len() - MAX_LINES);
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{:gutter$} = help: {}", "", clean(help));
    }
}

/// One source line and the part of it (byte offsets in the line) to mark.
struct Line<'a> {
    bytes: &'a [u8],
    mark: std::ops::Range<usize>,
}

fn marked_lines(source: &[u8], start: usize, end: usize) -> Vec<Line<'_>> {
    if source.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut at = source[..start]
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |i| i + 1);
    loop {
        let stop = source[at..]
            .iter()
            .position(|&b| b == b'\n')
            .map_or(source.len(), |i| at + i);
        let mut bytes = &source[at..stop];
        if let Some(stripped) = bytes.strip_suffix(b"\r") {
            bytes = stripped;
        }
        let mut from = start.saturating_sub(at).min(bytes.len());
        if start < at {
            from = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
        }
        let to = (end - at.min(end)).min(bytes.len()).max(from);
        lines.push(Line {
            bytes,
            mark: from..to,
        });
        at = stop + 1;
        if at >= end || at > source.len() {
            return lines;
        }
    }
}

/// The line as shown and the carets below it.
fn show_line(line: &Line<'_>) -> (String, String) {
    let Line { bytes, mark } = line;
    let cut = if bytes.len() > MAX_WIDTH {
        boundary(bytes, mark.start.saturating_sub(CONTEXT))
    } else {
        0
    };
    let end = if bytes.len() > cut + MAX_WIDTH {
        boundary(bytes, cut + MAX_WIDTH)
    } else {
        bytes.len()
    };
    let mut text = String::from(if cut > 0 { "..." } else { "" });
    let mut carets = " ".repeat(text.len());
    let mut offset = cut;
    let mut put = |shown: &str, width: usize, length: usize| {
        text.push_str(shown);
        // An empty mark is shown too: at the end of a line something is missing.
        let marked = mark.contains(&offset) || (mark.is_empty() && mark.start == offset);
        carets.push_str(&(if marked { "^" } else { " " }).repeat(width));
        offset += length;
    };
    let mut column = 0;
    for chunk in bytes[cut..end].utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut buffer = [0; 4];
            let (shown, width) = match c {
                '\t' => (&"    "[column % TAB..], TAB - column % TAB),
                '\u{feff}' => ("", 0),
                c if c.is_control() || is_bidi_control(c) => ("\u{fffd}", 1),
                c => (&*c.encode_utf8(&mut buffer), width(c)),
            };
            column += width;
            put(shown, width, c.len_utf8());
        }
        for _ in chunk.invalid() {
            column += 1;
            put("\u{fffd}", 1, 1);
        }
    }
    if mark.start >= end {
        carets.push('^');
    }
    if end < bytes.len() {
        text.push_str("...");
    }
    (text, carets.trim_end().to_owned())
}

/// The start of the character that `at` is in.
fn boundary(bytes: &[u8], at: usize) -> usize {
    let continuation = |i: &usize| bytes[*i] & 0xc0 == 0x80;
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|i| !continuation(i))
        .unwrap_or(at)
}

/// Message text with control characters removed from the terminal's reach.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || is_bidi_control(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Characters that reorder the text around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Terminal columns of a character: the wide blocks of East Asian scripts and emoji, and the common combining blocks.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x0300..=0x036f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x200b..=0x200d
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0x33ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xa000..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
