//! Entry points of the parser.

use super::ast::{CommentBlock, Directives, Dockerfile, Escape, Instruction, InstructionKind, Stage, Word};
use super::diagnostic::{Diagnostic, Diagnostics};
use super::directive::{DirectiveParser, detect_syntax};
use super::instruction::{Comments, Parsed, read_line};
use super::lines::{Line, Lines, LogicalLine};
use super::rule::Rule;
use super::span::Span;

/// Longer files are refused.
pub const MAX_SOURCE: usize = 16 << 20;

/// Comment lines kept above one instruction.
const MAX_ABOVE: usize = 64;

/// Parses a Dockerfile. `name` is used in messages about the file as a whole only.
///
/// Equal to the Dockerfile frontend of BuildKit 0.26 in what it accepts, but reports all errors of a file at once, and refuses
/// text that is not UTF-8 outside of comments.
///
/// # Errors
/// All errors and warnings found, in the order of their places; at least one is an error.
pub fn parse(source: &[u8], name: &str) -> Result<Dockerfile, Diagnostics> {
    let mut parser = Parser::default();
    if let Some(problem) = refuse_whole(source, name) {
        return Err(problem.into());
    }
    parser.file(source);
    parser.directives.syntax = detect_syntax(source);
    if parser.stages.is_empty() && !parser.problems.has_errors() {
        let message = if parser.instructions {
            "no build stage in the file"
        } else {
            "file with no instructions"
        };
        parser
            .problems
            .push(Diagnostic::error(Span::FILE, message).with_help("begin with FROM <image>"));
    }
    let Parser {
        directives,
        global_args,
        stages,
        mut problems,
        mut warnings,
        blocks,
        ..
    } = parser;
    if problems.has_errors() {
        problems.0.append(&mut warnings.0);
        problems.sort();
        return Err(problems);
    }
    warnings.sort();
    Ok(Dockerfile {
        directives,
        global_args,
        stages,
        comments: blocks,
        warnings,
    })
}

/// Parses one ONBUILD trigger as stored in an image's config. Spans refer to `text`.
///
/// # Errors
/// As [`parse`]; also if there is no instruction or more than one, or one that may not be a trigger.
pub fn parse_trigger(text: &str) -> Result<Instruction, Diagnostics> {
    let mut lines = Lines::new(text.as_bytes());
    let mut problems = Diagnostics::default();
    let parsed = lines.next().filter(|first| !first.is_blank()).and_then(|first| {
        let line = LogicalLine::join(first, &mut lines, Escape::Backslash, &mut problems.0);
        read_line(
            &line,
            &mut lines,
            Escape::Backslash,
            &Comments::new(),
            &mut problems,
        )
    });
    let instruction = match parsed {
        Some(Parsed::Arg(_, instruction) | Parsed::Other(instruction)) => {
            // The file's parser refuses these two already; an image may come from anywhere.
            match &instruction.kind {
                InstructionKind::Onbuild(_) => problems.push(Diagnostic::error(
                    instruction.span,
                    "chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
                )),
                InstructionKind::Maintainer(_) => problems.push(Diagnostic::error(
                    instruction.span,
                    "MAINTAINER isn't allowed as an ONBUILD trigger",
                )),
                _ => {}
            }
            Some(instruction)
        }
        Some(Parsed::From(stage)) => {
            problems.push(Diagnostic::error(
                stage.span,
                "FROM isn't allowed as an ONBUILD trigger",
            ));
            None
        }
        None => None,
    };
    if let Some(more) = lines.find(|line| !line.is_blank()) {
        problems.push(Diagnostic::error(
            more.span(0..more.body().len()),
            "an ONBUILD trigger is one instruction",
        ));
    }
    match instruction {
        Some(instruction) if problems.is_empty() => Ok(instruction),
        _ if problems.is_empty() => Err(Diagnostic::error(Span::FILE, "empty ONBUILD trigger").into()),
        _ => Err(problems),
    }
}

