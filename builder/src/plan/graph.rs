//! Which stages the target needs, and what they stand on.

use std::collections::{BTreeMap, BTreeSet};

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;

use super::args::{Globals, is_predefined};
use super::mounts::from_of;
use super::source::Source;
use crate::build::{Error, Request};
use crate::dockerfile::{
    Diagnostic, Dockerfile, InstructionKind, Span, Stage, Word, resolve_base, resolve_stage, resolve_target,
    suggest_stage,
};

/// What a stage or a `--from` refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Scratch,
    /// Number of an earlier stage.
    Stage(usize),
    /// Index in [`Graph::images`].
    Image(usize),
}

/// The stages a build needs; no other is ever looked at.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) target: usize,
    /// Origin of each needed stage, in the order of the file.
    pub(crate) bases: BTreeMap<usize, Origin>,
    /// Origin of each `COPY --from`, by stage and instruction.
    pub(crate) sources: BTreeMap<(usize, usize), Origin>,
    /// Origin of each `from=` of a `RUN --mount`, by stage, instruction and mount.
    pub(crate) mounts: BTreeMap<(usize, usize, usize), Origin>,
    /// Images from outside with the place of their first mention, each once.
    pub(crate) images: Vec<(ImageRef, Span)>,
}

impl Graph {
    /// Finds what the requested target needs.
    pub(crate) fn new(
        request: &Request,
        dockerfile: &Dockerfile,
        source: &Source<'_>,
        globals: &Globals,
    ) -> Result<Self, Error> {
        let stages = &dockerfile.stages;
        let target = match request.target() {
            None => stages.len() - 1,
            Some(name) => resolve_target(stages, name).ok_or_else(|| {
                let problem =
                    Diagnostic::error(Span::FILE, format!("target stage {name:?} could not be found"));
                Error::Dockerfile(source.render(problem.with_suggestion(suggest_stage(stages, name))))
            })?,
        };
        let mut graph = Self {
            target,
            bases: BTreeMap::new(),
            sources: BTreeMap::new(),
            mounts: BTreeMap::new(),
            images: Vec::new(),
        };
        let mut todo = BTreeSet::from([target]);
        // References only go backwards, so taking the last stage first visits each one once.
        while let Some(index) = todo.pop_last() {
            let origins = graph.stage(index, stages, dockerfile, source, globals)?;
            todo.extend(origins.into_iter().filter_map(|origin| match origin {
                Origin::Stage(stage) => Some(stage),
                Origin::Scratch | Origin::Image(_) => None,
            }));
        }
        Ok(graph)
    }

    /// Records what one stage refers to.
    fn stage(
        &mut self,
        index: usize,
        stages: &[Stage],
        dockerfile: &Dockerfile,
        source: &Source<'_>,
        globals: &Globals,
    ) -> Result<Vec<Origin>, Error> {
        let stage = &stages[index];
        let escape = dockerfile.directives.escape.char();
        let expand = |word: &Word| source.expand(word, &|name| globals.get(name), escape);
        if let Some(word) = &stage.platform {
            let platform = expand(word)?;
            if !is_host(&platform) {
                let host = Platform::host();
                return Err(source.error(
                    word.span,
                    format!(
                        "platform {platform:?} is not supported: this host builds {}/{} only",
                        host.os, host.architecture
                    ),
                ));
            }
        }
        let base = expand(&stage.base)?;
        if base.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.text);
            return Err(source.error(stage.base.span, message));
        }
        let origin = match resolve_base(stages, &base, index) {
            Some(stage) => Origin::Stage(stage),
            None if base == "scratch" => Origin::Scratch,
            None => self.image(&base, &stage.base, source, stages)?,
        };
        let mut origins = vec![origin.clone()];
        self.bases.insert(index, origin);
        for (number, instruction) in stage.instructions.iter().enumerate() {
            if let InstructionKind::Run(run) = &instruction.kind {
                for (mount, word) in run.flags.mounts.iter().enumerate() {
                    let from = from_of(word).map_err(|problem| Error::Dockerfile(source.render(problem)))?;
                    let Some(from) = from else { continue };
                    let found = resolve_stage(stages, &from.text, index)
                        .map_err(|error| source.error(from.span, error.to_string()))?;
                    let origin = match found {
                        Some(stage) => Origin::Stage(stage),
                        None if from.text == "scratch" => Origin::Scratch,
                        None => self.image(&from.text, &from, source, stages)?,
                    };
                    origins.push(origin.clone());
                    self.mounts.insert((index, number, mount), origin);
                }
                continue;
            }
            let InstructionKind::Copy(copy) = &instruction.kind else {
                continue;
            };
            let Some(from) = &copy.from else { continue };
            let found = resolve_stage(stages, &from.text, index)
                .map_err(|error| source.error(from.span, error.to_string()))?;
            let origin = match found {
                Some(stage) => Origin::Stage(stage),
                None => self.image(&from.text, from, source, stages)?,
            };
            origins.push(origin.clone());
            self.sources.insert((index, number), origin);
        }
        Ok(origins)
    }

    fn image(
        &mut self,
        name: &str,
        word: &Word,
        source: &Source<'_>,
        stages: &[Stage],
    ) -> Result<Origin, Error> {
        let mut image: ImageRef = name.parse().map_err(|error| {
            let problem = Diagnostic::error(word.span, format!("invalid image name {name:?}: {error}"));
            Error::Dockerfile(source.render(problem.with_suggestion(suggest_stage(stages, name))))
        })?;
        // One name for one image, and the one BuildKit shows.
        image.tag = image.tag_or_latest();
        let known = self.images.iter().position(|(other, _)| *other == image);
        Ok(Origin::Image(known.unwrap_or_else(|| {
            self.images.push((image, word.span));
            self.images.len() - 1
        })))
    }
}

/// Build arguments that no needed stage declares; BuildKit says so, too.
pub(crate) fn unused_build_args(request: &Request, dockerfile: &Dockerfile, graph: &Graph) -> Vec<String> {
    let mut declared: BTreeSet<&str> = dockerfile
        .global_args
        .iter()
        .map(|arg| arg.name.text.as_str())
        .collect();
    for index in graph.bases.keys() {
        for instruction in &dockerfile.stages[*index].instructions {
            if let InstructionKind::Arg(args) = &instruction.kind {
                declared.extend(args.iter().map(|arg| arg.name.text.as_str()));
            }
        }
    }
    let unused = request
        .build_args
        .keys()
        .filter(|name| !declared.contains(name.as_str()) && !is_predefined(name));
    unused.cloned().collect()
}

/// Whether `os[/arch[/variant]]` or a bare architecture names this host.
fn is_host(platform: &str) -> bool {
    let host = Platform::host();
    let arch = |name: &str| match name {
        "x86_64" | "x86-64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        name => name.to_owned(),
    };
    let platform = platform.to_lowercase();
    let parts: Vec<&str> = platform.split('/').collect();
    match parts.as_slice() {
        [one] => *one == host.os || arch(one) == host.architecture,
        [os, cpu] => *os == host.os && arch(cpu) == host.architecture,
        [os, cpu, variant] => {
            let default = matches!(
                (host.architecture.as_str(), *variant),
                ("arm64", "v8") | ("amd64", "v1")
            );
            *os == host.os && arch(cpu) == host.architecture && default
        }
        _ => false,
    }
}
