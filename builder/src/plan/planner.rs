//! The plan of a build, which grows as base images become known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{ImageConfig, Platform};

use super::args::{Globals, is_predefined};
use super::definition::Definer;
use super::slots::{Draft, Slots};
use super::source::{Problems, Source};
use super::stage::{Origin, StagePlan};
use super::state::StageState;
use super::step::{Action, BaseAction, BaseSource, Step};
use crate::build::{Error, Request, StepInfo};
use crate::call::check_options;
use crate::dockerfile::{
    CheckOptions, Diagnostic, Dockerfile, InstructionKind, Rule, Span, nearest, resolve_target, suggest_stage,
};

/// One of the requested images: a target for a platform.
#[derive(Debug)]
pub(super) struct Variant {
    /// Index in [`Request::targets`].
    pub(super) target: usize,
    /// Number of the target's stage.
    pub(super) stage: usize,
    pub(super) platform: Platform,
    pub(super) globals: Globals,
}

/// A base image.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) source: BaseSource,
    pub(super) platform: Platform,
    /// The step that finds it, once it has its place in the outline.
    pub(super) slot: Option<usize>,
    /// The place of its first mention.
    pub(super) span: Span,
    /// What is meant if there is no such image.
    pub(super) suggestion: Option<String>,
    /// Somebody has asked for the platform.
    pub(super) explicit: bool,
    /// Its config, once it is known.
    pub(super) config: Option<Arc<ImageConfig>>,
}

/// A finished image, but for its layers.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Index in [`Request::targets`].
    pub(crate) target: usize,
    pub(crate) platform: Platform,
    /// The state of the target stage at its end.
    pub(crate) state: StageState,
}

/// The plan. The names of all steps that the file tells of are known from the start ([`Planner::names`]); what they do
/// becomes known stage by stage ([`Planner::advance`]) as the configs of base images do ([`Planner::base_found`]), whose
/// ONBUILD triggers may ask for more stages and images. Stages that no target needs are never looked at.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    pub(super) request: &'a Request,
    pub(super) dockerfile: &'a Dockerfile,
    pub(super) source: Source<'a>,
    /// Options of build checks that replace those of the file.
    options: Option<CheckOptions>,
    pub(super) variants: Vec<Variant>,
    pub(super) stages: Vec<StagePlan>,
    /// Index in `stages` by variant and number in the file.
    pub(super) index: BTreeMap<(usize, usize), usize>,
    pub(super) bases: Vec<Base>,
    pub(super) slots: Slots,
    pub(super) problems: Problems,
    /// One stage and nothing else: steps are named without it.
    pub(super) alone: bool,
}

impl<'a> Planner<'a> {
    /// Plans as far as the file and the request tell.
    ///
    /// # Errors
    /// Everything that is wrong with the needed stages so far, not only the first.
    pub(crate) fn new(
        request: &'a Request,
        dockerfile: &'a Dockerfile,
        source: Source<'a>,
    ) -> Result<Self, Error> {
        let mut planner = Self {
            request,
            dockerfile,
            source,
            options: check_options(request)?,
            variants: Vec::new(),
            stages: Vec::new(),
            index: BTreeMap::new(),
            bases: Vec::new(),
            slots: Slots::new(request.named_contexts.keys().cloned().collect()),
            problems: Problems::default(),
            alone: is_alone(dockerfile),
        };
        planner.find_targets()?;
        for variant in 0..planner.variants.len() {
            planner.require(variant, planner.variants[variant].stage);
        }
        planner.problems.check()?;
        Ok(planner)
    }

