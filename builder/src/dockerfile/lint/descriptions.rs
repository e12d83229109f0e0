//! Comments that look like a description of a stage or an argument but are none.

use super::super::ast::Dockerfile;
use super::super::ast::InstructionKind;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::rule::Rule;

pub(super) fn check(file: &Dockerfile, found: &mut Diagnostics) {
    for block in &file.comments {
        let Some(last) = block.lines.last().filter(|line| !line.text.is_empty()) else {
            continue;
        };
        let Some((what, names)) = described(file, block.instruction) else {
            continue;
        };
        let first = last.text.split(' ').next().unwrap_or_default();
        if names.contains(&first) || first.starts_with("check=") || names.is_empty() {
            continue;
        }
        let example = if names.len() > 1 { "<arg_key>" } else { names[0] };
        let message = format!("comment for {what} should follow the format: `# {example} <description>`");
        let warning = Diagnostic::warning(Rule::InvalidDefinitionDescription, last.span, message);
        found.push(warning.with_help("an empty line below makes it an ordinary comment"));
    }
}

/// What begins at `start`, if it can have a description, and its names.
fn described(file: &Dockerfile, start: usize) -> Option<(&'static str, Vec<&str>)> {
    if let Some(stage) = file.stages.iter().find(|stage| stage.span.start == start) {
        let names = stage.name_word.as_ref().map(|word| word.text.as_str());
        return Some(("FROM", names.into_iter().collect()));
    }
    let mut instructions = file.stages.iter().flat_map(|stage| &stage.instructions);
    let of_stage = instructions.find_map(|instruction| match &instruction.kind {
        InstructionKind::Arg(args) if instruction.span.start == start => {
            Some(args.iter().collect::<Vec<_>>())
        }
        _ => None,
    });
    let args = of_stage.unwrap_or_else(|| {
        // Arguments in front of the first FROM have no instruction of their own: those on the line that begins here.
        let line = |arg: &&super::super::ast::ArgDecl| {
            let next = file
                .comments
                .iter()
                .map(|block| block.instruction)
                .filter(|&other| other > start)
                .min();
            arg.name.span.start > start && next.is_none_or(|next| arg.name.span.start < next)
        };
        let line_of = file
            .global_args
            .iter()
            .filter(line)
            .map(|arg| arg.name.span.line)
            .min();
        file.global_args
            .iter()
            .filter(line)
            .filter(|arg| Some(arg.name.span.line) == line_of)
            .collect()
    });
    let names: Vec<&str> = args.iter().map(|arg| arg.name.text.as_str()).collect();
    (!names.is_empty()).then_some(("ARG", names))
}
