//! The Dockerfile's bytes, for messages.

use crate::build::Error;
use crate::dockerfile::{Diagnostic, Diagnostics, ExpandError, Lookup, Span, Word, process_word};

/// A Dockerfile with its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: &'a [u8],
}

impl Source<'_> {
    /// An error at a place of the file.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> Error {
        Error::Dockerfile(self.render(Diagnostic::error(span, message)))
    }

    /// An error about something that BuildKit can do and this builder cannot yet.
    pub(crate) fn unsupported(&self, span: Span, what: &str) -> Error {
        self.error(span, format!("{what} is not supported yet"))
    }

    pub(crate) fn render(&self, diagnostic: Diagnostic) -> String {
        Diagnostics::from(diagnostic).render(self.bytes, self.name)
    }

    /// Expands variables in a word.
    pub(crate) fn expand(&self, word: &Word, lookup: Lookup<'_>, escape: char) -> Result<String, Error> {
        let expanded = process_word(&word.text, lookup, escape);
        expanded
            .map(|expanded| expanded.text)
            .map_err(|error| self.expand_error(word, &error))
    }

    pub(crate) fn expand_error(&self, word: &Word, error: &ExpandError) -> Error {
        self.error(word.span.tail(error.offset), error.message.clone())
    }
}
