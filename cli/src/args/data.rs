//! Flags of the verbs on a container's files and use.

use std::path::PathBuf;

use clap::Args;

/// `diff`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DiffArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `cp`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "cooper cp [OPTIONS] CONTAINER:SOURCE DESTINATION|-\n       cooper cp [OPTIONS] SOURCE|- CONTAINER:DESTINATION"
)]
pub(crate) struct CpArgs {
    /// Keep owners: into a container, everything becomes its user's; out of it, files keep their ids
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Copy what a link leads to instead of the link
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// For compatibility; nothing is printed in any case
    #[arg(short, long, hide = true)]
    pub(crate) quiet: bool,
    /// A path here, CONTAINER:PATH, or - for a tar on stdin
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// A path here, CONTAINER:PATH, or - for a tar on stdout
    #[arg(value_name = "DESTINATION")]
    pub(crate) destination: String,
}

/// `export`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `commit`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommitArgs {
    /// Author, such as "Jo Doe <jo@example.org>"
    #[arg(short, long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// Apply a Dockerfile instruction to the image's configuration
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Comment
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Freeze the container while its files are copied
    #[arg(short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) pause: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `stats`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatsArgs {
    /// Show stopped containers too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// `table`, `json`, `table TEMPLATE` or a template such as {{.CPUPerc}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Print once and end
    #[arg(long)]
    pub(crate) no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Names or ids [default: all that run]
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `update`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpdateArgs {
    /// Memory limit, such as 512m
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Memory plus swap, -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Memory that is spared while others have more than theirs
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory_reservation: Option<String>,
    /// Number of CPUs, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// Relative CPU weight; 1024 is the default
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) cpu_shares: Option<i64>,
    /// CPU time a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Length of a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<i64>,
    /// CPUs to run on, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Most processes and threads, -1 for any number
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// When to start again: no, always, unless-stopped, on-failure[:RETRIES], on-unhealthy[:RETRIES]
    #[arg(long, value_name = "POLICY")]
    pub(crate) restart: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}
