//! Evaluates stages as far as what they stand on is known.

use std::cell::RefCell;
use std::rc::Rc;

use super::evaluate::Evaluator;
use super::names::{platform as platform_name, text};
use super::planner::Planner;
use super::stage::{Origin, Planned, has_step};
use super::state::StageState;
use super::step::CopyFrom;
use crate::build::Error;
use crate::dockerfile::{Diagnostic, Instruction, InstructionKind, parse_trigger};

/// More triggers than this are refused: images come from anywhere.
const MAX_TRIGGERS: usize = 1000;

impl Planner<'_> {
    /// Evaluates as much of a stage as can be; whether that was anything.
    pub(super) fn progress(&mut self, id: usize) -> bool {
        if self.stages[id].failed || self.stages[id].is_done() {
            return false;
        }
        let mut moved = false;
        if self.stages[id].state.is_none() {
            match self.begin(id) {
                Ok(true) => moved = true,
                Ok(false) => return false,
                Err(error) => {
                    self.stages[id].failed = true;
                    self.problems.push(error);
                    return true;
                }
            }
        }
        let Some(mut state) = self.stages[id].state.take() else {
            return moved;
        };
        while let Some(planned) = self.stages[id].instructions.get(self.stages[id].cursor).cloned() {
            let Some(sources) = self.sources(id, &planned) else {
                break;
            };
            self.stages[id].cursor += 1;
            moved = true;
            if let Err(error) = self.evaluate(id, &mut state, &planned, sources) {
                // The rest of the stage may have faults of its own.
                self.stages[id].failed = true;
                self.problems.push(error);
            }
        }
        self.stages[id].state = Some(state);
        moved
    }

    /// Begins with the base's state, if that is known, and puts its triggers in front of the stage's instructions.
    fn begin(&mut self, id: usize) -> Result<bool, Error> {
        let stage = &self.stages[id];
        let (variant, origin) = (stage.variant, stage.origin.clone());
        let mut triggers = Vec::new();
        let state = match &origin {
            Origin::Scratch => StageState::scratch(&stage.platform),
            Origin::Files(_) => {
                let files = stage.files;
                let slot = files.ok_or_else(|| Error::internal("files were given a step in the outline"))?;
                StageState::from_files(&stage.platform, slot)
            }
            Origin::Stage(number) => {
                let base = &self.stages[self.index[&(variant, *number)]];
                let Some(state) = base.state.as_ref().filter(|_| base.is_done() && !base.failed) else {
                    return Ok(false);
                };
                let name = self.dockerfile.stages[stage.stage].base.text.clone();
                for planned in &base.instructions {
                    if let InstructionKind::Onbuild(onbuild) = &planned.instruction.kind {
                        // These stand in the file, so they keep their places.
                        let trigger = Rc::new((*onbuild.trigger).clone());
                        triggers.push((trigger, about(&onbuild.expression, &name)));
                    }
                }
                let state = StageState::from_stage(state);
                self.stages[id].platform = state.platform();
                state
            }
            Origin::Image(number) => {
                let base = &self.bases[*number];
                let (Some(config), Some(slot)) = (&base.config, base.slot) else {
                    return Ok(false);
                };
                let mut state = StageState::from_image(config, slot);
                let expressions = state.image.config.on_build.take().unwrap_or_default();
                let own = state.platform();
                let stage = &mut self.stages[id];
                // Steps run on what there is, whatever was asked for.
                if !own.same_machine(&stage.platform) && !own.architecture.is_empty() {
                    stage.platform = own;
                }
                if !stage.replaced {
                    let name = base.source.text();
                    triggers = self.parse_triggers(id, &expressions, &name)?;
                }
                state
            }
        };
        self.stages[id].state = Some(state);
        if !triggers.is_empty() {
            self.insert(id, triggers);
        }
        Ok(true)
    }

    fn parse_triggers(
        &self,
        id: usize,
        expressions: &[String],
        base: &str,
    ) -> Result<Vec<(Rc<Instruction>, String)>, Error> {
        let span = self.dockerfile.stages[self.stages[id].stage].base.span;
        if expressions.len() > MAX_TRIGGERS {
            let message = format!("{base} has more than {MAX_TRIGGERS} ONBUILD triggers");
            return Err(self.source.error(span, message));
        }
        let mut triggers = Vec::new();
        for expression in expressions {
            let about = about(expression, base);
            let instruction = parse_trigger(expression).map_err(|problems| {
                let first = problems.iter().next();
                let message = first.map_or("it cannot be parsed", |problem| problem.message.as_str());
                let help = first.and_then(|problem| problem.help.clone());
                let problem = Diagnostic::error(span, format!("{about}: {message}"));
                self.source.fault(match help {
                    Some(help) => problem.with_help(help),
                    None => problem,
                })
            })?;
            triggers.push((Rc::new(instruction.relocated(span)), about));
        }
        Ok(triggers)
    }

    /// Puts triggers in front of what is left of a stage, which may need more stages and images then.
    fn insert(&mut self, id: usize, triggers: Vec<(Rc<Instruction>, String)>) {
        let (variant, number) = (self.stages[id].variant, self.stages[id].stage);
        let mut planned = Vec::new();
        for (instruction, about) in triggers {
            planned.push(self.plan_instruction(variant, number, instruction, Some(about)));
        }
        if !self.problems.is_empty() {
            self.stages[id].failed = true;
            return;
        }
        for origin in planned.iter().flat_map(|planned| &planned.sources).flatten() {
            if let Origin::Stage(stage) = origin {
                self.require(variant, *stage);
            }
        }
        let line = self.dockerfile.stages[number].span.line;
        for planned in &mut planned {
            if has_step(&planned.instruction.kind) {
                self.place_sources(planned);
                let slot = self.slots.append(line);
                planned.slot = Some(slot);
                self.stages[id].own.insert(slot);
            }
        }
        let stage = &mut self.stages[id];
        stage.instructions.splice(0..0, planned);
        let (own, base_is_new) = (stage.own.clone(), stage.base_is_new);
        self.name_steps(id, base_is_new, &own);
    }

    /// Where an instruction takes files from; none while that is not known.
    fn sources(&self, id: usize, planned: &Planned) -> Option<Vec<Option<CopyFrom>>> {
        let variant = self.stages[id].variant;
        let mut found = Vec::new();
        for origin in &planned.sources {
            found.push(match origin {
                None => None,
                Some(Origin::Scratch) => Some(CopyFrom::Step(None)),
                Some(Origin::Files(context)) => Some(CopyFrom::Named(*context)),
                Some(Origin::Image(number)) => {
                    let base = &self.bases[*number];
                    let config = base.config.as_ref()?;
                    Some(CopyFrom::Step(
                        base.slot.filter(|_| !config.rootfs.diff_ids.is_empty()),
                    ))
                }
                Some(Origin::Stage(number)) => {
                    let stage = &self.stages[*self.index.get(&(variant, *number))?];
                    if !stage.is_done() || stage.failed {
                        return None;
                    }
                    Some(CopyFrom::Step(stage.state.as_ref()?.rootfs))
                }
            });
        }
        Some(found)
    }

    fn evaluate(
        &mut self,
        id: usize,
        state: &mut StageState,
        planned: &Planned,
        sources: Vec<Option<CopyFrom>>,
    ) -> Result<(), Error> {
        self.rename(id, state, planned);
        let escape = self.escape();
        let stage = &self.stages[id];
        let mut evaluator = Evaluator {
            request: self.request,
            source: self.source.about(planned.trigger.as_deref()),
            globals: &self.variants[stage.variant].globals,
            // A trigger was written for the default.
            escape: if planned.trigger.is_some() { '\\' } else { escape },
            platform: &stage.platform,
            no_cache: stage.no_cache,
            sources,
            slot: planned.slot,
            trigger: planned.trigger.as_deref(),
            slots: &mut self.slots,
            expanded: RefCell::default(),
        };
        evaluator.instruction(state, &planned.instruction)
    }

    /// The name of a step with its variables expanded, and with the platform that it compiles for.
    fn rename(&mut self, id: usize, state: &StageState, planned: &Planned) {
        let Some(slot) = planned.slot.filter(|slot| self.stages[id].own.contains(slot)) else {
            return;
        };
        let stage = &self.stages[id];
        let name = self.slots.current(slot);
        let Some((prefix, _)) = name.split_once("] ") else {
            return;
        };
        let mut prefix = prefix.to_owned();
        if self.is_multi_platform() {
            let plain = platform_name(&stage.platform, None);
            let shown = platform_name(&stage.platform, Some(state));
            if let Some(rest) = prefix.strip_prefix(&format!("[{plain} ")) {
                prefix = format!("[{shown} {rest}");
            }
        }
        let is_trigger = planned.trigger.is_some();
        let text = text(&planned.instruction, is_trigger, Some(state), self.escape());
        self.slots.name(slot, format!("{prefix}] {text}"));
    }
}

/// What messages about a trigger begin with.
fn about(expression: &str, base: &str) -> String {
    let mut line: String = expression
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(80)
        .collect();
    if line.len() < expression.len() {
        line.push_str("...");
    }
    format!("ONBUILD trigger {line:?} of {base}")
}