/// Reasons not to look at the contents at all.
fn refuse_whole(source: &[u8], name: &str) -> Option<Diagnostic> {
    if source.is_empty() {
        return Some(Diagnostic::error(
            Span::FILE,
            format!("the Dockerfile ({name}) cannot be empty"),
        ));
    }
    if source.len() > MAX_SOURCE {
        let message = format!("the Dockerfile ({name}) is longer than {MAX_SOURCE} bytes");
        return Some(Diagnostic::error(Span::FILE, message));
    }
    if source.starts_with(b"\xff\xfe") || source.starts_with(b"\xfe\xff") {
        let problem = Diagnostic::error(Span::FILE, format!("the Dockerfile ({name}) is UTF-16"));
        return Some(problem.with_help("save the file as UTF-8"));
    }
    None
}

#[derive(Default)]
struct Parser {
    directives: Directives,
    global_args: Vec<super::ast::ArgDecl>,
    stages: Vec<Stage>,
    problems: Diagnostics,
    warnings: Diagnostics,
    /// Comments above the next instruction.
    comments: Comments,
    /// Those of them that no blank line separates from it.
    above: Vec<Word>,
    blocks: Vec<CommentBlock>,
    /// Whether there was any.
    instructions: bool,
    /// Whether more complaints about instructions without a stage would be noise.
    stage_complaint_done: bool,
}

impl Parser {
    fn file(&mut self, source: &[u8]) {
        let mut lines = Lines::new(source);
        let mut directives = DirectiveParser::default();
        while let Some(line) = lines.next() {
            if line.is_comment() {
                if !directives.comment(&line, &mut self.directives, &mut self.problems) {
                    self.comment(&line);
                }
                continue;
            }
            directives.finish();
            if line.is_blank() {
                self.above.clear();
                continue;
            }
            self.instructions = true;
            self.instruction(line, &mut lines);
        }
    }

    fn comment(&mut self, line: &Line<'_>) {
        let from = line.indent() + 1;
        let text = String::from_utf8_lossy(&line.body()[from..]).trim().to_owned();
        if self.above.len() < MAX_ABOVE {
            let span = line.span(from..line.body().len());
            let text = text.clone();
            self.above.push(Word { text, span });
        }
        if text.is_empty() {
            self.comments.clear();
        } else if let Some((name, rest)) = text.split_once(' ') {
            self.comments
                .entry(name.to_owned())
                .or_insert_with(|| rest.to_owned());
        }
    }

    fn instruction(&mut self, first: Line<'_>, lines: &mut Lines<'_>) {
        let escape = self.directives.escape;
        let line = LogicalLine::join(first, lines, escape, &mut self.problems.0);
        if let Some(span) = line.blank_continuation {
            self.warnings.push(Diagnostic::warning(
                Rule::NoEmptyContinuation,
                span,
                "empty continuation line",
            ));
        }
        let comments = std::mem::take(&mut self.comments);
        let above = std::mem::take(&mut self.above);
        match read_line(&line, lines, escape, &comments, &mut self.problems) {
            // A broken FROM opens a stage all the same, or all that follows would be reported as lacking one.
            None if line
                .text
                .trim_start()
                .get(..4)
                .is_some_and(|word| word.eq_ignore_ascii_case("from")) =>
            {
                self.stage_complaint_done = true;
            }
            None => {}
            Some(parsed) => {
                if !above.is_empty() {
                    self.blocks.push(CommentBlock {
                        lines: above,
                        instruction: parsed.span().start,
                    });
                }
                self.parsed(parsed);
            }
        }
    }

    fn parsed(&mut self, parsed: Parsed) {
        match parsed {
            Parsed::From(stage) => self.stages.push(*stage),
            Parsed::Arg(args, _) if self.stages.is_empty() => self.global_args.extend(args),
            Parsed::Arg(_, instruction) | Parsed::Other(instruction) => match self.stages.last_mut() {
                Some(stage) => stage.instructions.push(instruction),
                // Once is enough.
                None if !self.stage_complaint_done => {
                    self.stage_complaint_done = true;
                    let problem = Diagnostic::error(instruction.span, "no build stage in current context");
                    self.problems
                        .push(problem.with_help("only ARG may stand in front of the first FROM"));
                }
                None => {}
            },
        }
    }
}
