//! Takes a logical line apart and dispatches on its keyword.

use std::collections::BTreeMap;

use super::super::ast::{ArgDecl, Escape, Flag, Heredoc, Instruction, InstructionKind, Onbuild, Stage, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::heredoc;
use super::super::json::{self, Json};
use super::super::lines::{Lines, LogicalLine, Piece};
use super::super::span::Span;
use super::super::suggest::nearest;
use super::super::words::{Lexed, split_blank, split_first, split_flags};
use super::flags::{self, Flags};

/// All keywords.
pub(crate) const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Comments above an instruction: first word to the rest after one blank.
pub(crate) type Comments = BTreeMap<String, String>;

/// What a logical line is.
#[derive(Debug)]
pub(crate) enum Parsed {
    From(Box<Stage>),
    /// ARG, which may stand in front of FROM.
    Arg(Vec<ArgDecl>, Instruction),
    Other(Instruction),
}

impl Parsed {
    /// Its place.
    pub(crate) fn span(&self) -> Span {
        match self {
            Self::From(stage) => stage.span,
            Self::Arg(_, instruction) | Self::Other(instruction) => instruction.span,
        }
    }
}

/// Keyword, flags and arguments of a line.
struct Split<'a> {
    keyword: Piece<'a>,
    /// Upper case.
    name: String,
    flags: Vec<Lexed>,
    args: Piece<'a>,
}

fn split(piece: Piece<'_>) -> Split<'_> {
    let (keyword, rest) = split_first(piece.trim());
    let (flags, args) = split_flags(rest);
    Split {
        keyword,
        name: keyword.text.to_uppercase(),
        flags,
        args: args.trim(),
    }
}

/// Parses a logical line, taking the bodies of its here-documents from `lines`.
///
/// None if it could not be understood; the reasons are in `problems`.
pub(crate) fn read_line(
    line: &LogicalLine,
    lines: &mut Lines<'_>,
    escape: Escape,
    comments: &Comments,
    problems: &mut Diagnostics,
) -> Option<Parsed> {
    let before = problems.0.len();
    let heredocs = read_heredocs(line, lines, problems)?;
    let mut builder = Builder {
        line,
        escape,
        comments,
        heredocs,
        problems,
    };
    let parsed = builder.top(line.piece());
    // Anything reported makes the instruction unfit for use; the file is refused as a whole anyway.
    if builder.problems.0.len() > before {
        None
    } else {
        parsed
    }
}

/// Here-documents belong to RUN, COPY and ADD in shell form, or to ONBUILD of these.
fn read_heredocs(
    line: &LogicalLine,
    lines: &mut Lines<'_>,
    problems: &mut Diagnostics,
) -> Option<Vec<Heredoc>> {
    if !line.may_open_heredoc() {
        return Some(Vec::new());
    }
    let mut parts = split(line.piece());
    if parts.name == "ONBUILD" {
        parts = split(parts.args);
    }
    if !matches!(parts.name.as_str(), "RUN" | "COPY" | "ADD")
        || matches!(json::parse(parts.args), Json::Strings(_))
    {
        return Some(Vec::new());
    }
    let openings = match heredoc::openings(line.piece()) {
        Ok(openings) => openings,
        Err(message) => {
            problems.push(Diagnostic::error(line.span(parts.args.range()), message));
            return None;
        }
    };
    let mut heredocs = Vec::new();
    for (opening, range) in openings {
        let name = opening.name.clone();
        let mut invalid = Vec::new();
        let Some(heredoc) = heredoc::read_body(opening, line.span(range.clone()), lines, &mut invalid) else {
            problems.push(
                Diagnostic::error(line.span(range), "unterminated heredoc")
                    .with_help(format!("a line with nothing but {name} must end it")),
            );
            return None;
        };
        for span in invalid {
            problems.push(Diagnostic::error(span, "invalid UTF-8 in a heredoc"));
        }
        heredocs.push(heredoc);
    }
    Some(heredocs)
}

/// Builds the parts of one instruction and reports what is wrong with it.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    pub(super) line: &'a LogicalLine,
    pub(super) escape: Escape,
    /// Comments above the instruction by their first word.
    pub(super) comments: &'a Comments,
    pub(super) heredocs: Vec<Heredoc>,
    pub(super) problems: &'a mut Diagnostics,
}

