//! What is executed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_runner::spec::NetworkMode;

use super::definition::Definition;
use crate::build::StepInfo;
use crate::dockerfile::Span;
use crate::fetch::Remote;
use crate::ignore::Patterns;
use crate::mounts::Sharing;
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
    /// What it is, without its number, name and place; see [`Definition`].
    pub(crate) definition: Definition,
    /// What its stage is for.
    pub(crate) platform: Platform,
    /// It is executed even where the cache has its result.
    pub(crate) no_cache: bool,
    /// The ONBUILD trigger that it is, for messages.
    pub(crate) trigger: Option<String>,
    /// Variables that were expanded in the instruction, by name.
    pub(crate) variables: BTreeMap<String, String>,
}

impl Step {
    /// Steps that must be done before this one.
    pub(crate) fn needs(&self) -> impl Iterator<Item = usize> {
        let (froms, fetched) = match &self.action {
            Action::Copy(copy) => {
                let fetched = copy.sources.iter().filter_map(CopySource::step).collect();
                (vec![copy.from], fetched)
            }
            Action::Run(run) => {
                let froms = run.mounts.iter().filter_map(|mount| mount.kind.from()).collect();
                (froms, Vec::new())
            }
            Action::Same(step) => (vec![CopyFrom::Step(Some(*step))], Vec::new()),
            Action::Base(_) | Action::Fetch(_) | Action::Workdir(_) | Action::Nothing => {
                (Vec::new(), Vec::new())
            }
        };
        let steps = froms.into_iter().filter_map(CopyFrom::step);
        self.parent.into_iter().chain(steps).chain(fetched)
    }
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Finds a base image and makes its layers usable.
    Base(BaseAction),
    Run(RunAction),
    Copy(CopyAction),
    /// Fetches a source of ADD; the result has nothing else in it.
    Fetch(Remote),
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
#[derive(Debug, Clone)]
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
    /// All of it but where its files come from, whose number means nothing outside of one plan.
    pub(crate) fn text(&self) -> String {
        let mut kind = self.clone();
        match &mut kind {
            Self::Bind { from, .. } => *from = CopyFrom::Context,
            Self::Cache { from, .. } => *from = None,
            Self::Tmpfs { .. } | Self::Secret { .. } | Self::Ssh { .. } => {}
        }
        format!("{kind:?}")
    }

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
    /// A named context with files, by its number in the request.
    Named(usize),
    /// The result of a step; none is an empty stage.
    Step(Option<usize>),
}

impl CopyFrom {
    fn step(self) -> Option<usize> {
        match self {
            Self::Step(step) => step,
            Self::Context | Self::Named(_) => None,
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