    fn find_targets(&mut self) -> Result<(), Error> {
        let stages = &self.dockerfile.stages;
        let platforms = match self.request.platforms.as_slice() {
            [] => vec![Platform::host().normalized()],
            list => {
                let mut unique: Vec<Platform> = Vec::new();
                for platform in list.iter().map(Platform::normalized) {
                    if !unique.contains(&platform) {
                        unique.push(platform);
                    }
                }
                unique
            }
        };
        for (target, wanted) in self.request.targets.iter().enumerate() {
            let name = wanted.stage.as_deref().filter(|name| !name.is_empty());
            let last = stages.len().saturating_sub(1);
            let found = name.map_or(Some(last), |name| resolve_target(stages, name));
            let Some(stage) = found else {
                let name = name.unwrap_or_default();
                let problem =
                    Diagnostic::error(Span::FILE, format!("target stage {name:?} could not be found"));
                let problem = problem.with_suggestion(suggest_stage(stages, name));
                self.problems.push(self.source.fault(problem));
                continue;
            };
            let name = name.or(stages[last].name.as_deref());
            for platform in &platforms {
                let globals = Globals::new(self.request, self.dockerfile, &self.source, platform, name)?;
                self.variants.push(Variant {
                    target,
                    stage,
                    platform: platform.clone(),
                    globals,
                });
            }
        }
        self.problems.check()
    }

    /// Whether steps are named with their platform, and the result is an index.
    pub(crate) fn is_multi_platform(&self) -> bool {
        is_multi_platform(self.request)
    }

    /// Number of a base image.
    pub(super) fn base(&mut self, source: BaseSource, name: &str, platform: &Platform, span: Span) -> usize {
        let known = self
            .bases
            .iter()
            .position(|base| base.source == source && base.platform == *platform);
        if let Some(known) = known {
            let first = &mut self.bases[known].span;
            if span.start < first.start {
                *first = span;
            }
            return known;
        }
        let stages = self.dockerfile.stages.iter();
        let candidates = stages.filter_map(|stage| stage.name.as_deref()).chain(COMMON);
        self.bases.push(Base {
            source,
            platform: platform.clone(),
            slot: None,
            span,
            explicit: !self.request.platforms.is_empty(),
            suggestion: nearest(name, candidates).map(str::to_owned),
            config: None,
        });
        self.bases.len() - 1
    }

    /// Gives a base image its place among the steps, which is that of its first use. Whether this was it.
    pub(super) fn place_base(&mut self, number: usize) -> bool {
        let base = &mut self.bases[number];
        if base.slot.is_some() {
            return false;
        }
        let check = self.options.as_ref().unwrap_or(&self.dockerfile.directives.check);
        let skipped = check.skip_all
            || check
                .skip
                .iter()
                .any(|rule| rule == Rule::InvalidBaseImagePlatform.name());
        let slot = self.slots.append(base.span.line);
        self.slots.name(slot, format!("FROM {}", base.source.text()));
        let draft = Draft {
            span: base.span,
            parent: None,
            action: Action::Base(BaseAction {
                source: base.source.clone(),
                suggestion: base.suggestion.clone(),
                warns: !skipped,
                explicit: base.explicit,
            }),
            platform: &base.platform,
            no_cache: false,
            trigger: None,
            variables: BTreeMap::new(),
        };
        self.slots.put(slot, draft);
        base.slot = Some(slot);
        true
    }

    /// Takes note of what a step for a base image has found.
    pub(crate) fn base_found(&mut self, step: usize, manifest: &Digest, config: &Arc<ImageConfig>) {
        let mut definer = Definer::new("image");
        definer.add("manifest", manifest.to_string());
        self.slots.redefine(step, definer.finish());
        for base in self.bases.iter_mut().filter(|base| base.slot == Some(step)) {
            base.config = Some(Arc::clone(config));
        }
    }

    /// Evaluates whatever can be.
    ///
    /// # Errors
    /// Everything that is wrong with the stages that became known.
    pub(crate) fn advance(&mut self) -> Result<Vec<Arc<Step>>, Error> {
        loop {
            let mut moved = false;
            let mut id = 0;
            // Triggers may add stages behind this one.
            while id < self.stages.len() {
                moved |= self.progress(id);
                id += 1;
            }
            if !moved {
                break;
            }
        }
        self.problems.check()?;
        Ok(self.slots.fetch())
    }

    /// The names of all steps, if something about them is new.
    pub(crate) fn names(&mut self) -> Option<Vec<StepInfo>> {
        self.slots.names()
    }

