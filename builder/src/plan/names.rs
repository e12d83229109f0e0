//! Names of steps, as BuildKit prints them.

use cooper_registry::oci::Platform;

use super::stage::{StagePlan, has_step};
use super::state::StageState;
use crate::dockerfile::{CommandForm, Instruction, InstructionKind, Lexer};

/// Numbers the steps of one stage.
pub(super) struct Numbering {
    label: String,
    width: usize,
    total: usize,
    number: usize,
}

impl Numbering {
    /// `label` is the stage's name, `platform` what is shown where a build has several.
    pub(super) fn new(stage: &StagePlan, label: Option<&str>, platform: Option<&str>) -> Self {
        let from = matches!(stage.origin, super::stage::Origin::Image(_)) || stage.files.is_some();
        // BuildKit counts every trigger, whether it has a step or not.
        let steps = stage
            .instructions
            .iter()
            .filter(|planned| planned.trigger.is_some() || has_step(&planned.instruction.kind));
        let total = steps.count() + usize::from(from);
        let prefix = platform.into_iter().chain(label);
        Self {
            label: prefix.flat_map(|part| [part, " "]).collect(),
            width: total.to_string().len(),
            total,
            number: 0,
        }
    }

    /// The next step's name.
    pub(super) fn next(&mut self, text: &str) -> String {
        self.number += 1;
        let Self {
            label,
            width,
            total,
            number,
        } = self;
        format!("[{label}{number:width$}/{total}] {text}")
    }
}

/// The platform in front of a stage's name, with the one it compiles for if its variables tell of another.
pub(super) fn platform(platform: &Platform, state: Option<&StageState>) -> String {
    let target = state.and_then(target).map(|target| Platform {
        os: if target.os.is_empty() {
            platform.os.clone()
        } else {
            target.os
        },
        architecture: if target.architecture.is_empty() {
            platform.architecture.clone()
        } else {
            target.architecture
        },
        ..target
    });
    match target.map(|target| target.normalized()) {
        Some(target) if target.os != platform.os => format!("{platform}->{target}"),
        Some(target) if target.architecture != platform.architecture => {
            let variant = target.variant.map(|variant| format!("/{variant}"));
            format!(
                "{platform}->{}{}",
                target.architecture,
                variant.unwrap_or_default()
            )
        }
        _ => platform.to_string(),
    }
}

/// What the variables TARGET* of a stage name.
fn target(state: &StageState) -> Option<Platform> {
    let mut found = Platform {
        architecture: String::new(),
        os: String::new(),
        os_version: None,
        variant: None,
    };
    let mut set = false;
    for name in state.names() {
        let value = || state.get(name).unwrap_or_default();
        match name {
            "TARGETPLATFORM" => match value().parse() {
                Ok(platform) => return Some(platform),
                Err(_) => continue,
            },
            "TARGETOS" => found.os = value(),
            "TARGETARCH" => found.architecture = value(),
            "TARGETVARIANT" => found.variant = Some(value()).filter(|variant| !variant.is_empty()),
            _ => continue,
        }
        set = true;
    }
    set.then_some(found)
}

/// An instruction for the reader; with a state, its variables are expanded.
pub(super) fn text(
    instruction: &Instruction,
    trigger: bool,
    state: Option<&StageState>,
    escape: char,
) -> String {
    let (_, rest) = instruction
        .text
        .split_at(instruction.keyword.text.len().min(instruction.text.len()));
    let mut text = format!("{}{rest}", instruction.keyword.text.to_uppercase());
    let is_run = matches!(instruction.kind, InstructionKind::Run(_));
    if let InstructionKind::Run(run) = &instruction.kind
        && let CommandForm::Shell { command, heredocs } = &run.form
        && let [heredoc] = heredocs.as_slice()
        && command.text.trim().starts_with("<<")
        && !command.text.trim().contains(char::is_whitespace)
    {
        let body = heredoc.content.trim();
        let more = if body.lines().count() > 1 { "..." } else { "" };
        text = format!("{text} ({}{more})", body.lines().next().unwrap_or_default());
    }
    if let Some(state) = state {
        let lexer = Lexer {
            escape,
            raw_quotes: is_run,
            keep_unset: is_run,
            ..Lexer::default()
        };
        if let Ok(expanded) = lexer.expand(&text, &|name| state.get(name)) {
            text = expanded.text;
        }
    }
    if trigger { format!("ONBUILD {text}") } else { text }
}
