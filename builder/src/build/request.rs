//! What is asked of a build and what it tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cooper_registry::digest::Digest;
use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_runner::cgroup::Resources;
use cooper_runner::spec::NetworkMode;
use serde::{Deserialize, Serialize};

use super::options::{Annotation, CacheExport, CacheImport, Compression, Provenance, Sbom};
use super::verify::Verification;
use crate::cache::Cause;

/// Where the context's files are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// A directory on this host, read in place through a handle; its `.dockerignore` applies.
    Directory(PathBuf),
    /// A git repository or an archive behind a URL, as on docker's command line; no `.dockerignore` applies.
    Remote(String),
    /// No files at all (Dockerfile on stdin).
    #[default]
    Empty,
}

/// What a `--build-context` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedContext {
    /// A directory on this host; its own `.dockerignore` applies.
    Directory(PathBuf),
    /// A git repository or an archive behind a URL.
    Remote(String),
    /// `docker-image://`
    Image(ImageRef),
    /// `oci-layout://`: a directory on this host with a tag, a digest or neither.
    OciLayout {
        /// The layout's directory.
        path: PathBuf,
        /// Tag or digest; `latest`, or the only manifest, if there is none.
        reference: Option<String>,
    },
}

/// One of the results of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Stage to build, by name or number; `None` is the last one.
    pub stage: Option<String>,
    /// Names for the image.
    pub names: Vec<ImageRef>,
}

/// Privileges that a build may use if its caller allows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Entitlement {
    /// `RUN --network=host`
    #[serde(rename = "network.host")]
    NetworkHost,
    /// `RUN --security=insecure`
    #[serde(rename = "security.insecure")]
    SecurityInsecure,
    /// `RUN --device`
    #[serde(rename = "device")]
    Device,
}

/// What to build.
///
/// Serialised as JSON between a client and an engine: fields are only ever added, and a missing one has its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The files that COPY and ADD see.
    pub context: Context,
    /// `--build-context`, by name in lower case; a name with `::os/arch` is for that platform only.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// Path of the Dockerfile relative to the context; also its name in messages.
    pub dockerfile_name: String,
    /// Bytes of the Dockerfile; `None` reads it from the context.
    pub dockerfile: Option<Vec<u8>>,
    /// Bytes of the ignore file for the context when it lies beside a Dockerfile outside of it; `None` looks in the
    /// context.
    pub ignore: Option<Vec<u8>>,
    /// `--build-arg`. A `None` value takes it from nowhere (docker's `--build-arg NAME` was resolved by the client).
    pub build_args: BTreeMap<String, Option<String>>,
    /// What to build; at least one.
    pub targets: Vec<Target>,
    /// Platforms of the result, empty for this host's. More than one makes an index.
    pub platforms: Vec<Platform>,
    /// RUN, COPY and ADD are executed even where the cache has their results; the results are recorded all the same.
    pub no_cache: bool,
    /// The same for the stages of these names.
    pub no_cache_filter: Vec<String>,
    /// Try to pull base images even when present.
    pub pull: bool,
    /// Labels on top of the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// Network of RUN steps.
    pub network: NetworkMode,
    /// What RUN may ask for beyond its sandbox (`--allow`).
    pub allow: BTreeSet<Entitlement>,
    /// `--add-host`: name and address, in order; lines for `/etc/hosts` of RUN.
    pub extra_hosts: Vec<(String, String)>,
    /// `--ulimit`: name, soft and hard limit.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Cgroup below which RUN's are made.
    pub cgroup_parent: Option<String>,
    /// Memory and CPU limits of each RUN; not part of cache keys.
    pub resources: Resources,
    /// Clamp for times; unix seconds (SOURCE_DATE_EPOCH).
    pub source_date_epoch: Option<i64>,
    /// Parallel steps; 0 = number of cpus.
    pub parallelism: usize,
    /// `--annotation`
    pub annotations: Vec<Annotation>,
    /// Format of the image's layers; `None` leaves those made here as they are in the store, which costs nothing.
    pub compression: Option<Compression>,
    /// The named images are pushed to their registries.
    pub push: bool,
    /// Pushed by digest alone: the registry gets no tag (`push-by-digest=true`).
    pub push_by_digest: bool,
    /// Docker's media types instead of OCI's (`oci-mediatypes=false`).
    pub docker_types: bool,
    /// Layers made here become one.
    pub squash: bool,
    /// Attests how the image was made.
    pub provenance: Option<Provenance>,
    /// Attests what is in the image.
    pub sbom: Option<Sbom>,
    /// Caches to look into, in order.
    pub cache_from: Vec<CacheImport>,
    /// Where to put a copy of the cache.
    pub cache_to: Vec<CacheExport>,
    /// Tell the cause of every cache miss.
    pub explain: bool,
    /// Compare what is built with this image instead of naming it: for [`super::verify`].
    pub verify: Option<ImageRef>,
    /// A RUN that fails offers a shell in its failed state.
    pub debug: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            context: Context::Empty,
            named_contexts: BTreeMap::new(),
            dockerfile_name: "Dockerfile".to_owned(),
            dockerfile: None,
            ignore: None,
            build_args: BTreeMap::new(),
            targets: vec![Target::default()],
            platforms: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            labels: BTreeMap::new(),
            network: NetworkMode::None,
            allow: BTreeSet::new(),
            extra_hosts: Vec::new(),
            ulimits: Vec::new(),
            shm_size: None,
            cgroup_parent: None,
            resources: Resources::default(),
            source_date_epoch: None,
            parallelism: 0,
            annotations: Vec::new(),
            compression: None,
            push: false,
            push_by_digest: false,
            docker_types: false,
            squash: false,
            provenance: None,
            sbom: None,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            explain: false,
            verify: None,
            debug: false,
        }
    }
}

