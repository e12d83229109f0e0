//! Flags of `builder …`; names and meanings are docker's and buildx's.

use clap::{Args, Subcommand};

use super::build::BuildArgs;

/// `builder …`.
#[derive(Debug, Subcommand)]
pub(crate) enum BuilderVerb {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Show what the build cache takes
    Du(DuArgs),
    /// Remove build cache
    Prune(BuilderPruneArgs),
}

/// `builder du`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DuArgs {
    /// Only what matches: id=…, type=…, parents=…, description=…, inuse, shared, private, mutable, immutable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) filter: Vec<String>,
    /// Show everything that is known of each entry
    #[arg(long)]
    pub(crate) verbose: bool,
    /// `table`, `json` or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `builder prune`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BuilderPruneArgs {
    /// Remove what images share and what the engine keeps for itself, too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what matches: until=24h, id=…, type=…, parents=…, description=…, inuse, shared, private, mutable, immutable
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) filter: Vec<String>,
    /// Bytes that always stay (20GB)
    #[arg(long, alias = "keep-storage", value_name = "BYTES")]
    pub(crate) reserved_space: Option<String>,
    /// Bytes that may stay at most
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_used_space: Option<String>,
    /// Bytes that are to be free on the disk
    #[arg(long, value_name = "BYTES")]
    pub(crate) min_free_space: Option<String>,
    /// List what is removed
    #[arg(long)]
    pub(crate) verbose: bool,
}
