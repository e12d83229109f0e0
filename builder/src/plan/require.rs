//! Which stages a target needs, what they stand on, and the outline of their steps.

use std::collections::BTreeSet;
use std::rc::Rc;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;

use super::named::{Replacement, replacement};
use super::planner::Planner;
use super::stage::{Origin, Planned, StagePlan, references};
use super::step::BaseSource;
use crate::build::Error;
use crate::dockerfile::{
    Diagnostic, Instruction, Span, Stage, Word, nearest, process_word, resolve_base, resolve_stage,
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
        let is_given = given.is_some();
        let platform = given.unwrap_or(target);
        let own = stage.name.as_deref();
        let replaced = own.and_then(|name| replacement(self.request, name, &platform));
        let origin = match &replaced {
            Some(found) => {
                Ok(self.replaced_by(found.clone(), own.unwrap_or_default(), &platform, stage.base.span))
            }
            None => self.stage_origin(variant, number, &platform),
        };
        if let (Ok(Origin::Image(base)), true) = (&origin, is_given) {
            self.bases[*base].explicit = true;
        }
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
            platform,
            origin,
            files: None,
            own: BTreeSet::new(),
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
        instruction: Rc<Instruction>,
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
        let source = self.source.about(trigger);
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
            let source = self.source.about(trigger);
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

    fn expand_global(&self, variant: usize, word: &Word) -> Result<String, Error> {
        let globals = &self.variants[variant].globals;
        self.source.expand(word, &|name| globals.get(name), self.escape())
    }

    pub(super) fn escape(&self) -> char {
        self.dockerfile.directives.escape.char()
    }
}
