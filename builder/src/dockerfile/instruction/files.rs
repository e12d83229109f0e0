//! COPY and ADD.

use super::super::ast::{Add, Copy, Flag, Heredoc, InstructionKind, Word};
use super::super::diagnostic::Diagnostic;
use super::super::heredoc;
use super::super::lines::Piece;
use super::super::span::Span;
use super::build::Builder;
use super::flags::{self, Flags};

struct Operands {
    sources: Vec<Word>,
    heredocs: Vec<Heredoc>,
    dest: Word,
}

impl Builder<'_> {
    pub(super) fn copy(&mut self, args: Piece<'_>, flags: &[Flag], span: Span) -> Option<InstructionKind> {
        let flags = Flags::check(flags, flags::COPY, self);
        let from = flags.text("from");
        if let Some(from) = &from {
            // BuildKit's own test for a variable: a dollar sign with anything behind it.
            if from.text.find('$').is_some_and(|i| i + 1 < from.text.len()) {
                let problem = Diagnostic::error(from.span, "'from' doesn't support variable expansion");
                self.report(
                    problem.with_help("define an alias stage instead: FROM <image with variable> AS <name>"),
                );
            }
        }
        let Operands {
            sources,
            heredocs,
            dest,
        } = self.operands("COPY", args, span)?;
        Some(InstructionKind::Copy(Copy {
            sources,
            heredocs,
            dest,
            from,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or(false),
            parents: flags.bool("parents").unwrap_or(false),
            excludes: flags.texts("exclude"),
        }))
    }

    pub(super) fn add(&mut self, args: Piece<'_>, flags: &[Flag], span: Span) -> Option<InstructionKind> {
        let flags = Flags::check(flags, flags::ADD, self);
        let Operands {
            sources,
            heredocs,
            dest,
        } = self.operands("ADD", args, span)?;
        Some(InstructionKind::Add(Add {
            sources,
            heredocs,
            dest,
            chown: flags.text("chown"),
            chmod: flags.text("chmod"),
            link: flags.bool("link").unwrap_or(false),
            keep_git_dir: flags.bool("keep-git-dir"),
            checksum: flags.text("checksum"),
            unpack: flags.bool("unpack"),
            excludes: flags.texts("exclude"),
        }))
    }

    fn operands(&mut self, name: &str, args: Piece<'_>, span: Span) -> Option<Operands> {
        let mut words = self.list(args)?;
        let dest = words.pop();
        let (Some(dest), false) = (dest, words.is_empty()) else {
            self.error(
                span,
                format!("{name} requires at least two arguments, but only one was provided, destination could not be determined"),
            );
            return None;
        };
        let opens = |word: &Word| matches!(heredoc::opening(&word.text), Ok(Some(_)));
        if opens(&dest) {
            self.error(
                dest.span,
                format!("{name} cannot accept a heredoc as a destination"),
            );
            return None;
        }
        // The bodies were read in the order of their openings, so they are matched by it. In JSON form there are none and
        // a word that looks like an opening is a path.
        let (openings, sources): (Vec<Word>, Vec<Word>) = words
            .into_iter()
            .partition(|word| !self.heredocs.is_empty() && opens(word));
        if openings.len() != self.heredocs.len() {
            let problem = Diagnostic::error(
                span,
                format!("{name} has a heredoc that is not one of its sources"),
            );
            self.report(
                problem.with_help("write << and its word without blanks or quoted blanks between them"),
            );
            return None;
        }
        Some(Operands {
            sources,
            heredocs: self.heredocs.clone(),
            dest,
        })
    }
}
