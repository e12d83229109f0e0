//! A stage as one platform and target of the build sees it.

use std::collections::BTreeSet;
use std::rc::Rc;

use cooper_registry::oci::Platform;

use super::definition::Definition;
use super::mounts::from_of;
use super::source::Source;
use super::state::StageState;
use crate::dockerfile::{Instruction, InstructionKind, Span, Stage};

/// What a stage or a `--from` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Scratch,
    /// Number of an earlier stage of the same variant.
    Stage(usize),
    /// Number of a base image.
    Image(usize),
    /// Number of a named context with files.
    Files(usize),
}

/// An instruction with what is known of it before it is evaluated.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub(super) instruction: Rc<Instruction>,
    /// Of COPY the `--from`, of RUN that of each `--mount`; none is the build's context, or no source at all.
    pub(super) sources: Vec<Option<Origin>>,
    /// Its step, if it has one.
    pub(super) slot: Option<usize>,
    /// It is a trigger, for messages: `ONBUILD trigger "RUN make" of golang:onbuild`.
    pub(super) trigger: Option<String>,
}

/// A stage of one variant.
#[derive(Debug)]
pub(super) struct StagePlan {
    pub(super) variant: usize,
    /// Number in the file.
    pub(super) stage: usize,
    /// What its steps are for.
    pub(super) platform: Platform,
    pub(super) origin: Origin,
    /// Files as a base: the step that copies them.
    pub(super) files: Option<usize>,
    /// Its steps, without those that it shares with a stage before it.
    pub(super) own: BTreeSet<usize>,
    /// The step of its base is its own.
    pub(super) base_is_new: bool,
    /// A named context stands for the stage: its instructions mean nothing.
    pub(super) replaced: bool,
    /// RUN, COPY and ADD ignore the cache.
    pub(super) no_cache: bool,
    pub(super) instructions: Vec<Planned>,
    /// Instructions before this one have been evaluated.
    pub(super) cursor: usize,
    /// The state there; none until the base is known.
    pub(super) state: Option<StageState>,
    /// What the file says up to its end, for the outline.
    pub(super) outline: Option<Definition>,
    /// Something is wrong with it, and was noted.
    pub(super) failed: bool,
}

impl StagePlan {
    /// Whether its state is that of its end.
    pub(super) fn is_done(&self) -> bool {
        self.state.is_some() && self.cursor == self.instructions.len()
    }
}

/// Whether an instruction has a step.
pub(super) fn has_step(kind: &InstructionKind) -> bool {
    use InstructionKind::{Add, Copy, Run, Workdir};
    matches!(kind, Add(_) | Copy(_) | Run(_) | Workdir(_))
}

/// Whether later steps can depend on an instruction without a step.
pub(super) fn has_effect(kind: &InstructionKind) -> bool {
    use InstructionKind::{
        Cmd, Entrypoint, Expose, Healthcheck, Label, Maintainer, Onbuild, StopSignal, Volume,
    };
    !matches!(
        kind,
        Cmd(_)
            | Entrypoint(_)
            | Expose(_)
            | Healthcheck(_)
            | Label(_)
            | Maintainer(_)
            | Onbuild(_)
            | StopSignal(_)
            | Volume(_)
    )
}

/// The names that an instruction takes files from, with their places: one for each `--from` of COPY and `--mount` of RUN.
pub(super) fn references(instruction: &Instruction) -> Vec<Option<(String, Span)>> {
    match &instruction.kind {
        InstructionKind::Copy(copy) => copy
            .from
            .iter()
            .map(|from| Some((from.text.clone(), from.span)))
            .collect(),
        InstructionKind::Run(run) => {
            let mounts = run.flags.mounts.iter();
            mounts
                // What is wrong with a mount is told when it is evaluated.
                .map(|mount| from_of(mount).ok().flatten().map(|from| (from.text, from.span)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// The instruction's own bytes, the bodies of its here-documents included.
pub(super) fn bytes<'a>(source: &Source<'a>, planned: &'a Planned) -> &'a [u8] {
    if planned.trigger.is_some() {
        return planned.instruction.text.as_bytes();
    }
    source
        .bytes
        .get(planned.instruction.span.range())
        .unwrap_or_default()
}

/// Name of a stage in the names of its steps. A file with one stage, and no `--from` of an image, has none.
pub(super) fn label(stage: &Stage, number: usize, alone: bool) -> Option<String> {
    if alone {
        return None;
    }
    Some(stage.name.clone().unwrap_or_else(|| format!("stage-{number}")))
}
