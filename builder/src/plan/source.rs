//! The Dockerfile's bytes, for messages.

use crate::build::Error;
use crate::dockerfile::{Diagnostic, Diagnostics, ExpandError, Lookup, Span, Word, process_word};

/// A Dockerfile with its name, and what errors about it are about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) bytes: &'a [u8],
    /// What all messages are about, if it is not what stands at their place.
    about: Option<&'a str>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name,
            bytes,
            about: None,
        }
    }

    /// The same file, for messages about something that it does not have itself.
    pub(super) fn about<'b>(&self, about: Option<&'b str>) -> Source<'b>
    where
        'a: 'b,
    {
        Source { about, ..*self }
    }

    /// An error at a place of the file.
    pub(crate) fn error(&self, span: Span, message: impl Into<String>) -> Error {
        self.fault(Diagnostic::error(span, message))
    }

    /// The same with all that a diagnostic can say.
    pub(crate) fn fault(&self, mut diagnostic: Diagnostic) -> Error {
        if let Some(about) = self.about {
            diagnostic.message = format!("{about}: {}", diagnostic.message);
        }
        Error::Dockerfile(self.render(diagnostic))
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

/// Errors that were found together.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Error>);

impl Problems {
    pub(super) fn push(&mut self, error: Error) {
        if self.0.len() < Diagnostics::LIMIT {
            self.0.push(error);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails if there are any; those about the Dockerfile are given all at once.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        let mut errors = std::mem::take(&mut self.0);
        if errors.is_empty() {
            return Ok(());
        }
        let mut texts: Vec<String> = Vec::new();
        for error in &errors {
            match error {
                // Several platforms or targets find the same fault.
                Error::Dockerfile(text) if texts.contains(text) => {}
                Error::Dockerfile(text) => texts.push(text.clone()),
                _ => return Err(errors.swap_remove(0)),
            }
        }
        Err(Error::Dockerfile(texts.join("\n")))
    }
}
