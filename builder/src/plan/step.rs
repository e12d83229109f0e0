//! What is executed.

use std::collections::BTreeMap;

use cooper_runner::spec::NetworkMode;

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
    /// Variables that were expanded in the instruction, by name.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Step {
    /// Steps that must be done before this one.
    pub(crate) fn needs(&self) -> impl Iterator<Item = usize> {
        let from = match &self.action {
            Action::Copy(CopyAction {
                from: CopyFrom::Step(step),
                ..
            }) => *step,
            _ => None,
        };
        self.parent.into_iter().chain(from)
    }
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Makes the layers of a base image usable; index into the graph's images.
    Base(usize),
    Run(RunAction),
    Copy(CopyAction),
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
