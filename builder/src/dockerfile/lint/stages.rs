//! Rules about FROM.

use std::collections::BTreeSet;

use super::super::ast::{Dockerfile, Stage};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::expand::process_word;
use super::super::rule::Rule;
use super::super::suggest::nearest;

/// Arguments every FROM line knows.
const PLATFORM_ARGS: [&str; 11] = [
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETOSVERSION",
    "TARGETSTAGE",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "BUILDOSVERSION",
];

pub(super) fn check(file: &Dockerfile, found: &mut Diagnostics) {
    let mut names = BTreeSet::new();
    for stage in &file.stages {
        names_and_keywords(stage, &mut names, found);
        platform(stage, found);
        arguments(file, stage, found);
    }
}

fn names_and_keywords<'a>(stage: &'a Stage, names: &mut BTreeSet<&'a str>, found: &mut Diagnostics) {
    if let (Some(name), Some(word)) = (stage.name.as_deref(), &stage.name_word) {
        if word.text != name {
            let message = format!("stage name '{}' should be lowercase", word.text);
            found.push(Diagnostic::warning(Rule::StageNameCasing, word.span, message));
        }
        if !names.insert(name) {
            let message = format!("duplicate stage name {name:?}, stage names should be unique");
            found.push(Diagnostic::warning(Rule::DuplicateStageName, word.span, message));
        }
        if matches!(name, "context" | "scratch") {
            let message = format!("stage name should not use the same name as reserved stage {name:?}");
            found.push(Diagnostic::warning(Rule::ReservedStageName, word.span, message));
        }
    }
    if let (from, Some(keyword)) = &stage.keywords {
        let lower = |text: &str| text.chars().all(char::is_lowercase);
        let upper = |text: &str| text.chars().all(char::is_uppercase);
        let mismatch =
            lower(&from.text) && !lower(&keyword.text) || upper(&from.text) && !upper(&keyword.text);
        if mismatch {
            let message = format!(
                "'{}' and '{}' keywords' casing do not match",
                keyword.text, from.text
            );
            found.push(Diagnostic::warning(Rule::FromAsCasing, keyword.span, message));
        }
    }
}

fn platform(stage: &Stage, found: &mut Diagnostics) {
    let Some(platform) = &stage.platform else { return };
    if matches!(platform.text.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let message = format!(
            "setting platform to predefined {} in FROM is redundant as this is the default behavior",
            platform.text
        );
        found.push(Diagnostic::warning(
            Rule::RedundantTargetPlatform,
            platform.span,
            message,
        ));
    } else if !platform.text.contains('$') {
        // A stage that says in its name which platform it is for means it.
        let name = stage.name.as_deref().unwrap_or_default();
        let mut parts = platform.text.split('/').take(2);
        if !parts.any(|part| !part.is_empty() && name.contains(&part.to_lowercase())) {
            let message = format!(
                "FROM --platform flag should not use constant value {:?}",
                platform.text
            );
            found.push(Diagnostic::warning(
                Rule::FromPlatformFlagConstDisallowed,
                platform.span,
                message,
            ));
        }
    }
}

fn arguments(file: &Dockerfile, stage: &Stage, found: &mut Diagnostics) {
    let declared: Vec<&str> = file
        .global_args
        .iter()
        .map(|arg| arg.name.text.as_str())
        .chain(PLATFORM_ARGS)
        .collect();
    let value = |name: &str| declared.contains(&name).then(|| "x".to_owned());
    for word in [Some(&stage.base), stage.platform.as_ref()].into_iter().flatten() {
        // A word that cannot be expanded is the planner's error.
        let Ok(expanded) = process_word(&word.text, &value, file.directives.escape.char()) else {
            continue;
        };
        for name in expanded.unmatched {
            let message = format!("FROM argument '{name}' is not declared");
            let suggestion = nearest(&name, declared.iter().copied());
            found.push(
                Diagnostic::warning(Rule::UndefinedArgInFrom, word.span, message).with_suggestion(suggestion),
            );
        }
    }
}
