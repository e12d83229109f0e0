//! What is asked of a build and what it tells.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooper_registry::digest::Digest;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Image;
use cooper_runner::spec::NetworkMode;
use serde::{Deserialize, Serialize};

/// Where the context's files are.
#[derive(Debug, Clone)]
pub enum Context {
    /// A directory on this host, read in place through a handle; its `.dockerignore` applies.
    Directory(PathBuf),
    /// No files at all (Dockerfile on stdin).
    Empty,
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Request {
    /// The files that COPY and ADD see.
    pub context: Context,
    /// Path of the Dockerfile relative to the context; also its name in messages.
    pub dockerfile_name: String,
    /// Bytes of the Dockerfile; `None` reads it from the context.
    pub dockerfile: Option<Vec<u8>>,
    /// `--build-arg`. A `None` value takes it from nowhere (docker's `--build-arg NAME` was resolved by the client).
    pub build_args: BTreeMap<String, Option<String>>,
    /// Stage to build, by name or number; `None` is the last one.
    pub target: Option<String>,
    /// RUN, COPY and ADD are executed even where the cache has their results; the results are recorded all the same.
    pub no_cache: bool,
    /// Try to pull base images even when present.
    pub pull: bool,
    /// Names for the image.
    pub names: Vec<ImageRef>,
    /// Labels on top of the Dockerfile's.
    pub labels: BTreeMap<String, String>,
    /// Network of RUN steps.
    pub network: NetworkMode,
    /// Clamp for times; unix seconds (SOURCE_DATE_EPOCH).
    pub source_date_epoch: Option<i64>,
    /// Parallel steps; 0 = number of cpus.
    pub parallelism: usize,
}

/// Finds base images: local store first, a registry otherwise. Implemented by the engine.
pub trait BaseImages: Sync {
    /// The image `name` for this host's platform, in the store.
    ///
    /// # Errors
    /// Why it could not be found or fetched, for people.
    fn resolve(&self, name: &ImageRef, always_pull: bool) -> Result<Image, String>;
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
    /// Sent once, when the plan is known.
    Plan {
        /// The steps of all stages that the target needs, in the order of the file.
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
    /// Something suspicious that does not stop the build.
    Warning {
        /// For people; may have several lines.
        text: String,
    },
    /// The image is in the store.
    Image {
        /// Its id.
        id: String,
        /// Its names, in short form.
        names: Vec<String>,
    },
}

/// A build's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Id of the image.
    pub image: Digest,
    /// The names it was given.
    pub names: Vec<ImageRef>,
    /// Number of steps.
    pub steps: usize,
    /// Number of those whose result came from the cache.
    pub cached: usize,
}
