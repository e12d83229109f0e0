//! Runs all rules and drops what the file does not want to hear.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ast::{CheckOptions, Dockerfile};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::{descriptions, files, instructions, own, scope, stages, variables};
use crate::ignore::Patterns;

/// What a build knows beyond the file.
#[derive(Clone, Copy, Default)]
pub struct Facts<'a> {
    /// Numbers of the stages that are looked at; all of them if there is no set.
    pub stages: Option<&'a BTreeSet<usize>>,
    /// `.dockerignore` of the context.
    pub ignore: Option<&'a Patterns>,
    /// Variables that the base image of a stage sets, by the stage's number. Rules about variables skip a stage on an image
    /// that is not in it.
    pub base_variables: Option<&'a BTreeMap<usize, BTreeSet<String>>>,
    /// Options that replace those of the file (BUILDKIT_DOCKERFILE_CHECK).
    pub options: Option<&'a CheckOptions>,
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts")
            .field("stages", &self.stages)
            .finish_non_exhaustive()
    }
}

impl Facts<'_> {
    pub(super) fn looks_at(&self, stage: usize) -> bool {
        self.stages.is_none_or(|stages| stages.contains(&stage))
    }
}

/// All warnings about a file that parses, those of the parser included, in the order of their places.
///
/// Rules that the file skips with its `check` directive, or with a `# check=skip=` comment directly above an instruction
/// or a stage, are left out; so are experimental ones that nobody asked for. Whether warnings fail the build
/// ([`CheckOptions::error`]) is the caller's affair.
#[must_use]
pub fn lint(file: &Dockerfile, facts: &Facts<'_>) -> Diagnostics {
    let mut found = file.warnings.clone();
    stages::check(file, &mut found);
    descriptions::check(file, &mut found);
    instructions::check(file, facts, &mut found);
    variables::check(file, facts, &mut found);
    files::check(file, facts, &mut found);
    own::check(file, facts, &mut found);
    let options = facts.options.unwrap_or(&file.directives.check);
    let skips = scope::skips(file);
    found
        .0
        .retain(|diagnostic| wanted(options, diagnostic) && !scope::is_skipped(&skips, diagnostic));
    found.sort();
    found
}

fn wanted(options: &CheckOptions, diagnostic: &Diagnostic) -> bool {
    let Some(rule) = diagnostic.rule else { return true };
    let names = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case(rule.name()));
    let asked = options.experimental_all || names(&options.experimental);
    if rule.is_experimental() && !asked {
        return false;
    }
    !options.skip_all && !names(&options.skip)
}
