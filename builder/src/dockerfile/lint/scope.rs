//! `# check=skip=` above one instruction: it holds for that instruction, above FROM for the whole stage.

use super::super::ast::{CheckOptions, Dockerfile, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::directive::check_options;
use super::super::span::Span;

/// What is skipped in a part of the file.
pub(super) struct Skip {
    range: std::ops::Range<usize>,
    options: CheckOptions,
}

/// Reads check options from outside of the file (BUILDKIT_DOCKERFILE_CHECK).
///
/// # Errors
/// What is wrong with them; places mean nothing.
pub fn parse_check_options(text: &str) -> Result<CheckOptions, Diagnostics> {
    let mut problems = Diagnostics::default();
    let text = text.to_owned();
    let options = check_options(
        &Word {
            text,
            span: Span::FILE,
        },
        &mut problems,
    );
    if problems.is_empty() {
        Ok(options)
    } else {
        Err(problems)
    }
}

pub(super) fn skips(file: &Dockerfile) -> Vec<Skip> {
    let first = file.stages.first().map_or(0, |stage| stage.span.start);
    let mut skips = Vec::new();
    for block in &file.comments {
        // What stands at the top of the file is the directive for all of it.
        if block.instruction <= first && block.lines.first().is_some_and(|line| line.span.line == 1) {
            continue;
        }
        for line in &block.lines {
            let Some(value) = line.text.strip_prefix("check=") else {
                continue;
            };
            let Ok(options) = parse_check_options(value) else {
                continue;
            };
            let range = range(file, block.instruction);
            skips.push(Skip { range, options });
        }
    }
    skips
}

/// The instruction that begins at `start`, or its stage if it is FROM.
fn range(file: &Dockerfile, start: usize) -> std::ops::Range<usize> {
    if let Some(at) = file.stages.iter().position(|stage| stage.span.start == start) {
        let end = file.stages.get(at + 1).map_or(usize::MAX, |next| next.span.start);
        return start..end;
    }
    let mut instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let found = instructions.find(|instruction| instruction.span.start == start);
    start..found.map_or(start, |instruction| instruction.span.end)
}

pub(super) fn is_skipped(skips: &[Skip], diagnostic: &Diagnostic) -> bool {
    let Some(rule) = diagnostic.rule else { return false };
    skips.iter().any(|skip| {
        let names = || {
            skip.options
                .skip
                .iter()
                .any(|name| name.eq_ignore_ascii_case(rule.name()))
        };
        skip.range.contains(&diagnostic.span.start) && (skip.options.skip_all || names())
    })
}