    /// Number of steps.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The images to make, once everything is known.
    ///
    /// # Errors
    /// [`Error::Internal`] if something is not.
    pub(crate) fn finish(self) -> Result<Vec<Planned>, Error> {
        let mut stages: Vec<Option<StagePlan>> = self.stages.into_iter().map(Some).collect();
        let mut images = Vec::new();
        for (number, variant) in self.variants.into_iter().enumerate() {
            let stage = self.index.get(&(number, variant.stage));
            let stage = stage.and_then(|&id| stages[id].take());
            let state = stage.filter(StagePlan::is_done).and_then(|stage| stage.state);
            images.push(Planned {
                target: variant.target,
                platform: variant.platform,
                state: state.ok_or_else(|| Error::internal("a target was never evaluated"))?,
            });
        }
        Ok(images)
    }

    /// The steps with the file systems of the images to make, as far as they are known.
    pub(crate) fn results(&self) -> impl Iterator<Item = usize> {
        let variants = self.variants.iter().enumerate();
        variants.filter_map(|(number, variant)| {
            let id = self.index.get(&(number, variant.stage))?;
            self.stages[*id].state.as_ref()?.rootfs
        })
    }

    /// Whether every needed stage is evaluated.
    pub(crate) fn is_complete(&self) -> bool {
        self.stages.iter().all(StagePlan::is_done)
    }

    /// Build arguments that no needed stage declares, and names of `--no-cache-filter` that no stage has. Final once all
    /// stages are evaluated: a trigger may declare some.
    pub(crate) fn unused(&self) -> (Vec<String>, Vec<String>) {
        let mut declared: Vec<&str> = self
            .dockerfile
            .global_args
            .iter()
            .map(|arg| arg.name.text.as_str())
            .collect();
        for planned in self.stages.iter().flat_map(|stage| &stage.instructions) {
            if let InstructionKind::Arg(args) = &planned.instruction.kind {
                declared.extend(args.iter().map(|arg| arg.name.text.as_str()));
            }
        }
        let given = self.request.build_args.keys();
        let args = given.filter(|name| !declared.contains(&name.as_str()) && !is_predefined(name));
        let stages = &self.dockerfile.stages;
        let named = |filter: &str| {
            let filter = Some(filter.to_lowercase());
            stages.iter().any(|stage| stage.name == filter)
        };
        let filters = self.request.no_cache_filter.iter();
        let filters = filters.filter(|filter| !named(filter));
        (args.cloned().collect(), filters.cloned().collect())
    }

    /// Numbers in the file of the stages that are needed, and the variables that their base images set. Final once all
    /// stages are evaluated.
    pub(crate) fn base_variables(&self) -> (BTreeSet<usize>, BTreeMap<usize, BTreeSet<String>>) {
        let needed = self.stages.iter().map(|stage| stage.stage).collect();
        let mut variables = BTreeMap::new();
        for stage in &self.stages {
            let Origin::Image(base) = &stage.origin else {
                continue;
            };
            let Some(config) = &self.bases[*base].config else {
                continue;
            };
            let pairs = config.config.env.iter().flatten();
            let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned()));
            variables
                .entry(stage.stage)
                .or_insert_with(BTreeSet::new)
                .extend(names);
        }
        (needed, variables)
    }

    /// The stage name most like one of `--no-cache-filter` that no stage has.
    pub(crate) fn suggest_stage(&self, name: &str) -> Option<&str> {
        suggest_stage(&self.dockerfile.stages, name)
    }
}

/// Images that many mean when they misspell one.
const COMMON: [&str; 8] = [
    "alpine", "busybox", "debian", "fedora", "golang", "node", "python", "ubuntu",
];

/// Whether a request asks for an index.
pub(crate) fn is_multi_platform(request: &Request) -> bool {
    let asked = request.build_args.get("BUILDKIT_MULTI_PLATFORM");
    request.platforms.len() > 1
        || asked
            .and_then(Option::as_deref)
            .is_some_and(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// BuildKit leaves a stage's name out where there is one stage and no other image is named.
fn is_alone(dockerfile: &Dockerfile) -> bool {
    let [stage] = dockerfile.stages.as_slice() else {
        return false;
    };
    let references = stage.instructions.iter().flat_map(super::stage::references);
    references
        .flatten()
        .all(|(name, _)| name.parse::<usize>().is_ok())
}
