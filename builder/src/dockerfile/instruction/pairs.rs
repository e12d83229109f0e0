//! Names and values: ENV, LABEL and ARG.

use super::super::ast::{ArgDecl, InstructionKind, KeyValue, Word};
use super::super::diagnostic::Diagnostic;
use super::super::lines::Piece;
use super::super::span::Span;
use super::super::words::{Lexed, split_first, split_quoted};
use super::build::Builder;

impl Builder<'_> {
    /// `k=v …`, or `k v` for one pair: what decides is whether the first word has an equals sign.
    pub(super) fn pairs(&mut self, name: &str, args: Piece<'_>, span: Span) -> Option<Vec<KeyValue>> {
        let words = split_quoted(args, self.escape);
        let Some(first) = words.first() else {
            self.error(span, format!("{name} requires at least one argument"));
            return None;
        };
        if !first.text.contains('=') {
            let (key, value) = split_first(args);
            if value.text.is_empty() {
                let problem = Diagnostic::error(span, format!("{name} must have two arguments"));
                self.report(problem.with_help(format!("write {name} {}=<value>", key.text)));
                return None;
            }
            return Some(vec![KeyValue {
                key: self.word(key),
                value: self.word(value),
                legacy: true,
            }]);
        }
        let mut pairs = Vec::with_capacity(words.len());
        for word in words {
            let text = word.text.clone();
            let (key, value) = self.split_equals(word);
            match value {
                Some(_) if key.text.is_empty() => {
                    self.error(key.span, format!("{name} names can not be blank"));
                }
                Some(value) => pairs.push(KeyValue {
                    key,
                    value,
                    legacy: false,
                }),
                None => {
                    let message = format!("can't find = in {text:?}, must be of the form: name=value");
                    self.report(
                        Diagnostic::error(key.span, message).with_help("put a value with blanks in quotes"),
                    );
                }
            }
        }
        Some(pairs)
    }

    pub(super) fn arg(&mut self, args: Piece<'_>, span: Span) -> Option<InstructionKind> {
        let mut declared = Vec::new();
        for word in split_quoted(args, self.escape) {
            let (name, default) = self.split_equals(word);
            if name.text.is_empty() {
                self.error(name.span, "ARG names can not be blank");
                return None;
            }
            declared.push(ArgDecl {
                doc: self.doc(&name.text),
                name,
                default,
            });
        }
        self.at_least_one("ARG", declared, span).map(InstructionKind::Arg)
    }

    /// Splits at the first equals sign; none without one.
    fn split_equals(&self, word: Lexed) -> (Word, Option<Word>) {
        let source = &self.line.text[word.range.clone()];
        let Some((key, value)) = word.text.split_once('=') else {
            return (self.lexed(word), None);
        };
        // The text of quoted words is that of their source up to a dropped escape at the end, so offsets agree.
        let equals = source.find('=').map_or(word.range.end, |i| word.range.start + i);
        let key = Word {
            text: key.to_owned(),
            span: self.line.span(word.range.start..equals),
        };
        let value_start = (equals + 1).min(word.range.end);
        (
            key,
            Some(Word {
                text: value.to_owned(),
                span: self.line.span(value_start..word.range.end),
            }),
        )
    }
}
