//! Which flags an instruction takes, and reading them.

use super::super::ast::{Flag, Word};
use super::super::diagnostic::Diagnostic;
use super::super::suggest::nearest;
use super::build::Builder;

/// How often a flag may occur and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    Text,
    /// May be repeated.
    Texts,
    Bool,
}

/// The flags an instruction knows.
pub(super) type Schema = &'static [(&'static str, Takes)];

pub(super) const RUN: Schema = &[
    ("mount", Takes::Texts),
    ("network", Takes::Text),
    ("security", Takes::Text),
    ("device", Takes::Texts),
];
pub(super) const COPY: Schema = &[
    ("from", Takes::Text),
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("parents", Takes::Bool),
    ("exclude", Takes::Texts),
];
pub(super) const ADD: Schema = &[
    ("chown", Takes::Text),
    ("chmod", Takes::Text),
    ("link", Takes::Bool),
    ("keep-git-dir", Takes::Bool),
    ("checksum", Takes::Text),
    ("unpack", Takes::Bool),
    ("exclude", Takes::Texts),
];
pub(super) const FROM: Schema = &[("platform", Takes::Text)];
pub(super) const HEALTHCHECK: Schema = &[
    ("interval", Takes::Text),
    ("timeout", Takes::Text),
    ("start-period", Takes::Text),
    ("start-interval", Takes::Text),
    ("retries", Takes::Text),
];
pub(super) const NONE: Schema = &[];

/// The flags of one instruction after checking.
#[derive(Debug, Default)]
pub(super) struct Flags<'a>(&'a [Flag]);

impl<'a> Flags<'a> {
    /// Checks `flags` against `schema` and reports all that is wrong.
    pub(super) fn check(flags: &'a [Flag], schema: Schema, builder: &mut Builder<'_>) -> Self {
        for (i, flag) in flags.iter().enumerate() {
            if builder.problems.is_full() {
                break;
            }
            let name = flag.name.as_str();
            let Some(&(_, takes)) = schema.iter().find(|(known, _)| *known == name) else {
                let known = nearest(name, schema.iter().map(|(known, _)| *known));
                builder.report(
                    Diagnostic::error(flag.span, format!("unknown flag: --{name}"))
                        .with_suggestion(known.map(|known| format!("--{known}"))),
                );
                continue;
            };
            if takes != Takes::Texts && flags[..i].iter().any(|earlier| earlier.name == name) {
                builder.error(flag.span, format!("duplicate flag specified: --{name}"));
            }
            let text = flag.value.as_ref().map(|value| value.text.as_str());
            match (takes, text) {
                (Takes::Bool, Some("")) | (Takes::Text | Takes::Texts, None) => {
                    builder.error(flag.span, format!("missing a value on flag: --{name}"));
                }
                (Takes::Bool, Some(text)) if !is_bool(text) => {
                    builder.error(
                        flag.span,
                        format!("expecting boolean value for flag --{name}, not: {text}"),
                    );
                }
                _ => {}
            }
        }
        Self(flags)
    }

    pub(super) fn text(&self, name: &str) -> Option<Word> {
        self.0.iter().rev().find(|flag| flag.name == name)?.value.clone()
    }

    pub(super) fn texts(&self, name: &str) -> Vec<Word> {
        self.0
            .iter()
            .filter(|flag| flag.name == name)
            .filter_map(|flag| flag.value.clone())
            .collect()
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        let flag = self.0.iter().rev().find(|flag| flag.name == name)?;
        Some(
            flag.value
                .as_ref()
                .is_none_or(|value| value.text.eq_ignore_ascii_case("true")),
        )
    }
}

fn is_bool(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}
