//! Variables that nothing defines.

use std::collections::{BTreeMap, BTreeSet};

use cooper_registry::reference::ImageRef;

use super::super::ast::{Dockerfile, Instruction, InstructionKind, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::expand::{process_heredoc, process_word};
use super::super::rule::Rule;
use super::super::suggest::nearest;
use super::super::symbols::resolve_base;
use super::run::Facts;

/// Variables that are set although nobody says so.
const ALWAYS: [&str; 1] = ["PATH"];
/// Arguments of the frontend that never become variables, so using them is no mistake of the stage.
const NEVER: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, found: &mut Diagnostics) {
    defaults(file, found);
    let mut known: BTreeMap<usize, Option<BTreeSet<String>>> = BTreeMap::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let base = match resolve_base(&file.stages, &stage.base.text, index) {
            Some(base) => known.get(&base).cloned().flatten(),
            None if stage.base.text == "scratch" => Some(BTreeSet::new()),
            None => facts.base_variables.and_then(|bases| bases.get(&index)).cloned(),
        };
        let mut variables = base;
        for instruction in &stage.instructions {
            if let (Some(variables), true) = (&variables, facts.looks_at(index)) {
                undefined(file, instruction, variables, found);
            }
            if let Some(variables) = &mut variables {
                define(instruction, variables);
            }
        }
        known.insert(index, variables);
    }
}

/// Names that the instruction defines for those after it.
fn define(instruction: &Instruction, variables: &mut BTreeSet<String>) {
    match &instruction.kind {
        InstructionKind::Arg(args) => variables.extend(args.iter().map(|arg| arg.name.text.clone())),
        InstructionKind::Env(pairs) => variables.extend(pairs.iter().map(|pair| unquoted(&pair.key.text))),
        _ => {}
    }
}

fn unquoted(text: &str) -> String {
    text.trim_matches(['"', '\'']).to_owned()
}

fn undefined(
    file: &Dockerfile,
    instruction: &Instruction,
    variables: &BTreeSet<String>,
    found: &mut Diagnostics,
) {
    let escape = file.directives.escape.char();
    // Arguments of one instruction see those in front of them.
    let mut own = BTreeSet::new();
    if let InstructionKind::Arg(args) = &instruction.kind {
        own.extend(args.iter().map(|arg| arg.name.text.as_str()));
    }
    let is_set = |name: &str| variables.contains(name) || ALWAYS.contains(&name) || own.contains(name);
    let lookup = |name: &str| is_set(name).then(|| "x".to_owned());
    let mut seen = BTreeSet::new();
    let mut report = |word: &Word, unmatched: BTreeSet<String>| {
        for name in unmatched {
            if NEVER.contains(&name.as_str()) || !seen.insert(name.clone()) {
                continue;
            }
            let candidates = variables.iter().map(String::as_str).chain(ALWAYS);
            let suggestion = nearest(&name, candidates).map(|near| format!("${near}"));
            let message = format!("usage of undefined variable '${name}'");
            let warning = Diagnostic::warning(Rule::UndefinedVar, word.span, message);
            found.push(warning.with_suggestion(suggestion));
        }
    };
    for (word, _) in instruction.kind.expandable() {
        if let Ok(expanded) = process_word(&word.text, &lookup, escape) {
            report(word, expanded.unmatched);
        }
    }
    let heredocs = match &instruction.kind {
        InstructionKind::Copy(copy) => copy.heredocs.as_slice(),
        InstructionKind::Add(add) => add.heredocs.as_slice(),
        InstructionKind::Run(run) => {
            for mount in &run.flags.mounts {
                // Values but that of `from` are expanded, one by one.
                for part in mount
                    .text
                    .split(',')
                    .filter(|part| !part.trim_start().starts_with("from="))
                {
                    if let Ok(expanded) = process_word(part, &lookup, escape) {
                        report(mount, expanded.unmatched);
                    }
                }
            }
            &[]
        }
        _ => &[],
    };
    for heredoc in heredocs.iter().filter(|heredoc| heredoc.expand) {
        if let Ok(expanded) = process_heredoc(&heredoc.content, &lookup) {
            let word = Word {
                text: String::new(),
                span: heredoc.span,
            };
            report(&word, expanded.unmatched);
        }
    }
}

/// FROM must name an image even where nobody gives build arguments.
fn defaults(file: &Dockerfile, found: &mut Diagnostics) {
    let escape = file.directives.escape.char();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    for arg in &file.global_args {
        let Some(default) = &arg.default else { continue };
        let expanded = process_word(&default.text, &|name| values.get(name).cloned(), escape);
        if let Ok(expanded) = expanded {
            values.insert(arg.name.text.clone(), expanded.text);
        }
    }
    let declared = |name: &str| file.global_args.iter().any(|arg| arg.name.text == name);
    for stage in &file.stages {
        let lookup = |name: &str| values.get(name).cloned();
        let Ok(expanded) = process_word(&stage.base.text, &lookup, escape) else {
            continue;
        };
        let uses = expanded
            .matched
            .iter()
            .chain(&expanded.unmatched)
            .any(|name| declared(name));
        if uses && expanded.text.parse::<ImageRef>().is_err() {
            let message = format!(
                "default value for ARG {} results in empty or invalid base image name",
                stage.base.text
            );
            found.push(Diagnostic::warning(
                Rule::InvalidDefaultArgInFrom,
                stage.base.span,
                message,
            ));
        }
    }
}
