//! A list of patterns where the last match wins.

use super::glob::{BadPattern, glob_match};
use super::pattern::Pattern;

/// More patterns, or longer ones, are refused: every file of a context is matched against all of them.
const MAX_PATTERNS: usize = 100_000;
const MAX_PATTERN_LENGTH: usize = 4096;

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoreErrorKind {
    /// Malformed as a Go `filepath.Match` pattern.
    #[error(transparent)]
    BadPattern(#[from] BadPattern),
    /// `!` and nothing else.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// Too long or one too many.
    #[error("too many or too long patterns")]
    TooMuch,
}

/// A line that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct IgnoreError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub kind: IgnoreErrorKind,
}

/// An ordered list of patterns, as of a `.dockerignore` file.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

/// Which patterns match a directory; lets a walk decide about the entries below without looking at parents again.
#[derive(Clone, Debug)]
pub struct MatchState {
    matched: Vec<bool>,
    ignored: bool,
}

impl MatchState {
    /// Whether the path is ignored.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        self.ignored
    }
}

impl Patterns {
    /// Reads the text of a `.dockerignore` file: a pattern a line, `#` in the first column is a comment, white space around
    /// a pattern and its leading `/` do not count.
    ///
    /// # Errors
    /// The first line that is not a pattern.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|&b| b == b'\n').enumerate();
        Self::from_lines(
            lines
                .filter(|(_, line)| !line.starts_with(b"#"))
                .map(|(i, line)| (i + 1, line)),
            true,
        )
    }

    /// Takes patterns one by one, as of `COPY --exclude`. `#` and a leading `/` have no meaning here.
    ///
    /// # Errors
    /// The first one that is malformed; its line is its number from 1.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, IgnoreError> {
        Self::from_lines(
            patterns
                .into_iter()
                .enumerate()
                .map(|(i, pattern)| (i + 1, pattern)),
            false,
        )
    }

    fn from_lines<'a>(
        lines: impl Iterator<Item = (usize, &'a [u8])>,
        strip_root: bool,
    ) -> Result<Self, IgnoreError> {
        let mut patterns = Vec::new();
        for (line, text) in lines {
            let text = trim(text);
            let (exception, text) = match text.strip_prefix(b"!") {
                Some(rest) => (true, trim(rest)),
                None => (false, text),
            };
            let kind = if text.is_empty() {
                if !exception {
                    continue;
                }
                Err(IgnoreErrorKind::EmptyException)
            } else if text.len() > MAX_PATTERN_LENGTH || patterns.len() >= MAX_PATTERNS {
                Err(IgnoreErrorKind::TooMuch)
            } else {
                let clean = clean(text);
                let relative = if strip_root && clean.len() > 1 {
                    clean.strip_prefix(b"/")
                } else {
                    None
                };
                Pattern::compile(relative.unwrap_or(&clean), exception).map_err(IgnoreErrorKind::from)
            };
            patterns.push(kind.map_err(|kind| IgnoreError { line, kind })?);
        }
        Ok(Self { patterns })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether any pattern begins with `!`.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }

    /// Whether `path`, relative with slashes and without `.` or `..`, is ignored. A pattern that matches a parent directory
    /// holds for everything below it. The root, empty or `.`, never is.
    ///
    /// In a walk [`Self::enter`] is cheaper.
    #[must_use]
    pub fn is_ignored(&self, path: &[u8]) -> bool {
        if path.is_empty() || path == b"." {
            return false;
        }
        let mut state = None;
        let ends = path
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'/')
            .map(|(i, _)| i)
            .chain([path.len()]);
        for end in ends.filter(|&end| end > 0) {
            state = Some(self.enter(state.as_ref(), &path[..end]));
        }
        state.is_some_and(|state| state.ignored)
    }

    /// The state of `path` from that of its parent directory (none at the top).
    ///
    /// Exactly patternmatcher's `MatchesUsingParentResults`, by which BuildKit filters contexts: a pattern that could not
    /// change the outcome so far is not tried, and then does not count as matching for what is below either.
    #[must_use]
    pub fn enter(&self, parent: Option<&MatchState>, path: &[u8]) -> MatchState {
        let mut state = MatchState {
            matched: vec![false; self.patterns.len()],
            ignored: false,
        };
        for (i, pattern) in self.patterns.iter().enumerate() {
            let mut matched = parent.is_some_and(|parent| parent.matched[i]);
            if !matched {
                if pattern.exception != state.ignored {
                    continue;
                }
                matched = pattern.matches(path);
            }
            state.matched[i] = matched;
            if matched {
                state.ignored = !pattern.exception;
            }
        }
        state
    }

    /// Whether something below `dir` may match one of the patterns, none of which is an exception: whether the directory's
    /// own path could begin one that does.
    #[must_use]
    pub fn may_match_below(&self, dir: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| {
            let mut parts = pattern.text.split(|&b| b == b'/');
            for name in dir.split(|&b| b == b'/') {
                match parts.next() {
                    Some(b"**") => return true,
                    // `**` within a component matches slashes as well.
                    Some(part) if part.windows(2).any(|pair| pair == b"**") => return true,
                    Some(part) if glob_match(part, name).unwrap_or(true) => {}
                    _ => return false,
                }
            }
            parts.next().is_some()
        })
    }

    /// Whether something below the ignored directory `dir` may not be ignored, so a walk must go on into it.
    #[must_use]
    pub fn may_have_exceptions_below(&self, dir: &[u8]) -> bool {
        self.patterns
            .iter()
            .filter(|pattern| pattern.exception)
            .any(|pattern| {
                let below = pattern
                    .text
                    .strip_prefix(dir)
                    .is_some_and(|rest| rest.starts_with(b"/"));
                below || !pattern.is_literal()
            })
    }
}

/// Without Unicode white space on both ends.
fn trim(mut text: &[u8]) -> &[u8] {
    while let Some(chunk) = text.utf8_chunks().next() {
        let trimmed = chunk.valid().trim_start();
        let removed = chunk.valid().len() - trimmed.len();
        text = &text[removed..];
        if removed == 0 || !trimmed.is_empty() || !chunk.invalid().is_empty() {
            break;
        }
    }
    let last = text.utf8_chunks().last();
    match last {
        Some(chunk) if chunk.invalid().is_empty() => {
            &text[..text.len() - (chunk.valid().len() - chunk.valid().trim_end().len())]
        }
        _ => text,
    }
}

/// Go's `filepath.Clean`: no `.`, no empty components, `..` resolved where that is possible.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match parts.last() {
                Some(&last) if last != b".." => {
                    parts.pop();
                }
                None if rooted => {}
                _ => parts.push(part),
            },
            part => parts.push(part),
        }
    }
    let mut clean = if rooted { b"/".to_vec() } else { Vec::new() };
    clean.extend(parts.join(&b'/'));
    if clean.is_empty() { b".".to_vec() } else { clean }
}
