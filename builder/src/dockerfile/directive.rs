//! Parser directives: `# syntax=`, `# escape=` and `# check=` at the very top of a file.

use super::ast::{CheckOptions, Directives, Escape, Word};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::lines::{Line, Lines};

/// Reads directives line by line until something else comes.
#[derive(Debug, Default)]
pub(super) struct DirectiveParser {
    done: bool,
    seen: Vec<String>,
}

/// A directive's key in lower case and its value.
struct Directive {
    key: String,
    value: Word,
}

impl DirectiveParser {
    /// Ends the directives: an instruction or a blank line was seen.
    pub(super) fn finish(&mut self) {
        self.done = true;
    }

    /// Takes a comment line into account; true if it is a directive.
    pub(super) fn comment(
        &mut self,
        line: &Line<'_>,
        directives: &mut Directives,
        problems: &mut Diagnostics,
    ) -> bool {
        if self.done {
            return false;
        }
        let Some(Directive { key, value }) = read(line, line.indent(), "#") else {
            self.done = true;
            return false;
        };
        if self.seen.contains(&key) {
            problems.push(Diagnostic::error(
                value.span,
                format!("only one {key} parser directive can be used"),
            ));
            return true;
        }
        match key.as_str() {
            "escape" => match value.text.as_str() {
                "\\" => directives.escape = Escape::Backslash,
                "`" => directives.escape = Escape::Backtick,
                other => problems.push(
                    Diagnostic::error(value.span, format!("invalid escape token '{other}'"))
                        .with_help("use \\ or `"),
                ),
            },
            "check" => directives.check = check_options(&value, problems),
            _ => directives.syntax = Some(value),
        }
        self.seen.push(key);
        true
    }
}

/// The directive of a line that has `marker` after `from` bytes.
fn read(line: &Line<'_>, from: usize, marker: &str) -> Option<Directive> {
    let text = std::str::from_utf8(&line.body()[from..]).ok()?;
    let space = |c: char| c.is_ascii_whitespace();
    let after_marker = text.strip_prefix(marker)?.trim_start();
    let (key, value) = after_marker.split_once('=')?;
    let key = key.trim_end_matches(space);
    let mut letters = key.chars();
    if !letters.next()?.is_ascii_alphabetic() || !letters.all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let key = key.to_ascii_lowercase();
    let trimmed = value.trim_matches(space);
    if trimmed.is_empty() || !matches!(key.as_str(), "syntax" | "escape" | "check") {
        return None;
    }
    let start = from + text.len() - value.trim_start_matches(space).len();
    Some(Directive {
        key,
        value: Word {
            text: trimmed.to_owned(),
            span: line.span(start..start + trimmed.len()),
        },
    })
}

/// The `syntax` directive: the frontend image, a blank, and perhaps more.
///
/// Found as `# syntax=…` among the directives at the top (also below a `#!` line), as `// syntax=…`, or as the member
/// `syntax` of a file that is a JSON object.
#[must_use]
pub fn detect_syntax(source: &[u8]) -> Option<Word> {
    for marker in ["#", "//"] {
        let mut first = true;
        for line in Lines::new(source) {
            if std::mem::take(&mut first) && line.raw.starts_with(b"#!") {
                continue;
            }
            let indent = if marker == "#" { line.indent() } else { 0 };
            match read(&line, indent, marker) {
                Some(directive) if directive.key == "syntax" => return Some(directive.value),
                Some(_) => {}
                None => break,
            }
        }
    }
    let start = source.iter().position(|b| !b.is_ascii_whitespace())?;
    if source[start] != b'{' {
        return None;
    }
    let value: serde_json::Value = serde_json::from_slice(source).ok()?;
    let text = value.get("syntax")?.as_str()?.to_owned();
    let span = Lines::new(source).next()?.span(0..0);
    Some(Word { text, span })
}

/// Reads the value of `# check=`, which the build argument BUILDKIT_DOCKERFILE_CHECK has as well.
pub(super) fn check_options(value: &Word, problems: &mut Diagnostics) -> CheckOptions {
    let mut options = CheckOptions::default();
    // BuildKit splits into three at most and lets the last of several win.
    for part in value.text.splitn(3, ';') {
        let Some((key, rest)) = part.split_once('=') else {
            let problem = Diagnostic::error(value.span, format!("invalid check option {part:?}"));
            problems.push(problem.with_help("write for example check=skip=JSONArgsRecommended;error=true"));
            continue;
        };
        let key = key.trim();
        let names = || {
            rest.split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        match (key, rest.trim()) {
            ("skip", "all") => options.skip_all = true,
            ("skip", _) => options.skip = names(),
            ("experimental", "all") => options.experimental_all = true,
            ("experimental", _) => options.experimental = names(),
            ("error", "true" | "1" | "t" | "T" | "TRUE" | "True") => options.error = true,
            ("error", "false" | "0" | "f" | "F" | "FALSE" | "False") => options.error = false,
            ("error", other) => {
                problems.push(Diagnostic::error(
                    value.span,
                    format!("check option error is not a boolean: {other:?}"),
                ));
            }
            _ => {
                let message = format!("unknown check option {key:?}");
                let nearest = super::suggest::nearest(key, ["skip", "error", "experimental"]);
                problems.push(Diagnostic::error(value.span, message).with_suggestion(nearest));
            }
        }
    }
    options
}
