//! What is executed.

use cooper_runner::spec::NetworkMode;

use crate::build::StepInfo;
use crate::dockerfile::Span;
use crate::mounts::Sharing;

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
        let sources = match &self.action {
            Action::Copy(copy) => vec![copy.from],
            Action::Run(run) => run.mounts.iter().filter_map(|mount| mount.kind.from()).collect(),
            Action::Base(_) | Action::Workdir(_) | Action::Nothing => Vec::new(),
        };
        let steps = sources.into_iter().filter_map(|from| match from {
            CopyFrom::Step(step) => step,
            CopyFrom::Context => None,
        });
        self.parent.into_iter().chain(steps)
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
    /// In order.
    pub(crate) mounts: Vec<Mount>,
    /// All privileges (`--security=insecure`).
    pub(crate) insecure: bool,
    pub(crate) devices: Vec<Device>,
}

/// `--mount`
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) span: Span,
    /// Of the source, or of all of it.
    pub(crate) source_span: Span,
    pub(crate) kind: MountKind,
}

/// What is mounted, and where: targets are absolute and never the root.
#[derive(Debug)]
pub(crate) enum MountKind {
    Bind {
        target: String,
        from: CopyFrom,
        /// Absolute.
        source: String,
        readonly: bool,
    },
    Cache {
        target: String,
        namespace: String,
        id: String,
        /// The id is the target.
        default_id: bool,
        sharing: Sharing,
        /// What it begins with.
        from: Option<CopyFrom>,
        source: String,
        readonly: bool,
        /// Mode, user and group to make it with, if any of them is given.
        made: Option<(u32, u32, u32)>,
    },
    Tmpfs {
        target: String,
        size: Option<u64>,
        readonly: bool,
    },
    Secret {
        id: String,
        target: Option<String>,
        env: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    Ssh {
        id: String,
        target: String,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

impl MountKind {
    /// Where its files come from.
    pub(crate) fn from(&self) -> Option<CopyFrom> {
        match self {
            Self::Bind { from, .. } => Some(*from),
            Self::Cache { from, .. } => *from,
            Self::Tmpfs { .. } | Self::Secret { .. } | Self::Ssh { .. } => None,
        }
    }
}

/// `--device`
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) span: Span,
    /// A name of the Container Device Interface, or what selects one.
    pub(crate) name: String,
    pub(crate) required: bool,
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
