//! The Dockerfile language: parsing, variable expansion, stage names, diagnostics. No IO.
//!
//! [`parse`] turns bytes into a [`Dockerfile`], a typed tree in which every word and flag knows its place ([`Span`]), or
//! into all [`Diagnostics`] of the file, which [`Diagnostics::render`] prints with the source. Words are not expanded; the
//! planner does that with [`process_word`] once it knows the variables. Behaviour follows BuildKit's Dockerfile frontend.

mod ast;
mod diagnostic;
mod directive;
mod duration;
mod expand;
mod heredoc;
mod instruction;
mod json;
mod lines;
mod lint;
mod parse;
mod pattern;
mod relocate;
mod render;
mod rule;
mod span;
mod suggest;
mod symbols;
mod words;

pub use ast::{
    Add, ArgDecl, CheckOptions, CommandForm, CommentBlock, Copy, Directives, Dockerfile, Escape, Expansion,
    Flag, Healthcheck, HealthcheckOptions, Heredoc, Instruction, InstructionKind, KeyValue, Onbuild, Run,
    RunFlags, Stage, Word,
};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use directive::detect_syntax;
pub use expand::{
    EXPANSION_LIMIT, ExpandError, Expanded, Lexer, Lookup, process_heredoc, process_word, process_words,
};
pub use lint::{Facts, lint, parse_check_options};
pub use parse::{MAX_SOURCE, parse, parse_trigger};
pub use rule::Rule;
pub use span::Span;
pub use suggest::nearest;
pub use symbols::{StageError, resolve_base, resolve_stage, resolve_target, suggest_stage};

#[cfg(test)]
mod tests;