/// A step's description, for progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Number of the step, as later events use it; they count from 0 without gaps.
    pub id: usize,
    /// `[build 2/5] RUN make`, as BuildKit prints it.
    pub name: String,
    /// 1-based Dockerfile line; 0 for internal steps.
    pub line: u32,
}

/// What a build tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Sent when the plan is known, and again as a whole when more of it is: base images may bring steps of their own, and
    /// values of variables become part of names. Numbers of steps stay.
    Plan {
        /// The steps of all stages that the targets need, in the order of the file, further ones behind them.
        steps: Vec<StepInfo>,
    },
    /// A step begins.
    Started {
        /// [`StepInfo::id`].
        step: usize,
    },
    /// The step's result came from the cache.
    Cached {
        /// [`StepInfo::id`].
        step: usize,
    },
    /// The step's result was not in the cache; only with [`Request::explain`], before the step is executed.
    Missed {
        /// [`StepInfo::id`].
        step: usize,
        /// Why; at least one.
        causes: Vec<Cause>,
    },
    /// Output of a RUN; lossy UTF-8, may end in the middle of a line.
    Output {
        /// [`StepInfo::id`].
        step: usize,
        /// Written to standard error.
        stderr: bool,
        /// What was written.
        text: String,
    },
    /// A step finished; a cached one too.
    Done {
        /// [`StepInfo::id`].
        step: usize,
        /// How long it took, in milliseconds.
        millis: u64,
    },
    /// A step failed, which ends the build.
    Failed {
        /// [`StepInfo::id`].
        step: usize,
        /// Why.
        error: String,
    },
    /// A RUN failed and a shell waits for the client in the state it left ([`Request::debug`]); the build goes on, and fails,
    /// once the shell has ended.
    Debug {
        /// [`StepInfo::id`].
        step: usize,
        /// Unix socket on the engine's host, for its user and root only. It takes one connection, whose frames are those of
        /// [`cooper_runner::sandbox::Sandbox::interact`].
        socket: PathBuf,
        /// What is run: `/bin/sh`.
        shell: String,
    },
    /// Something suspicious that does not stop the build.
    Warning {
        /// For people; may have several lines.
        text: String,
    },
    /// Something outside of the steps goes on: an image is pulled, a result is exported or pushed.
    Progress {
        /// What goes on, in the same words for all of its reports: `pulling busybox:latest`.
        task: String,
        /// Which part of it, such as a layer's short digest; empty for the whole.
        item: String,
        /// `downloading`; `done` ends the part, or the whole.
        status: String,
        /// Bytes so far; 0 when they are not counted.
        current: u64,
        /// Bytes in all; 0 when that is not known.
        total: u64,
    },
    /// An image was built again and compared; see [`super::verify`].
    Verified {
        /// Whether, and where, they differ.
        result: Verification,
    },
    /// The image is in the store.
    Image {
        /// Its id.
        id: String,
        /// Its names, in short form.
        names: Vec<String>,
    },
}

/// One finished image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Id of the image: digest of its manifest, or of its index.
    pub image: Digest,
    /// The names it was given.
    pub names: Vec<ImageRef>,
}

/// A build's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// One for each of [`Request::targets`], in their order.
    pub images: Vec<BuiltImage>,
    /// Number of steps.
    pub steps: usize,
    /// Number of those whose result came from the cache.
    pub cached: usize,
}
