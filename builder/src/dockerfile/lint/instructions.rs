//! Rules about the instructions in stages.

use super::super::ast::{CommandForm, Dockerfile, Instruction, InstructionKind, KeyValue, Stage, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::rule::Rule;
use super::super::span::Span;
use super::super::symbols::resolve_base;
use super::run::Facts;

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, found: &mut Diagnostics) {
    keyword_case(file, found);
    let mut set = Vec::new();
    for (i, stage) in file.stages.iter().enumerate() {
        let mut unseen = Diagnostics::default();
        let found = if facts.looks_at(i) {
            &mut *found
        } else {
            &mut unseen
        };
        let inherited = resolve_base(&file.stages, &stage.base.text, i).is_some_and(|base| set[base]);
        set.push(workdirs(stage, inherited, found));
        only_last_counts(stage, found);
        let mut shell = false;
        for instruction in &stage.instructions {
            shell |= matches!(instruction.kind, InstructionKind::Shell(_));
            check_one(instruction, shell, found);
        }
    }
}

fn check_one(instruction: &Instruction, shell: bool, found: &mut Diagnostics) {
    let mut warn = |rule, span: Span, message: String| found.push(Diagnostic::warning(rule, span, message));
    match &instruction.kind {
        InstructionKind::Cmd(CommandForm::Shell { command, .. })
        | InstructionKind::Entrypoint(CommandForm::Shell { command, .. })
            if !shell =>
        {
            let name = instruction.keyword.text.to_uppercase();
            let message = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            warn(Rule::JSONArgsRecommended, command.span, message);
        }
        InstructionKind::Maintainer(_) => {
            let message = "MAINTAINER instruction is deprecated in favor of using label".to_owned();
            warn(Rule::MaintainerDeprecated, instruction.span, message);
        }
        InstructionKind::Env(pairs) => {
            legacy("ENV", pairs, &mut warn);
            pairs.iter().for_each(|pair| secret("ENV", &pair.key, &mut warn));
        }
        InstructionKind::Label(pairs) => legacy("LABEL", pairs, &mut warn),
        InstructionKind::Arg(args) => args.iter().for_each(|arg| secret("ARG", &arg.name, &mut warn)),
        InstructionKind::Expose(ports) => ports.iter().for_each(|port| expose(port, &mut warn)),
        _ => {}
    }
}

fn legacy(name: &str, pairs: &[KeyValue], warn: &mut impl FnMut(Rule, Span, String)) {
    if let Some(pair) = pairs.iter().find(|pair| pair.legacy) {
        let message =
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        warn(
            Rule::LegacyKeyValueFormat,
            pair.key.span.to(pair.value.span),
            message,
        );
    }
}

fn secret(instruction: &str, key: &Word, warn: &mut impl FnMut(Rule, Span, String)) {
    const SECRET: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: [&str; 3] = ["public", "file", "version"];
    let name = key.text.to_lowercase();
    let has = |words: &[&str]| name.split('_').any(|part| words.contains(&part));
    if has(&SECRET) && !has(&HARMLESS) {
        let message = format!(
            "do not use ARG or ENV instructions for sensitive data ({instruction} {:?})",
            key.text
        );
        warn(Rule::SecretsUsedInArgOrEnv, key.span, message);
    }
}

fn expose(port: &Word, warn: &mut impl FnMut(Rule, Span, String)) {
    let text = port.text.as_str();
    if text.contains('$') {
        return;
    }
    if let Some((_, protocol)) = text.split_once('/')
        && protocol.chars().any(char::is_uppercase)
    {
        let message = format!("defined protocol '{text}' in EXPOSE instruction should be lowercase");
        warn(Rule::ExposeProtoCasing, port.span, message);
    }
    if text.contains(':') {
        let message = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'"
        );
        warn(Rule::ExposeInvalidFormat, port.span, message);
    }
}

/// All keywords in the case of most of them; ARG in front of FROM is not counted.
fn keyword_case(file: &Dockerfile, found: &mut Diagnostics) {
    let keywords = || {
        file.stages.iter().flat_map(|stage| {
            [&stage.keywords.0]
                .into_iter()
                .chain(stage.instructions.iter().map(|instruction| &instruction.keyword))
        })
    };
    let count = |is: fn(char) -> bool| keywords().filter(|keyword| keyword.text.chars().all(is)).count();
    let lower = count(char::is_lowercase) > count(char::is_uppercase);
    let (is, case): (fn(char) -> bool, _) = if lower {
        (char::is_lowercase, "lowercase")
    } else {
        (char::is_uppercase, "uppercase")
    };
    for keyword in keywords().filter(|keyword| !keyword.text.chars().all(is)) {
        let message = format!(
            "command '{}' should match the case of the command majority ({case})",
            keyword.text
        );
        found.push(Diagnostic::warning(
            Rule::ConsistentInstructionCasing,
            keyword.span,
            message,
        ));
    }
}

/// Warns of a relative directory where none was set before; whether one is set in the end.
fn workdirs(stage: &Stage, mut set: bool, found: &mut Diagnostics) -> bool {
    for instruction in &stage.instructions {
        let InstructionKind::Workdir(path) = &instruction.kind else {
            continue;
        };
        // What a variable holds is not known here.
        if !set && !path.text.trim_start_matches(['"', '\'']).starts_with(['/', '$']) {
            let message = format!(
                "relative workdir {:?} can have unexpected results if the base image changes",
                path.text
            );
            found.push(Diagnostic::warning(Rule::WorkdirRelativePath, path.span, message));
        }
        set = true;
    }
    set
}

fn only_last_counts(stage: &Stage, found: &mut Diagnostics) {
    for name in ["CMD", "ENTRYPOINT", "HEALTHCHECK"] {
        let same = stage
            .instructions
            .iter()
            .filter(|i| i.keyword.text.eq_ignore_ascii_case(name));
        let spans: Vec<Span> = same.map(|instruction| instruction.span).collect();
        // The last one counts, so the others are at fault.
        for span in spans.iter().rev().skip(1).rev() {
            let message = format!(
                "multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            found.push(Diagnostic::warning(
                Rule::MultipleInstructionsDisallowed,
                *span,
                message,
            ));
        }
    }
}
