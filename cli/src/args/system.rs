//! Flags of the daemon, the registry, inspection and housekeeping.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Kind of object for `inspect --type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectType {
    /// A container
    Container,
    /// An image
    Image,
}

/// `inspect`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InspectArgs {
    /// `json` or a template such as {{.State.Status}}
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
    /// Look only for this kind of object
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub(crate) kind: Option<ObjectType>,
    /// Include the size of containers
    #[arg(short, long)]
    pub(crate) size: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `events`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  cooper events                                    Until Ctrl-C
  cooper events --since 10m --until 0s             What happened in the last ten minutes
  cooper events --filter type=container --filter event=die --format json")]
pub(crate) struct EventsArgs {
    /// Show only what fits, repeatable: container=, event=, image=, label=, type=
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// From this time on: RFC 3339, unix seconds, or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// `json` or a template such as {{.Actor.ID}}
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// Verbs that only take --format.
#[derive(Debug, Clone, Args)]
pub(crate) struct FormatArgs {
    /// `json` or a template such as {{.Server.Version}}
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `registry …`.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryVerb {
    /// Serve the store's images over the distribution API until interrupted
    Serve(ServeArgs),
}

/// `registry serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  cooper registry serve &
  skopeo inspect --tls-verify=false docker://127.0.0.1:5000/hello")]
pub(crate) struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
}

/// How much the daemon logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Everything
    Trace,
    /// What a developer needs
    Debug,
    /// What an operator needs
    Info,
    /// Trouble that was handled
    Warn,
    /// Failures only
    Error,
}

/// `daemon`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  cooper daemon --host unix:///tmp/cooper.sock --data-root /tmp/cooper &
  docker -H unix:///tmp/cooper.sock ps")]
pub(crate) struct DaemonArgs {
    /// Socket to listen on, repeatable [default: unix:///run/cooper/cooper.sock; not as root:
    /// $XDG_RUNTIME_DIR/cooper.sock]
    #[arg(short = 'H', long = "host", value_name = "URL")]
    pub(crate) hosts: Vec<String>,
    /// Where images and containers are kept [default: /var/lib/cooper; not as root: ~/.local/share/cooper]
    #[arg(long = "data-root", value_name = "DIR")]
    pub(crate) daemon_data_root: Option<PathBuf>,
    /// Where sockets and mounts of running containers live [default: /run/cooper; not as root: $XDG_RUNTIME_DIR/cooper]
    #[arg(long = "exec-root", value_name = "DIR")]
    pub(crate) daemon_exec_root: Option<PathBuf>,
    /// File to write the process id to
    #[arg(short, long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// How much to log to stderr
    #[arg(short, long, value_enum, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: LogLevel,
}

/// `system …`.
#[derive(Debug, Subcommand)]
pub(crate) enum SystemVerb {
    /// Show disk use
    Df(DfArgs),
    /// Remove stopped containers, unused images and the build cache
    Prune(PruneArgs),
    /// Show the state of the engine and what this machine can do
    Info(FormatArgs),
}

/// `system df`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DfArgs {
    /// Show every image, container and volume
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// `table`, `json` or a template
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

/// `… prune`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused images, not only those without a name
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Remove anonymous volumes too
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Keep what does not match: until=24h, label=…
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) filter: Vec<String>,
}

/// `unshare`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  cooper unshare rm -rf ~/.local/share/cooper")]
pub(crate) struct UnshareArgs {
    /// Command and its arguments [default: $SHELL]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// `completion`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionArgs {
    /// Shell to complete for
    pub(crate) shell: Shell,
}

/// `man`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// Directory to write to
    pub(crate) directory: PathBuf,
}
