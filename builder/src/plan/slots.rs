//! The list of all steps: first their names, from the file alone; then, as stages become known, what they do.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooper_registry::oci::Platform;

use super::definition::{Definition, define};
use super::step::{Action, Step};
use crate::build::StepInfo;
use crate::dockerfile::Span;
use crate::fetch::redact;

/// Steps by their numbers.
#[derive(Debug, Default)]
pub(super) struct Slots {
    infos: Vec<StepInfo>,
    /// Of each step that is known.
    definitions: Vec<Option<Definition>>,
    /// By what the file says: steps of several platforms or targets that read the same are announced once.
    by_outline: BTreeMap<Definition, usize>,
    /// By what they turned out to be.
    by_definition: BTreeMap<Definition, usize>,
    /// Known steps that nobody has fetched yet.
    fresh: Vec<Arc<Step>>,
    /// Something was named since the names were fetched.
    renamed: bool,
    /// Keys of the named contexts.
    contexts: Vec<String>,
}

/// A step about to be added.
pub(super) struct Draft<'a> {
    pub(super) span: Span,
    pub(super) parent: Option<usize>,
    pub(super) action: Action,
    pub(super) platform: &'a Platform,
    pub(super) no_cache: bool,
    pub(super) trigger: Option<String>,
    /// See [`Step::variables`].
    pub(super) variables: BTreeMap<String, String>,
}

impl Slots {
    /// None yet; steps may copy from these named contexts.
    pub(super) fn new(contexts: Vec<String>) -> Self {
        Self {
            contexts,
            // That there is nothing is news at first.
            renamed: true,
            ..Self::default()
        }
    }

    /// Announces a step, or finds the one that reads the same. `true` if it is new.
    pub(super) fn announce(&mut self, outline: Definition, line: usize) -> (usize, bool) {
        if let Some(&slot) = self.by_outline.get(&outline) {
            return (slot, false);
        }
        let slot = self.append(line);
        self.by_outline.insert(outline, slot);
        (slot, true)
    }

    /// Announces a step of its own.
    pub(super) fn append(&mut self, line: usize) -> usize {
        let id = self.infos.len();
        self.infos.push(StepInfo {
            id,
            name: String::new(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
        });
        self.definitions.push(None);
        self.renamed = true;
        id
    }

    pub(super) fn name(&mut self, slot: usize, mut name: String) {
        // Sources of ADD may have credentials in them.
        if name.starts_with("ADD ") || name.contains("] ADD ") {
            name = redact(&name);
        }
        let info = &mut self.infos[slot];
        if info.name != name {
            info.name = name;
            self.renamed = true;
        }
    }

    pub(super) fn current(&self, slot: usize) -> &str {
        &self.infos[slot].name
    }

    /// Says what a step does: that of `slot` if it is not known yet. Gives the number of the step with the result, which
    /// is another one where the same was there before.
    pub(super) fn put(&mut self, slot: usize, draft: Draft<'_>) -> usize {
        let definition = define(
            &draft.action,
            draft.parent,
            draft.platform,
            draft.no_cache,
            &|step| self.definitions[step].clone(),
            &|context| self.contexts[context].clone(),
        );
        let known = self.definitions[slot].as_ref();
        if let Some(&same) = self.by_definition.get(&definition) {
            if same != slot && known.is_none() {
                let action = Action::Same(same);
                self.fill(slot, definition, Draft { action, ..draft });
            }
            return same;
        }
        let slot = match known {
            None => slot,
            // What read the same is not: a trigger of the base differs by platform or target.
            Some(_) => {
                let StepInfo { name, line, .. } = self.infos[slot].clone();
                let slot = self.append(line as usize);
                self.name(slot, name);
                slot
            }
        };
        self.by_definition.insert(definition.clone(), slot);
        self.fill(slot, definition, draft);
        slot
    }

    /// Adds a step that the file does not announce, with the name of the step `of`; gives its number, which is that of the
    /// same step if it was there before.
    pub(super) fn add(&mut self, of: usize, draft: Draft<'_>) -> usize {
        let definition = define(
            &draft.action,
            draft.parent,
            draft.platform,
            draft.no_cache,
            &|step| self.definitions[step].clone(),
            &|context| self.contexts[context].clone(),
        );
        if let Some(&same) = self.by_definition.get(&definition) {
            return same;
        }
        let StepInfo { name, line, .. } = self.infos[of].clone();
        let slot = self.append(line as usize);
        self.name(slot, name);
        self.by_definition.insert(definition.clone(), slot);
        self.fill(slot, definition, draft);
        slot
    }

    fn fill(&mut self, slot: usize, definition: Definition, draft: Draft<'_>) {
        self.definitions[slot] = Some(definition.clone());
        self.fresh.push(Arc::new(Step {
            info: self.infos[slot].clone(),
            span: draft.span,
            parent: draft.parent,
            action: draft.action,
            definition,
            platform: draft.platform.clone(),
            no_cache: draft.no_cache,
            trigger: draft.trigger,
            variables: draft.variables,
        }));
    }

    /// What a step is for those that start from it, once more is known of it than its source.
    pub(super) fn redefine(&mut self, slot: usize, definition: Definition) {
        self.definitions[slot] = Some(definition);
    }

    /// Steps that have become known since the last call; each comes after those it needs.
    pub(super) fn fetch(&mut self) -> Vec<Arc<Step>> {
        std::mem::take(&mut self.fresh)
    }

    /// All names, if one has changed since the last call.
    pub(super) fn names(&mut self) -> Option<Vec<StepInfo>> {
        std::mem::take(&mut self.renamed).then(|| self.infos.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.infos.len()
    }

    pub(super) fn contexts(&self) -> &[String] {
        &self.contexts
    }
}
