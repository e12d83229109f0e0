//! Rules of Cooper's own; they run only when `# check=experimental=` names them.

use super::super::ast::{CommandForm, Dockerfile, Heredoc, InstructionKind, Stage, Word};
use super::super::diagnostic::{Diagnostic, Diagnostics};
use super::super::rule::Rule;
use super::super::symbols::resolve_base;
use super::run::Facts;

pub(super) fn check(file: &Dockerfile, facts: &Facts<'_>, found: &mut Diagnostics) {
    for (index, stage) in file.stages.iter().enumerate() {
        if !facts.looks_at(index) {
            continue;
        }
        let is_stage = resolve_base(&file.stages, &stage.base.text, index).is_some();
        if !is_stage {
            pinned(stage, found);
        }
        for instruction in &stage.instructions {
            if let InstructionKind::Run(run) = &instruction.kind {
                let (texts, heredocs) = texts(&run.form);
                errexit(heredocs, found);
                if let Some((word, why)) = texts.into_iter().find_map(|word| {
                    let why = variable(&word.text)?;
                    Some((word, why))
                }) {
                    let message = format!("the result of this RUN depends on {why}");
                    found.push(Diagnostic::warning(Rule::NonDeterministicRun, word.span, message));
                }
            }
        }
    }
}

fn pinned(stage: &Stage, found: &mut Diagnostics) {
    let base = stage.base.text.as_str();
    if base == "scratch" || base.contains('@') || base.contains('$') {
        return;
    }
    let message = format!("base image {base:?} is not pinned by digest");
    let warning = Diagnostic::warning(Rule::UnpinnedBaseImage, stage.base.span, message);
    found.push(warning.with_help("write image:tag@sha256:…"));
}

/// The texts of a command: its line or arguments, and the bodies of its here-documents.
fn texts(form: &CommandForm) -> (Vec<Word>, &[Heredoc]) {
    match form {
        CommandForm::Shell { command, heredocs } => {
            let bodies = heredocs.iter().map(|heredoc| Word {
                text: heredoc.content.clone(),
                span: heredoc.body,
            });
            (std::iter::once(command.clone()).chain(bodies).collect(), heredocs)
        }
        CommandForm::Exec(words) => (words.clone(), &[]),
    }
}

/// A here-document that is a script for the shell must stop at the first failure by itself.
fn errexit(heredocs: &[Heredoc], found: &mut Diagnostics) {
    for heredoc in heredocs {
        let lines = || {
            heredoc
                .content
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
        };
        let commands = lines().filter(|line| !line.starts_with('#')).count();
        let stops = lines().any(|line| {
            let set = line.strip_prefix("set ").is_some_and(|options| {
                options.split_whitespace().any(|option| {
                    option == "errexit"
                        || (option.starts_with('-') && !option.starts_with("--") && option.contains('e'))
                })
            });
            let interpreter = line.starts_with("#!");
            set || (interpreter && (line.contains(" -e") || !line.contains("sh")))
        });
        if commands > 1 && !stops {
            let message = "this here-document goes on after a command that failed";
            let warning = Diagnostic::warning(Rule::HeredocWithoutErrexit, heredoc.span, message);
            found.push(warning.with_help("begin it with set -e"));
        }
    }
}

/// What in a command line differs from one day to the next.
fn variable(text: &str) -> Option<&'static str> {
    const COMMANDS: [(&[&str], &str); 14] = [
        (
            &["apt-get", "upgrade"],
            "what the distribution offers today (apt-get upgrade)",
        ),
        (
            &["apt-get", "dist-upgrade"],
            "what the distribution offers today (apt-get dist-upgrade)",
        ),
        (
            &["apt", "upgrade"],
            "what the distribution offers today (apt upgrade)",
        ),
        (
            &["apk", "upgrade"],
            "what the distribution offers today (apk upgrade)",
        ),
        (
            &["dnf", "upgrade"],
            "what the distribution offers today (dnf upgrade)",
        ),
        (
            &["yum", "update"],
            "what the distribution offers today (yum update)",
        ),
        (
            &["git", "clone"],
            "the state of a repository (git clone; ADD pins a commit)",
        ),
        (
            &["npm", "install"],
            "what the registry offers today (npm install; npm ci keeps to the lock file)",
        ),
        (&["curl"], "what a server sends (curl; ADD --checksum pins it)"),
        (&["wget"], "what a server sends (wget; ADD --checksum pins it)"),
        (&["date"], "the time (date)"),
        (&["uuidgen"], "chance (uuidgen)"),
        (&["mktemp"], "chance (mktemp)"),
        (&["shuf"], "chance (shuf)"),
    ];
    if text.contains("$RANDOM") || text.contains("/dev/urandom") || text.contains("/dev/random") {
        return Some("chance");
    }
    let separators = [';', '&', '|', '(', ')', '`', '\n', '{', '}'];
    for command in text.split(separators) {
        let mut words = command.split_whitespace().filter(|word| !word.starts_with('-'));
        let Some(program) = words.find(|word| !word.contains('=') && *word != "sudo" && *word != "exec")
        else {
            continue;
        };
        let program = program
            .rsplit('/')
            .next()
            .unwrap_or(program)
            .trim_start_matches("$(");
        let subcommand = words.next();
        let hit = COMMANDS.iter().find(|(wanted, _)| {
            wanted[0] == program && wanted.get(1).is_none_or(|second| subcommand == Some(second))
        });
        if let Some((_, why)) = hit {
            return Some(why);
        }
    }
    None
}
