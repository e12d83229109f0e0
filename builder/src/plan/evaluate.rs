//! Goes through the needed stages in order and turns instructions into steps, config and history.

use std::cell::RefCell;
use std::collections::BTreeMap;

use cooper_registry::oci::ImageConfig;

use super::args::Globals;
use super::graph::{Graph, Origin};
use super::source::Source;
use super::state::StageState;
use super::step::{Action, Step};
use crate::build::{Error, Request, StepInfo};
use crate::dockerfile::{Dockerfile, Instruction, InstructionKind, Span, Stage, Word};

/// All steps and what the image will say.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In an order in which each step comes after what it needs.
    pub(crate) steps: Vec<Step>,
    /// State of the target stage at its end.
    pub(crate) target: StageState,
}

/// Names of all steps before base images are known: the plan as far as the reader is concerned.
pub(crate) fn outline(dockerfile: &Dockerfile, graph: &Graph) -> Vec<StepInfo> {
    let mut steps = Vec::new();
    let mut push = |name: String, line: usize| {
        steps.push(StepInfo {
            id: steps.len(),
            name,
            line: u32::try_from(line).unwrap_or(u32::MAX),
        });
    };
    let mut named: Vec<bool> = vec![false; graph.images.len()];
    for (&index, origin) in &graph.bases {
        let stage = &dockerfile.stages[index];
        let total = layer_instructions(stage).count();
        let from = matches!(origin, Origin::Image(_));
        let (label, total) = (label(dockerfile, index), total + usize::from(from));
        let width = total.to_string().len();
        let mut number = 0;
        let mut prefix = || {
            number += 1;
            format!("[{label}{number:width$}/{total}]")
        };
        if let Origin::Image(image) = origin {
            let prefix = prefix();
            if !std::mem::replace(&mut named[*image], true) {
                push(
                    format!("{prefix} FROM {}", graph.images[*image].0),
                    stage.span.line,
                );
            }
        }
        for (position, instruction) in layer_instructions(stage) {
            if let Some(Origin::Image(image)) = graph.sources.get(&(index, position))
                && !std::mem::replace(&mut named[*image], true)
            {
                push(format!("FROM {}", graph.images[*image].0), instruction.span.line);
            }
            let (_, rest) = instruction
                .text
                .split_at(instruction.keyword.text.len().min(instruction.text.len()));
            let text = format!("{}{rest}", instruction.keyword.text.to_uppercase());
            push(format!("{} {text}", prefix()), instruction.span.line);
        }
    }
    steps
}

fn layer_instructions(stage: &Stage) -> impl Iterator<Item = (usize, &Instruction)> {
    stage.instructions.iter().enumerate().filter(|(_, instruction)| {
        use InstructionKind::{Add, Copy, Run, Workdir};
        matches!(instruction.kind, Add(_) | Copy(_) | Run(_) | Workdir(_))
    })
}

fn label(dockerfile: &Dockerfile, index: usize) -> String {
    match &dockerfile.stages[index].name {
        Some(name) => format!("{name} "),
        None if dockerfile.stages.len() > 1 => format!("stage-{index} "),
        None => String::new(),
    }
}

/// Makes the plan. `images` are the configs of [`Graph::images`], `outline` is what [`outline`] gave.
pub(crate) fn evaluate(
    request: &Request,
    dockerfile: &Dockerfile,
    source: Source<'_>,
    globals: &Globals,
    graph: &Graph,
    images: &[&ImageConfig],
    outline: Vec<StepInfo>,
) -> Result<Plan, Error> {
    let mut evaluator = Evaluator {
        request,
        source,
        globals,
        graph,
        escape: dockerfile.directives.escape.char(),
        steps: Vec::new(),
        names: outline.into_iter(),
        image_steps: vec![None; images.len()],
        states: BTreeMap::new(),
        expanded: RefCell::default(),
    };
    for (&index, origin) in &graph.bases {
        evaluator.stage(index, &dockerfile.stages[index], origin, images)?;
    }
    let target = evaluator.states.remove(&graph.target);
    let target = target.ok_or_else(|| Error::internal("the target is among the needed stages"))?;
    Ok(Plan {
        steps: evaluator.steps,
        target,
    })
}

pub(super) struct Evaluator<'a> {
    pub(super) request: &'a Request,
    pub(super) source: Source<'a>,
    globals: &'a Globals,
    graph: &'a Graph,
    escape: char,
    steps: Vec<Step>,
    names: std::vec::IntoIter<StepInfo>,
    /// The step of each image, once it is there.
    image_steps: Vec<Option<usize>>,
    states: BTreeMap<usize, StageState>,
    /// Variables that the current instruction has used.
    expanded: RefCell<BTreeMap<String, String>>,
}

