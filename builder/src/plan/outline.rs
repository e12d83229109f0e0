//! The outline: which steps the file tells of, and their names, before any base image is known.

use std::collections::{BTreeMap, BTreeSet};

use cooper_registry::oci::Platform;

use super::definition::{Definer, Definition};
use super::names::{Numbering, platform as platform_name, text};
use super::planner::Planner;
use super::slots::Draft;
use super::stage::{Origin, Planned, bytes, has_effect, has_step, label};
use super::step::{Action, CopyAction, CopyFrom, CopySource};
use crate::dockerfile::InstructionKind;

impl Planner<'_> {
    /// Outlines the steps of a stage whose base is outlined.
    pub(super) fn outline(&mut self, id: usize) {
        let variant = self.stages[id].variant;
        let origin = self.stages[id].origin.clone();
        // What stands on another stage is for what that is for.
        if let Origin::Stage(base) = &origin {
            let base = &self.stages[self.index[&(variant, *base)]];
            self.stages[id].platform = base.platform.clone();
        }
        let platform = self.stages[id].platform.clone();
        let mut base_is_new = false;
        match &origin {
            Origin::Image(base) => base_is_new = self.place_base(*base),
            Origin::Files(context) => self.copy_files(id, *context),
            Origin::Scratch | Origin::Stage(_) => {}
        }
        let mut outline = self.outline_of(variant, &origin, &platform);
        let mut new = BTreeSet::new();
        let mut instructions = std::mem::take(&mut self.stages[id].instructions);
        for planned in &mut instructions {
            if !has_effect(&planned.instruction.kind) {
                continue;
            }
            outline = self.outline_instruction(id, outline, planned);
            if has_step(&planned.instruction.kind) {
                self.place_sources(planned);
                let (slot, is_new) = self
                    .slots
                    .announce(outline.clone(), planned.instruction.span.line);
                planned.slot = Some(slot);
                if is_new {
                    new.insert(slot);
                }
            }
        }
        self.stages[id].instructions = instructions;
        self.stages[id].outline = Some(outline);
        self.stages[id].base_is_new = base_is_new;
        self.stages[id].own = new.clone();
        self.name_steps(id, base_is_new, &new);
    }

    fn outline_of(&self, variant: usize, origin: &Origin, platform: &Platform) -> Definition {
        let mut definer = Definer::new("outline");
        definer.add("platform", platform.to_string());
        match origin {
            Origin::Scratch => definer.add("from", "scratch"),
            Origin::Stage(stage) => {
                let base = &self.stages[self.index[&(variant, *stage)]];
                definer.add_some("stage", base.outline.as_ref().map(Definition::as_str));
            }
            Origin::Image(number) => definer.add("image", number.to_string()),
            Origin::Files(number) => definer.add("files", number.to_string()),
        }
        definer.finish()
    }

    fn outline_instruction(&self, id: usize, before: Definition, planned: &Planned) -> Definition {
        let stage = &self.stages[id];
        let mut definer = Definer::new("instruction");
        definer.add("before", before.as_str());
        definer.add("text", bytes(&self.source, planned));
        definer.add_some("no-cache", stage.no_cache.then_some(""));
        for source in &planned.sources {
            let source = source
                .as_ref()
                .map(|origin| self.outline_of(stage.variant, origin, &stage.platform));
            definer.add("from", source.as_ref().map_or("", Definition::as_str));
        }
        if let InstructionKind::Arg(args) = &planned.instruction.kind {
            let globals = &self.variants[stage.variant].globals;
            for arg in args {
                definer.add_some("global", globals.get(&arg.name.text));
            }
        }
        definer.finish()
    }

    /// Images that an instruction takes files from have their steps in front of it.
    pub(super) fn place_sources(&mut self, planned: &Planned) {
        for origin in planned.sources.iter().flatten() {
            if let Origin::Image(base) = origin {
                self.place_base(*base);
            }
        }
    }

    /// Names the steps of a stage that are its own: those of `slots`, and its base's if nobody was before it.
    pub(super) fn name_steps(&mut self, id: usize, base_is_new: bool, slots: &BTreeSet<usize>) {
        let number = self.stages[id].stage;
        let stage = &self.stages[id];
        let label = label(&self.dockerfile.stages[number], number, self.alone);
        let shown = self
            .is_multi_platform()
            .then(|| platform_name(&stage.platform, None));
        let mut numbering = Numbering::new(stage, label.as_deref(), shown.as_deref());
        let mut names = Vec::new();
        if let Origin::Image(base) = stage.origin {
            let name = numbering.next(&format!("FROM {}", self.bases[base].source.text()));
            if base_is_new {
                names.extend(self.bases[base].slot.map(|slot| (slot, name)));
            }
        } else if let (Origin::Files(context), Some(slot)) = (&stage.origin, stage.files) {
            let key = &self.slots.contexts()[*context];
            names.push((slot, numbering.next(&format!("FROM context {key}"))));
        }
        for planned in &stage.instructions {
            if let Some(slot) = planned.slot {
                let is_trigger = planned.trigger.is_some();
                let name = numbering.next(&text(&planned.instruction, is_trigger, None, self.escape()));
                if slots.contains(&slot) {
                    names.push((slot, name));
                }
            }
        }
        for (slot, name) in names {
            self.slots.name(slot, name);
        }
    }

    /// Files as a base: one layer with all of them.
    fn copy_files(&mut self, id: usize, context: usize) {
        let stage = &self.stages[id];
        let span = self.dockerfile.stages[stage.stage].base.span;
        let mut definer = Definer::new("files");
        definer.add("context", context.to_string());
        definer.add("platform", stage.platform.to_string());
        let (slot, _) = self.slots.announce(definer.finish(), span.line);
        let action = Action::Copy(CopyAction {
            add: false,
            from: CopyFrom::Named(context),
            sources: vec![CopySource::Path("/".to_owned(), span)],
            files: Vec::new(),
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            unpack: false,
            unpack_fetched: false,
            link: false,
            parents: false,
            excludes: None,
        });
        let draft = Draft {
            span,
            parent: None,
            action,
            platform: &stage.platform,
            no_cache: false,
            trigger: None,
            variables: BTreeMap::new(),
        };
        let slot = self.slots.put(slot, draft);
        self.stages[id].files = Some(slot);
    }
}
