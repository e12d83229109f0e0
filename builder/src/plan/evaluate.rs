//! Turns one instruction into steps, config and history.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cooper_registry::oci::Platform;

use super::args::Globals;
use super::slots::{Draft, Slots};
use super::source::Source;
use super::state::StageState;
use super::step::{Action, CopyFrom};
use crate::build::{Error, Request};
use crate::dockerfile::{Instruction, InstructionKind, Span, Word};
use crate::fetch::Remote;

/// What instructions see of the build around them.
pub(super) struct Evaluator<'a> {
    pub(super) request: &'a Request,
    pub(super) source: Source<'a>,
    pub(super) globals: &'a Globals,
    pub(super) escape: char,
    pub(super) platform: &'a Platform,
    pub(super) no_cache: bool,
    /// Where the instruction takes files from; see [`Self::from`].
    pub(super) sources: Vec<Option<CopyFrom>>,
    /// The instruction's step.
    pub(super) slot: Option<usize>,
    pub(super) trigger: Option<&'a str>,
    pub(super) slots: &'a mut Slots,
    /// Variables that the instruction has used.
    pub(super) expanded: RefCell<BTreeMap<String, String>>,
}

impl Evaluator<'_> {
    /// Evaluates the instruction; what it does is added to `state`.
    pub(super) fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
    ) -> Result<(), Error> {
        match &instruction.kind {
            InstructionKind::Run(run) => self.run(state, instruction, run),
            InstructionKind::Copy(copy) => self.copy(state, instruction, copy),
            InstructionKind::Add(add) => self.add(state, instruction, add),
            InstructionKind::Workdir(path) => self.workdir(state, instruction, path),
            InstructionKind::Arg(args) => self.arg(state, args),
            kind => self.configure(state, kind),
        }
    }

    /// Where the `--from` of COPY (`index` 0), or the `from` of mount number `index` of RUN, takes files from; none
    /// without one. The plan has resolved the name: a stage, image or named context.
    pub(super) fn from(&self, index: usize) -> Option<CopyFrom> {
        self.sources.get(index).copied().flatten()
    }

    /// Adds the instruction's step and gives its number.
    pub(super) fn push(&mut self, span: Span, parent: Option<usize>, action: Action) -> Result<usize, Error> {
        let slot = self
            .slot
            .ok_or_else(|| Error::internal("only instructions that were announced have steps"))?;
        // WORKDIR is made again only if what it stands on is.
        let no_cache = self.no_cache && matches!(action, Action::Run(_) | Action::Copy(_));
        Ok(self.slots.put(
            slot,
            Draft {
                span,
                parent,
                action,
                platform: self.platform,
                no_cache,
                trigger: self.trigger.map(str::to_owned),
                variables: self.expanded.take(),
            },
        ))
    }

    /// The step that fetches a source of the instruction; like BuildKit's it has the instruction's name.
    pub(super) fn fetch(&mut self, span: Span, remote: Remote) -> Result<usize, Error> {
        let slot = self
            .slot
            .ok_or_else(|| Error::internal("only instructions that were announced have steps"))?;
        Ok(self.slots.add(
            slot,
            Draft {
                span,
                parent: None,
                action: Action::Fetch(remote),
                platform: self.platform,
                no_cache: false,
                trigger: self.trigger.map(str::to_owned),
                variables: BTreeMap::new(),
            },
        ))
    }

    /// Expands a word with the stage's variables.
    pub(super) fn expand(&self, state: &StageState, word: &Word) -> Result<String, Error> {
        let lookup = |name: &str| {
            let value = state.get(name);
            self.expanded
                .borrow_mut()
                .insert(name.to_owned(), value.clone().unwrap_or_default());
            value
        };
        self.source.expand(word, &lookup, self.escape)
    }

    pub(super) fn escape(&self) -> char {
        self.escape
    }

    pub(super) fn global(&self, name: &str) -> Option<String> {
        self.globals.get(name)
    }
}
