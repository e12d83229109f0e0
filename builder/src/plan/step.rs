//! What is executed.

use std::path::PathBuf;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_runner::spec::NetworkMode;

use super::definition::Definition;
use crate::build::StepInfo;
use crate::dockerfile::Span;

/// A node of the build's graph; its result is a root file system.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) info: StepInfo,
    /// The instruction, for messages.
    pub(crate) span: Span,
    /// The step whose result this one changes; none for an empty one.
    pub(crate) parent: Option<usize>,
    pub(crate) action: Action,
    /// What it is, without its number, name and place; see [`Definition`].
    pub(crate) definition: Definition,
    /// What its stage is for.
    pub(crate) platform: Platform,
    /// It is executed even where the cache has its result.
    pub(crate) no_cache: bool,
    /// The ONBUILD trigger that it is, for messages.
    pub(crate) trigger: Option<String>,
}

impl Step {
    /// Steps that must be done before this one.
    pub(crate) fn needs(&self) -> impl Iterator<Item = usize> {
        let from = match &self.action {
            Action::Copy(CopyAction {
                from: CopyFrom::Step(step),
                ..
            }) => *step,
            Action::Same(step) => Some(*step),
            _ => None,
        };
        self.parent.into_iter().chain(from)
    }
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Finds a base image and makes its layers usable.
    Base(BaseAction),
    Run(RunAction),
    Copy(CopyAction),
    Workdir(WorkdirAction),
    /// Nothing (`WORKDIR /`).
    Nothing,
    /// What another step does, on the same input: its result is this one's.
    Same(usize),
}

/// FROM, and `--from` of an image
#[derive(Debug)]
pub(crate) struct BaseAction {
    pub(crate) source: BaseSource,
    /// What is meant if there is no such image.
    pub(crate) suggestion: Option<String>,
    /// A single image for another platform is worth a warning.
    pub(crate) warns: bool,
    /// Somebody has asked for the platform; otherwise whatever can be run is fine.
    pub(crate) explicit: bool,
}

/// Where a base image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BaseSource {
    /// Whatever the engine knows by this name.
    Named(ImageRef),
    /// An OCI layout, by its directory.
    Layout {
        /// The named context, for messages.
        name: String,
        path: PathBuf,
        /// Tag or digest.
        reference: Option<String>,
    },
}

impl BaseSource {
    /// For names of steps.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Named(image) => image.to_string(),
            Self::Layout {
                name,
                reference: None,
                ..
            } => format!("oci-layout://{name}"),
            Self::Layout {
                name,
                reference: Some(reference),
                ..
            } => {
                let separator = if reference.contains(':') { '@' } else { ':' };
                format!("oci-layout://{name}{separator}{reference}")
            }
        }
    }
}

/// RUN
#[derive(Debug)]
pub(crate) struct RunAction {
    pub(crate) args: Vec<String>,
    /// `K=V`
    pub(crate) env: Vec<String>,
    /// Proxy variables, `K=V`; not part of the cache key.
    pub(crate) proxies: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: String,
    pub(crate) network: NetworkMode,
    pub(crate) hostname: String,
    /// A here-document with a `#!` line, as a file below `/dev/pipes`.
    pub(crate) script: Option<Inline>,
}

/// A file whose bytes are in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inline {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

/// Where COPY takes its files from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyFrom {
    Context,
    /// A named context with files, by its number in the request.
    Named(usize),
    /// The result of a step; none is an empty stage.
    Step(Option<usize>),
}

/// COPY and ADD
#[derive(Debug)]
pub(crate) struct CopyAction {
    pub(crate) from: CopyFrom,
    /// Paths and patterns with their places.
    pub(crate) sources: Vec<(String, Span)>,
    pub(crate) files: Vec<Inline>,
    /// Absolute; ends with `/` if it must be a directory.
    pub(crate) dest: String,
    pub(crate) chown: Option<String>,
    pub(crate) mode: Option<u32>,
    /// Archives among the sources are extracted (ADD).
    pub(crate) unpack: bool,
}

/// WORKDIR
#[derive(Debug)]
pub(crate) struct WorkdirAction {
    pub(crate) path: String,
    /// Owner of directories that are made; empty for root.
    pub(crate) user: String,
}
