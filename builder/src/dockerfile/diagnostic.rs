//! Errors and warnings about a Dockerfile.

use std::fmt;

use super::rule::Rule;
use super::span::Span;

/// How bad a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The file cannot be built.
    Error,
    /// The file can be built but probably does not do what its author wants.
    Warning,
}

/// One error or warning with the place it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The build check that found it; none for plain errors.
    pub rule: Option<Rule>,
    /// What is wrong, a lower-case fragment without a final period.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it, if that is known.
    pub help: Option<String>,
}

/// Messages quote the file, in which a word can have any length.
const MAX_MESSAGE: usize = 512;

fn shorten(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push_str("...");
    }
    message
}

impl Diagnostic {
    /// An error at `span`. An overlong message is cut.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: shorten(message.into()),
            span,
            help: None,
        }
    }

    /// A warning of the build check `rule` at `span`.
    pub fn warning(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            rule: Some(rule),
            message: shorten(message.into()),
            span,
            help: None,
        }
    }

    /// The same with a hint for the reader.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(shorten(help.into()));
        self
    }

    /// The same with "did you mean", if there is a suggestion.
    #[must_use]
    pub fn with_suggestion(self, suggestion: Option<impl fmt::Display>) -> Self {
        match suggestion {
            Some(suggestion) => self.with_help(format!("did you mean {suggestion}?")),
            None => self,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.span.line, self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

/// All diagnostics of one file, in the order of their places once the parser has returned them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostics {
    /// Errors beyond this number are counted but not kept: nobody reads them and a hostile file could have millions.
    pub const LIMIT: usize = 100;

    /// Adds one, unless [`Self::LIMIT`] of them are there already.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() {
            self.0.push(diagnostic);
        }
    }

    /// Whether [`Self::push`] adds no more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= Self::LIMIT
    }

    /// Whether any of them is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes through them in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Sorts by place; equal places keep the order they were found in.
    pub fn sort(&mut self) {
        self.0.sort_by_key(|d| (d.span.start, d.severity));
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, diagnostic) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
