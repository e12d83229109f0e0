//! Which stages a target needs, what they stand on, and the outline of their steps.

use std::collections::BTreeSet;
use std::rc::Rc;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;

use super::definition::{Definer, Definition};
use super::named::{Replacement, replacement};
use super::names::{Numbering, platform as platform_name, text};
use super::planner::Planner;
use super::slots::Draft;
use super::stage::{Origin, Planned, StagePlan, bytes, has_effect, has_step, label, references};
use super::step::{Action, BaseSource, CopyAction, CopyFrom};
use crate::build::Error;
use crate::dockerfile::{
    Diagnostic, InstructionKind, Span, Stage, Word, nearest, process_word, resolve_base, resolve_stage,
    suggest_stage,
};

impl Planner<'_> {
    /// Adds a stage and all that it needs, and outlines their steps in the order of the file. What is wrong is noted.
    pub(super) fn require(&mut self, variant: usize, stage: usize) {
        let mut added = BTreeSet::new();
        let mut todo = BTreeSet::from([stage]);
        // References only go backwards, so taking the last stage first visits each one once.
        while let Some(number) = todo.pop_last() {
            if self.index.contains_key(&(variant, number)) {
                continue;
            }
            let plan = self.describe(variant, number);
            let sources = plan.instructions.iter().flat_map(|planned| &planned.sources);
            for origin in sources.flatten().chain([&plan.origin]) {
                if let Origin::Stage(stage) = origin {
                    todo.insert(*stage);
                }
            }
            self.index.insert((variant, number), self.stages.len());
            self.stages.push(plan);
            added.insert(number);
        }
        if self.problems.is_empty() {
            for number in added {
                self.outline(self.index[&(variant, number)]);
            }
        }
    }

    fn describe(&mut self, variant: usize, number: usize) -> StagePlan {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[number];
        let target = self.variants[variant].platform.clone();
        let given = self.platform(variant, stage);
        let platform = given.clone().unwrap_or_else(|| target.clone());
        let own = stage.name.as_deref();
        let replaced = own.and_then(|name| replacement(self.request, name, &platform));
        let origin = match &replaced {
            Some(found) => {
                Ok(self.replaced_by(found.clone(), own.unwrap_or_default(), &platform, stage.base.span))
            }
            None => self.stage_origin(variant, number, &platform),
        };
        let mut failed = false;
        let origin = origin.unwrap_or_else(|error| {
            self.problems.push(error);
            failed = true;
            Origin::Scratch
        });
        let filter = &self.request.no_cache_filter;
        let filtered = own.is_some_and(|own| filter.iter().any(|name| name.eq_ignore_ascii_case(own)));
        let mut plan = StagePlan {
            variant,
            stage: number,
            explicit: given.is_some() || !self.request.platforms.is_empty(),
            platform,
            origin,
            files: None,
            own: Vec::new(),
            base_is_new: false,
            replaced: replaced.is_some(),
            no_cache: self.request.no_cache || filtered,
            instructions: Vec::new(),
            cursor: 0,
            state: None,
            outline: None,
            failed,
        };
        if !plan.replaced {
            for instruction in &stage.instructions {
                let planned = self.plan_instruction(variant, number, Rc::new(instruction.clone()), None);
                plan.instructions.push(planned);
            }
        }
        plan
    }

    /// An instruction with its sources found.
    pub(super) fn plan_instruction(
        &mut self,
        variant: usize,
        number: usize,
        instruction: Rc<crate::dockerfile::Instruction>,
        trigger: Option<String>,
    ) -> Planned {
        let mut sources = Vec::new();
        for reference in references(&instruction) {
            let found = reference
                .map(|(name, span)| self.reference(variant, number, &name, span, trigger.as_deref()));
            sources.push(found.and_then(|found| match found {
                Ok(origin) => Some(origin),
                Err(error) => {
                    self.problems.push(error);
                    None
                }
            }));
        }
        Planned {
            instruction,
            sources,
            slot: None,
            trigger,
        }
    }

    /// `FROM --platform`
    fn platform(&mut self, variant: usize, stage: &Stage) -> Option<Platform> {
        let word = stage.platform.as_ref()?;
        let found = self.expand_global(variant, word).and_then(|text| {
            let globals = &self.variants[variant].globals;
            let fault = |message: String| {
                let problem = Diagnostic::error(word.span, message);
                let unset = process_word(&word.text, &|name| globals.get(name), self.escape());
                let unset = unset
                    .ok()
                    .and_then(|expanded| expanded.unmatched.into_iter().next());
                let suggestion = unset.and_then(|name| nearest(&name, globals.names()).map(str::to_owned));
                self.source.fault(problem.with_suggestion(suggestion))
            };
            if text.is_empty() {
                return Err(fault(format!(
                    "empty platform value from expression {}",
                    word.text
                )));
            }
            text.parse::<Platform>()
                .map_err(|error| fault(format!("failed to parse platform {}: {error}", word.text)))
        });
        match found {
            Ok(platform) => Some(platform),
            Err(error) => {
                self.problems.push(error);
                None
            }
        }
    }

    fn stage_origin(&mut self, variant: usize, number: usize, platform: &Platform) -> Result<Origin, Error> {
        let dockerfile = self.dockerfile;
        let stage = &dockerfile.stages[number];
        let name = self.expand_global(variant, &stage.base)?;
        if name.is_empty() {
            let problem = Diagnostic::error(
                stage.base.span,
                format!("base name ({}) should not be blank", stage.base.text),
            );
            let globals = &self.variants[variant].globals;
            let unset = process_word(&stage.base.text, &|name| globals.get(name), self.escape());
            let unset = unset
                .ok()
                .and_then(|expanded| expanded.unmatched.into_iter().next());
            let suggestion = unset.and_then(|name| nearest(&name, globals.names()).map(str::to_owned));
            return Err(self.source.fault(problem.with_suggestion(suggestion)));
        }
        if let Some(earlier) = resolve_base(&dockerfile.stages, &name, number) {
            return Ok(Origin::Stage(earlier));
        }
        self.outside(&name, platform, stage.base.span, None)
    }

    /// What `--from` means.
    fn reference(
        &mut self,
        variant: usize,
        number: usize,
        name: &str,
        span: Span,
        trigger: Option<&str>,
    ) -> Result<Origin, Error> {
        let source = super::source::Source {
            about: trigger,
            ..self.source
        };
        let stages = &self.dockerfile.stages;
        let platform = self.variants[variant].platform.clone();
        match resolve_stage(stages, name, number) {
            Ok(Some(stage)) => Ok(Origin::Stage(stage)),
            Ok(None) => self.outside(name, &platform, span, trigger),
            // A named context may have the name of a stage that is not earlier: then it stands for that one.
            Err(error) => match replacement(self.request, name, &platform) {
                Some(found) => Ok(self.replaced_by(found, name, &platform, span)),
                None => Err(source.error(span, error.to_string())),
            },
        }
    }

    /// A name that is no stage: a named context, nothing at all, or an image.
    fn outside(
        &mut self,
        name: &str,
        platform: &Platform,
        span: Span,
        trigger: Option<&str>,
    ) -> Result<Origin, Error> {
        if let Some(found) = replacement(self.request, name, platform) {
            return Ok(self.replaced_by(found, name, platform, span));
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        let mut image: ImageRef = name.parse().map_err(|error| {
            let problem = Diagnostic::error(span, format!("invalid image name {name:?}: {error}"));
            let suggestion = suggest_stage(&self.dockerfile.stages, name);
            let source = super::source::Source {
                about: trigger,
                ..self.source
            };
            source.fault(problem.with_suggestion(suggestion))
        })?;
        // One name for one image, and the one BuildKit shows.
        image.tag = image.tag_or_latest();
        Ok(Origin::Image(self.base(
            BaseSource::Named(image),
            name,
            platform,
            span,
        )))
    }

    fn replaced_by(&mut self, found: Replacement, name: &str, platform: &Platform, span: Span) -> Origin {
        match found {
            Replacement::Image(source) => Origin::Image(self.base(source, name, platform, span)),
            Replacement::Files(number) => Origin::Files(number),
        }
    }

    /// Outlines the steps of a stage whose base is outlined.
    fn outline(&mut self, id: usize) {
        let variant = self.stages[id].variant;
        let origin = self.stages[id].origin.clone();
        // What stands on another stage is for what that is for.
        if let Origin::Stage(base) = &origin {
            let base = &self.stages[self.index[&(variant, *base)]];
            let platform = base.platform.clone();
            let explicit = base.explicit;
            let stage = &mut self.stages[id];
            (stage.platform, stage.explicit) = (platform, explicit);
        }
        let platform = self.stages[id].platform.clone();
        let mut base_is_new = false;
        match &origin {
            Origin::Image(base) => base_is_new = self.place_base(*base),
            Origin::Files(context) => self.copy_files(id, *context),
            Origin::Scratch | Origin::Stage(_) => {}
        }
        let mut outline = self.outline_of(variant, &origin, &platform);
        let mut new = Vec::new();
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
                    new.push(slot);
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
    pub(super) fn name_steps(&mut self, id: usize, base_is_new: bool, slots: &[usize]) {
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
            from: CopyFrom::Named(context),
            sources: vec![("/".to_owned(), span)],
            files: Vec::new(),
            dest: "/".to_owned(),
            chown: None,
            mode: None,
            unpack: false,
        });
        let draft = Draft {
            span,
            parent: None,
            action,
            platform: &stage.platform,
            no_cache: false,
            trigger: None,
        };
        let slot = self.slots.put(slot, draft);
        self.stages[id].files = Some(slot);
    }

    fn expand_global(&self, variant: usize, word: &Word) -> Result<String, Error> {
        let globals = &self.variants[variant].globals;
        self.source.expand(word, &|name| globals.get(name), self.escape())
    }

    pub(super) fn escape(&self) -> char {
        self.dockerfile.directives.escape.char()
    }
}