impl Evaluator<'_> {
    fn stage(
        &mut self,
        index: usize,
        stage: &Stage,
        origin: &Origin,
        images: &[&ImageConfig],
    ) -> Result<(), Error> {
        let mut state = match origin {
            Origin::Scratch => StageState::scratch(),
            Origin::Stage(base) => {
                let base = self
                    .states
                    .get(base)
                    .ok_or_else(|| Error::internal("stages come in order"))?;
                StageState::from_stage(base)
            }
            Origin::Image(image) => {
                let step = self.image_step(*image, stage.base.span)?;
                StageState::from_image(images[*image], step)
            }
        };
        if state
            .image
            .config
            .on_build
            .as_ref()
            .is_some_and(|triggers| !triggers.is_empty())
        {
            return Err(self
                .source
                .unsupported(stage.base.span, "a base with ONBUILD triggers"));
        }
        state.image.config.on_build = None;
        for (position, instruction) in stage.instructions.iter().enumerate() {
            self.instruction(&mut state, instruction, (index, position))?;
        }
        self.states.insert(index, state);
        Ok(())
    }

    fn instruction(
        &mut self,
        state: &mut StageState,
        instruction: &Instruction,
        place: (usize, usize),
    ) -> Result<(), Error> {
        self.expanded.take();
        match &instruction.kind {
            InstructionKind::Run(run) => self.run(state, instruction, run),
            InstructionKind::Copy(copy) => self.copy(state, instruction, copy, place),
            InstructionKind::Add(add) => self.add(state, instruction, add),
            InstructionKind::Workdir(path) => self.workdir(state, instruction, path),
            InstructionKind::Arg(args) => self.arg(state, args),
            kind => self.configure(state, kind),
        }
    }

    /// The origin of a `--from`.
    pub(super) fn origin(&self, place: (usize, usize)) -> Option<Origin> {
        self.graph.sources.get(&place).cloned()
    }

    /// The step with a finished stage's root file system.
    pub(super) fn stage_step(&self, stage: usize) -> Option<usize> {
        self.states.get(&stage).and_then(|state| state.rootfs)
    }

    /// The step that provides an image, added at its first use.
    pub(super) fn image_step(&mut self, image: usize, span: Span) -> Result<usize, Error> {
        if let Some(step) = self.image_steps[image] {
            return Ok(step);
        }
        let step = self.push(span, None, Action::Base(image))?;
        self.image_steps[image] = Some(step);
        Ok(step)
    }

    /// Adds a step; the outline has its name.
    pub(super) fn push(&mut self, span: Span, parent: Option<usize>, action: Action) -> Result<usize, Error> {
        let info = self
            .names
            .next()
            .ok_or_else(|| Error::internal("the outline has every step"))?;
        let id = info.id;
        self.steps.push(Step {
            info,
            span,
            parent,
            action,
            variables: self.expanded.take(),
        });
        Ok(id)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Target;

    fn request(target: Option<&str>) -> Request {
        Request {
            build_args: BTreeMap::from([("TAG".to_owned(), Some("2".to_owned()))]),
            targets: vec![Target {
                stage: target.map(str::to_owned),
                ..Target::default()
            }],
            ..Request::default()
        }
    }

    fn names(text: &str, target: Option<&str>) -> Result<Vec<String>, String> {
        let source = Source {
            name: "Dockerfile",
            bytes: text.as_bytes(),
        };
        let request = request(target);
        let dockerfile =
            crate::dockerfile::parse(source.bytes, source.name).map_err(|error| error.to_string())?;
        let globals = Globals::new(&request, &dockerfile, &source).map_err(|error| error.to_string())?;
        let graph =
            Graph::new(&request, &dockerfile, &source, &globals).map_err(|error| error.to_string())?;
        Ok(outline(&dockerfile, &graph)
            .into_iter()
            .map(|step| step.name)
            .collect())
    }

    /// Step names and which stages are needed, as BuildKit 0.25 shows them.
    #[test]
    fn outlines() {
        let file = "ARG TAG=1\nFROM busybox:$TAG AS Base\nrun true\nFROM nosuch AS unused\nRUN x\nFROM base\nCOPY --from=alpine / /\nWORKDIR /w\nENV a=b\n";
        let cases: &[(&str, Option<&str>, &[&str])] = &[
            (
                "FROM busybox\nRUN true\n",
                None,
                &["[1/2] FROM docker.io/library/busybox:latest", "[2/2] RUN true"],
            ),
            ("FROM scratch\nCOPY a /\n", None, &["[1/1] COPY a /"]),
            (
                file,
                None,
                &[
                    "[base 1/2] FROM docker.io/library/busybox:2",
                    "[base 2/2] RUN true",
                    "FROM docker.io/library/alpine:latest",
                    "[stage-2 1/2] COPY --from=alpine / /",
                    "[stage-2 2/2] WORKDIR /w",
                ],
            ),
            (
                file,
                Some("BASE"),
                &[
                    "[base 1/2] FROM docker.io/library/busybox:2",
                    "[base 2/2] RUN true",
                ],
            ),
            (
                file,
                Some("0"),
                &[
                    "[base 1/2] FROM docker.io/library/busybox:2",
                    "[base 2/2] RUN true",
                ],
            ),
        ];
        for (text, target, expected) in cases {
            assert_eq!(names(text, *target).unwrap(), *expected, "{text} {target:?}");
        }
    }

    #[test]
    fn refused() {
        for (text, target, expected) in [
            (
                "FROM $NOTHING\n",
                None,
                "base name ($NOTHING) should not be blank",
            ),
            ("FROM a AS x\nCOPY --from=1 / /\n", None, "COPY --from=1"),
            ("FROM UPPER\n", None, "invalid image name \"UPPER\""),
            ("FROM a AS build\n", Some("bild"), "did you mean build?"),
            (
                "FROM --platform=windows/amd64 a\n",
                None,
                "platform \"windows/amd64\" is not supported",
            ),
        ] {
            let error = names(text, target).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
