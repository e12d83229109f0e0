//! Flags of the verbs on existing containers.

use std::path::PathBuf;

use clap::{ArgAction, Args};

/// One or more containers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Names {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `start`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
    /// Attach to stdout and stderr, and pass on signals
    #[arg(short, long)]
    pub(crate) attach: bool,
    /// Attach stdin as well
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `attach`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AttachArgs {
    /// Do not attach stdin
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Pass signals on to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `exec`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "cooper exec [OPTIONS] CONTAINER COMMAND [ARG...]")]
pub(crate) struct ExecArgs {
    /// Run in the background
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set an environment variable
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User (name or uid) and optionally group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Give the command every capability
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Keys that detach the terminal
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Container, command and its arguments
    #[arg(trailing_var_arg = true, required = true, num_args = 2.., value_name = "CONTAINER COMMAND [ARG...]", hide = true)]
    pub(crate) rest: Vec<String>,
}

/// `ps`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PsArgs {
    /// Show stopped containers too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Print only ids
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Keep only what matches: name=…, status=…, label=…, id=…, ancestor=…, exited=…
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
    /// `table`, `json`, `table TEMPLATE` or a template such as {{.Names}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Show the NUMBER containers created last, whatever their state
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) last: Option<i64>,
    /// Show the container created last, whatever its state
    #[arg(short, long)]
    pub(crate) latest: bool,
    /// Show sizes
    #[arg(short, long)]
    pub(crate) size: bool,
}

/// `logs`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogsArgs {
    /// Go on as output arrives, until the container stops
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of lines from the end, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub(crate) tail: String,
    /// Only lines since a time (RFC 3339 or unix seconds) or an age (10m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only lines before a time or an age
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Put the time before each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
}

/// `stop` and `restart`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StopArgs {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL")]
    pub(crate) signal: Option<String>,
    /// Seconds to wait before killing; -1 waits for ever [default: the container's, or 10]
    #[arg(
        short = 't',
        long = "timeout",
        visible_alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    pub(crate) timeout: Option<i64>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `kill`.
#[derive(Debug, Clone, Args)]
pub(crate) struct KillArgs {
    /// Signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub(crate) signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `rename`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RenameArgs {
    /// Name or id
    #[arg(value_name = "CONTAINER")]
    pub(crate) container: String,
    /// New name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// `rm`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RmArgs {
    /// Kill running containers first
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove anonymous volumes of the container
    #[arg(short, long)]
    pub(crate) volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `top`.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "cooper top CONTAINER [ps OPTIONS]")]
pub(crate) struct TopArgs {
    /// Container and options for ps
    #[arg(
        trailing_var_arg = true,
        required = true,
        value_name = "CONTAINER [ps OPTIONS]",
        hide = true
    )]
    pub(crate) rest: Vec<String>,
}
