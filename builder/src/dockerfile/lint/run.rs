//! Runs all rules and drops what `# check=skip=` names.

use super::super::ast::Dockerfile;
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::{instructions, stages};

/// All warnings about a file that parses, those of the parser included, in the order of their places.
///
/// Rules that the file skips with its `check` directive are left out. Whether warnings fail the build
/// ([`super::super::CheckOptions::error`]) is the caller's affair.
#[must_use]
pub fn lint(file: &Dockerfile) -> Diagnostics {
    let mut found = file.warnings.clone();
    stages::check(file, &mut found);
    instructions::check(file, &mut found);
    let check = &file.directives.check;
    let skipped = |diagnostic: &Diagnostic| {
        check.skip_all
            || diagnostic
                .rule
                .is_some_and(|rule| check.skip.iter().any(|skip| skip == rule))
    };
    found.0.retain(|diagnostic| !skipped(diagnostic));
    found.sort();
    found
}
