//! What is executed.

use cooper_runner::spec::NetworkMode;

use crate::build::StepInfo;
use crate::dockerfile::Span;
use crate::fetch::Remote;
use crate::ignore::Patterns;
use crate::tree::Chmod;

/// A node of the build's graph; its result is a root file system.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) info: StepInfo,
    /// The instruction, for messages.
    pub(crate) span: Span,
    /// The step whose result this one changes; none for an empty one.
    pub(crate) parent: Option<usize>,
    pub(crate) action: Action,
}

impl Step {
    /// Steps that must be done before this one.
    pub(crate) fn needs(&self) -> impl Iterator<Item = usize> {
        let (from, sources) = match &self.action {
            Action::Copy(copy) => (copy.from.step(), copy.sources.as_slice()),
            _ => (None, &[][..]),
        };
        let fetched = sources.iter().filter_map(CopySource::step);
        self.parent.into_iter().chain(from).chain(fetched)
    }
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Makes the layers of a base image usable; index into the graph's images.
    Base(usize),
    Run(RunAction),
    Copy(CopyAction),
    /// Fetches a source of ADD; the result has nothing else in it.
    Fetch(Remote),
    Workdir(WorkdirAction),
    /// Nothing (`WORKDIR /`).
    Nothing,
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
    /// The result of a step; none is an empty stage.
    Step(Option<usize>),
}

impl CopyFrom {
    fn step(self) -> Option<usize> {
        match self {
            Self::Step(step) => step,
            Self::Context => None,
        }
    }
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CopySource {
    /// A path or pattern in [`CopyAction::from`], with its place.
    Path(String, Span),
    /// A file that a step has fetched: its name where the destination is a directory.
    Http {
        /// The step.
        step: usize,
        name: String,
    },
    /// A git repository that a step has fetched.
    Git {
        /// The step.
        step: usize,
    },
}

impl CopySource {
    /// The step that has it; none if it is in [`CopyAction::from`].
    pub(crate) fn step(&self) -> Option<usize> {
        match self {
            Self::Path(..) => None,
            Self::Http { step, .. } | Self::Git { step } => Some(*step),
        }
    }
}

/// COPY and ADD
#[derive(Debug)]
pub(crate) struct CopyAction {
    /// The instruction.
    pub(crate) add: bool,
    pub(crate) from: CopyFrom,
    pub(crate) sources: Vec<CopySource>,
    pub(crate) files: Vec<Inline>,
    /// Absolute; ends with `/` if it must be a directory.
    pub(crate) dest: String,
    pub(crate) chown: Option<String>,
    /// As written, for the key, and as meant.
    pub(crate) chmod: Option<(String, Chmod)>,
    /// Local archives among the sources are extracted.
    pub(crate) unpack: bool,
    /// Archives that were fetched are extracted.
    pub(crate) unpack_fetched: bool,
    pub(crate) link: bool,
    pub(crate) parents: bool,
    pub(crate) excludes: Option<Patterns>,
}

/// WORKDIR
#[derive(Debug)]
pub(crate) struct WorkdirAction {
    pub(crate) path: String,
    /// Owner of directories that are made; empty for root.
    pub(crate) user: String,
}
