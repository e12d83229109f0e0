//! COPY and ADD of files that the context does not have because they are ignored.

use super::super::ast::{Dockerfile, InstructionKind, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::rule::Rule;
use super::run::Facts;

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, found: &mut Diagnostics) {
    // Exceptions make it hard to say what a pattern leaves; BuildKit does not try either.
    let Some(ignore) = facts.ignore.filter(|ignore| !ignore.has_exceptions()) else {
        return;
    };
    for (index, stage) in file.stages.iter().enumerate() {
        if !facts.looks_at(index) {
            continue;
        }
        for instruction in &stage.instructions {
            let (verb, sources): (_, &[Word]) = match &instruction.kind {
                InstructionKind::Copy(copy) if copy.from.is_none() => ("Copy", &copy.sources),
                InstructionKind::Add(add) => ("Add", &add.sources),
                _ => continue,
            };
            for source in sources {
                // What a variable holds is not known here.
                if source.text.contains("://") || source.text.contains('$') {
                    continue;
                }
                let parts = source.text.split('/').filter(|part| !matches!(*part, "" | "."));
                let path = parts.collect::<Vec<_>>().join("/");
                if ignore.is_ignored(path.as_bytes()) {
                    let message = format!(
                        "attempting to {verb} file {:?} that is excluded by .dockerignore",
                        source.text
                    );
                    found.push(Diagnostic::warning(Rule::CopyIgnoredFile, source.span, message));
                }
            }
        }
    }
}
