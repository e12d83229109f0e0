//! Flags of the verbs on images.

use std::path::PathBuf;

use clap::Args;

/// `images`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImagesArgs {
    /// Show images without a name too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Show digests
    #[arg(long)]
    pub(crate) digests: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Keep only what matches: dangling=true, label=…, reference=…, before=…, since=…
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// `table`, `json`, `table TEMPLATE` or a template such as {{.Repository}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show only images with this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `rmi`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RmiArgs {
    /// Remove even if several names or stopped containers use it
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Keep parents without a name
    #[arg(long)]
    pub(crate) no_prune: bool,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `tag`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TagArgs {
    /// Image to name
    #[arg(value_name = "IMAGE")]
    pub(crate) source: String,
    /// Its further name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) target: String,
}

/// `history`.
#[derive(Debug, Clone, Args)]
pub(crate) struct HistoryArgs {
    /// Do not shorten
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print sizes and times for people
    #[arg(short = 'H', long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) human: bool,
    /// `table`, `json` or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Name or id
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
}

/// `import`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  cooper import --change 'CMD [\"sh\"]' rootfs.tar busybox:latest")]
pub(crate) struct ImportArgs {
    /// Apply a Dockerfile instruction to the image
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub(crate) change: Vec<String>,
    /// Comment of the image
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Tar file, compressed or not; `-` for stdin
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) reference: Option<String>,
}

/// `load`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LoadArgs {
    /// Tar file [default: stdin]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// `save`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SaveArgs {
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

/// `pull`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PullArgs {
    /// Print only the name
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform, only this machine's is accepted
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Name
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    pub(crate) reference: String,
}

/// `push`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PushArgs {
    /// Print no progress
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Name
    #[arg(value_name = "NAME[:TAG]")]
    pub(crate) reference: String,
}