impl Builder<'_> {
    pub(super) fn report(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    pub(super) fn error(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Diagnostic::error(span, message));
    }

    pub(super) fn word(&self, piece: Piece<'_>) -> Word {
        Word {
            text: piece.text.to_owned(),
            span: self.line.span(piece.range()),
        }
    }

    pub(super) fn lexed(&self, lexed: Lexed) -> Word {
        Word {
            span: self.line.span(lexed.range),
            text: lexed.text,
        }
    }

    /// The comment above the instruction that begins with `name`.
    pub(super) fn doc(&self, name: &str) -> Option<String> {
        self.comments.get(name).cloned()
    }

    fn flag(&self, flag: &Lexed) -> Flag {
        let span = self.line.span(flag.range.clone());
        let text = flag.text.strip_prefix("--").unwrap_or(&flag.text);
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let value = value.map(|value| {
            // Where quotes were removed, the value's place is found by its equals sign.
            let source = &self.line.text[flag.range.clone()];
            let offset = source.find('=').map_or(0, |i| i + 1);
            Word {
                text: value.to_owned(),
                span: self.line.span(flag.range.start + offset..flag.range.end),
            }
        });
        Flag {
            name: name.to_owned(),
            value,
            span,
        }
    }

    fn top(&mut self, piece: Piece<'_>) -> Option<Parsed> {
        let parts = split(piece);
        if parts.name == "FROM" {
            return self
                .from(piece, &parts)
                .map(|stage| Parsed::From(Box::new(stage)));
        }
        let instruction = self.instruction(piece, parts, false)?;
        Some(match &instruction.kind {
            InstructionKind::Arg(args) => Parsed::Arg(args.clone(), instruction),
            _ => Parsed::Other(instruction),
        })
    }

    fn instruction(&mut self, piece: Piece<'_>, parts: Split<'_>, trigger: bool) -> Option<Instruction> {
        let keyword = self.word(parts.keyword);
        let flags: Vec<Flag> = parts.flags.iter().map(|flag| self.flag(flag)).collect();
        let args = parts.args;
        let end = if args.text.is_empty() { parts.keyword } else { args };
        let name = parts.name.as_str();
        // The place to point at when arguments are missing or wrong as a whole.
        let span = self.line.span(end.range());
        let kind = match name {
            "RUN" => self.run(args, &flags),
            "COPY" => self.copy(args, &flags, span),
            "ADD" => self.add(args, &flags, span),
            "HEALTHCHECK" => self.healthcheck(args, &flags, span),
            "ARG" => self.arg(args, span),
            "ONBUILD" if !trigger => {
                self.no_flags(&flags);
                self.onbuild(args, span)
            }
            _ => {
                if KEYWORDS.contains(&name) && name != "STOPSIGNAL" {
                    self.no_flags(&flags);
                }
                self.plain(name, args, &keyword, span)
            }
        }?;
        let whole = piece.trim();
        let mut span = self.line.span(whole.range());
        if let Some(last) = self.heredocs.last() {
            span = span.to(last.terminator);
        }
        Some(Instruction {
            kind,
            keyword,
            flags,
            text: whole.text.to_owned(),
            span,
        })
    }

    /// Instructions without flags of their own.
    fn plain(&mut self, name: &str, args: Piece<'_>, keyword: &Word, span: Span) -> Option<InstructionKind> {
        match name {
            "CMD" => self.command_form(args).map(InstructionKind::Cmd),
            "ENTRYPOINT" => self.command_form(args).map(InstructionKind::Entrypoint),
            "SHELL" => self.shell(args, span),
            "ENV" => self.pairs("ENV", args, span).map(InstructionKind::Env),
            "LABEL" => self.pairs("LABEL", args, span).map(InstructionKind::Label),
            "EXPOSE" => {
                let mut ports: Vec<Word> = split_blank(args)
                    .into_iter()
                    .map(|port| self.word(port))
                    .collect();
                ports.sort_by(|a, b| a.text.cmp(&b.text));
                self.at_least_one("EXPOSE", ports, span)
                    .map(InstructionKind::Expose)
            }
            "VOLUME" => self.volume(args, span),
            "MAINTAINER" => self
                .exactly_one("MAINTAINER", args, span)
                .map(InstructionKind::Maintainer),
            "STOPSIGNAL" => self
                .exactly_one("STOPSIGNAL", args, span)
                .map(InstructionKind::StopSignal),
            "USER" => self.exactly_one("USER", args, span).map(InstructionKind::User),
            "WORKDIR" => self
                .exactly_one("WORKDIR", args, span)
                .map(InstructionKind::Workdir),
            _ => {
                let problem = if keyword.text.is_empty() {
                    Diagnostic::error(keyword.span, "line continuation without an instruction")
                } else {
                    Diagnostic::error(keyword.span, format!("unknown instruction: {}", keyword.text))
                        .with_suggestion(nearest(&keyword.text, KEYWORDS))
                };
                self.report(problem);
                None
            }
        }
    }

    fn no_flags(&mut self, flags: &[Flag]) {
        Flags::check(flags, flags::NONE, self);
    }

    pub(super) fn at_least_one<T>(&mut self, name: &str, items: Vec<T>, span: Span) -> Option<Vec<T>> {
        if items.is_empty() {
            self.error(span, format!("{name} requires at least one argument"));
            return None;
        }
        Some(items)
    }

    fn exactly_one(&mut self, name: &str, args: Piece<'_>, span: Span) -> Option<Word> {
        if args.text.is_empty() {
            self.error(span, format!("{name} requires exactly one argument"));
            return None;
        }
        Some(self.word(args))
    }

    fn volume(&mut self, args: Piece<'_>, span: Span) -> Option<InstructionKind> {
        let paths = self.list(args)?;
        for path in &paths {
            if path.text.trim().is_empty() {
                self.error(path.span, "VOLUME specified can not be an empty string");
            }
        }
        let trim = |path: Word| Word {
            text: path.text.trim().to_owned(),
            ..path
        };
        self.at_least_one("VOLUME", paths, span)
            .map(|paths| InstructionKind::Volume(paths.into_iter().map(trim).collect()))
    }

    /// Strings of a JSON array, or words between blanks.
    pub(super) fn list(&mut self, args: Piece<'_>) -> Option<Vec<Word>> {
        match json::parse(args) {
            Json::Strings(strings) => Some(strings.into_iter().map(|string| self.lexed(string)).collect()),
            Json::No => Some(
                split_blank(args)
                    .into_iter()
                    .map(|word| self.word(word))
                    .collect(),
            ),
            Json::OtherElement(range) => {
                self.not_strings(range);
                None
            }
        }
    }

    pub(super) fn not_strings(&mut self, range: std::ops::Range<usize>) {
        let span = self.line.span(range);
        self.error(
            span,
            "when using JSON array syntax, arrays must be comprised of strings only",
        );
    }

    fn onbuild(&mut self, args: Piece<'_>, span: Span) -> Option<InstructionKind> {
        if args.text.is_empty() {
            self.error(span, "ONBUILD requires at least one argument");
            return None;
        }
        let parts = split(args);
        let keyword = self.line.span(parts.keyword.range());
        match parts.name.as_str() {
            "ONBUILD" => {
                self.error(keyword, "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
                return None;
            }
            name @ ("FROM" | "MAINTAINER") => {
                self.error(keyword, format!("{name} isn't allowed as an ONBUILD trigger"));
                return None;
            }
            _ => {}
        }
        let mut expression = args.text.to_owned();
        for heredoc in &self.heredocs {
            expression.push('\n');
            expression.push_str(&heredoc.content);
            expression.push_str(&heredoc.name);
        }
        let trigger = Box::new(self.instruction(args, parts, true)?);
        Some(InstructionKind::Onbuild(Onbuild { expression, trigger }))
    }

    fn from(&mut self, piece: Piece<'_>, parts: &Split<'_>) -> Option<Stage> {
        let flags: Vec<Flag> = parts.flags.iter().map(|flag| self.flag(flag)).collect();
        let platform = Flags::check(&flags, flags::FROM, self).text("platform");
        let words: Vec<Word> = split_blank(parts.args)
            .into_iter()
            .map(|word| self.word(word))
            .collect();
        let (base, keyword_as, name_word) = match words.as_slice() {
            [base] => (base.clone(), None, None),
            [base, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => {
                (base.clone(), Some(keyword.clone()), Some(name.clone()))
            }
            _ => {
                let args = if words.is_empty() {
                    parts.keyword
                } else {
                    parts.args
                };
                let problem = Diagnostic::error(
                    self.line.span(args.range()),
                    "FROM requires either one or three arguments",
                );
                self.report(problem.with_help("write FROM <image> or FROM <image> AS <name>"));
                return None;
            }
        };
        let name = name_word.as_ref().map(|word| word.text.to_lowercase());
        if let (Some(name), Some(word)) = (&name, &name_word) {
            let valid =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
            if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(valid) {
                let message = format!(
                    "invalid name for build stage: {:?}, name can't start with a number or contain symbols",
                    word.text
                );
                self.error(word.span, message);
            }
        }
        let whole = piece.trim();
        Some(Stage {
            doc: name.as_ref().and_then(|name| self.doc(name)),
            name,
            name_word,
            keywords: (self.word(parts.keyword), keyword_as),
            base,
            platform,
            instructions: Vec::new(),
            text: whole.text.to_owned(),
            span: self.line.span(whole.range()),
        })
    }
}
