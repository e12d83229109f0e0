//! Flags of `build`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How to show the progress of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// tty on a terminal, else plain
    Auto,
    /// One line per event
    Plain,
    /// Live view
    Tty,
    /// Every event as one JSON line on stdout
    Rawjson,
    /// Nothing but the image id on stdout
    Quiet,
    /// Nothing
    None,
}

/// `build`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  cooper build -t app .
  cooper build -t app -f docker/Dockerfile --build-arg VERSION=2 --target release .
  cooper build -t app - < Dockerfile       No context, the Dockerfile on stdin")]
pub(crate) struct BuildArgs {
    /// Name and optionally tag of the result
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Dockerfile, `-` for stdin [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG; NAME alone takes it from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Stage to build
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Do not use cached steps
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Ask the registry for newer base images
    #[arg(long)]
    pub(crate) pull: bool,
    /// Set a label on the image
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Network of RUN steps: host or none
    #[arg(long, value_name = "MODE", default_value = "host")]
    pub(crate) network: String,
    /// How to show progress
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        env = "BUILDKIT_PROGRESS",
        value_name = "MODE"
    )]
    pub(crate) progress: ProgressMode,
    /// Print only the image id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform of the result, only this machine's is accepted
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Where the result goes beside the store: a directory, `-` for a tar on stdout, or type=…,dest=…
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<String>,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built as JSON to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Accepted for docker's sake: the result is always in the store
    #[arg(long, hide = true)]
    pub(crate) load: bool,
    /// Accepted for docker's sake: no intermediate containers are kept
    #[arg(long, hide = true)]
    pub(crate) rm: bool,
    /// Accepted for docker's sake: no intermediate containers are kept
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Directory whose files COPY and ADD see, or `-` for a Dockerfile on stdin
    #[arg(value_name = "PATH")]
    pub(crate) context: PathBuf,
}
