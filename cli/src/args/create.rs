//! Flags of `run` and `create`.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

/// When to ask the registry for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    /// Before every container
    Always,
    /// When the image is not in the store
    Missing,
    /// Not at all
    Never,
}

/// Flags shared by `run` and `create`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ContainerFlags {
    /// Give the container a name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Keep stdin open even if not attached
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Set an environment variable; NAME alone takes the value from this process
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
    /// Bind a host directory or file
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    pub(crate) volume: Vec<String>,
    /// Attach a mount: `type=bind|tmpfs,source=…,target=…[,readonly]`
    #[arg(long, value_name = "SPEC")]
    pub(crate) mount: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Network: `none` (loopback only) or `host`
    #[arg(long, visible_alias = "net", value_name = "MODE", default_value = "none")]
    pub(crate) network: String,
    /// Not available yet: publishing needs a bridge network
    #[arg(short, long, value_name = "HOST:CONTAINER", hide = true)]
    pub(crate) publish: Vec<String>,
    /// Memory limit (bytes, or with suffix b, k, m, g)
    #[arg(short, long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Memory plus swap limit; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Number of CPUs, fractions allowed
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<String>,
    /// CPU weight relative to other containers
    #[arg(short, long, value_name = "SHARES")]
    pub(crate) cpu_shares: Option<i64>,
    /// CPUs it may use (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Limit the number of processes; -1 for unlimited
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Add a Linux capability
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a Linux capability
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// Mount the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Give the container every capability and device
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Security option: no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Host name of the container
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// Seconds to wait after the stop signal before killing
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// When to start it again: no, always, unless-stopped, on-failure[:N] or on-unhealthy[:N]
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub(crate) restart: String,
    /// Command that finds out whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between two checks, such as 30s
    #[arg(long, value_name = "TIME")]
    pub(crate) health_interval: Option<String>,
    /// Time a check may take
    #[arg(long, value_name = "TIME")]
    pub(crate) health_timeout: Option<String>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_period: Option<String>,
    /// Time between two checks after the start
    #[arg(long, value_name = "TIME")]
    pub(crate) health_start_interval: Option<String>,
    /// Failures in a row that make the container unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<u32>,
    /// Ignore the image's health check
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_start_period", "health_start_interval", "health_retries"])]
    pub(crate) no_healthcheck: bool,
    /// Resource limit: `nofile=1024[:2048]`
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) ulimit: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub(crate) shm_size: Option<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "HOST:IP")]
    pub(crate) add_host: Vec<String>,
    /// Add a supplementary group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Set a namespaced kernel parameter
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) sysctl: Vec<String>,
    /// Not available yet
    #[arg(long, hide = true)]
    pub(crate) init: bool,
    /// When to pull the image
    #[arg(long, value_enum, default_value = "missing", value_name = "WHEN")]
    pub(crate) pull: PullPolicy,
    /// Platform of the image, only this machine's is accepted
    #[arg(long, value_name = "OS/ARCH")]
    pub(crate) platform: Option<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Attach to stdin, stdout or stderr
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) attach: Vec<String>,
    /// Where the output is kept: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Option of the log driver
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) log_opt: Vec<String>,
    /// Do not print the progress of pulling and building
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub(crate) help: Option<bool>,
}

/// `run`.
#[derive(Debug, Clone, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "cooper run [OPTIONS] IMAGE [COMMAND] [ARG...]\n       cooper run [OPTIONS] --build DIR [COMMAND] [ARG...]",
    after_help = "Everything after IMAGE belongs to the container. Containers have no network but loopback unless --network host is given.

Examples:
  cooper run --rm busybox echo hello
  cooper run -it --rm busybox sh
  cooper run --rm --build . make test      Build this directory, run `make test` in the result
  cooper run --rm --build . --watch        Again after every change of a file"
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) flags: ContainerFlags,
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Pass signals on to the process
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", action = ArgAction::Set)]
    pub(crate) sig_proxy: bool,
    /// Keys that detach the terminal from the container
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// Build this directory first and run the result; IMAGE is then left out
    #[arg(long, value_name = "DIR")]
    pub(crate) build: Option<PathBuf>,
    /// Dockerfile for --build
    #[arg(long, value_name = "FILE", requires = "build")]
    pub(crate) build_file: Option<PathBuf>,
    /// Stage for --build
    #[arg(long, value_name = "STAGE", requires = "build")]
    pub(crate) build_target: Option<String>,
    /// Build argument for --build
    #[arg(long, value_name = "NAME[=VALUE]", requires = "build")]
    pub(crate) build_arg: Vec<String>,
    /// With --build: build again whenever a file that matters changes, and start the container anew
    #[arg(long, requires = "build", conflicts_with_all = ["detach", "interactive", "cidfile"])]
    pub(crate) watch: bool,
    /// Image, command and its arguments
    #[arg(trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG...]", hide = true)]
    pub(crate) rest: Vec<String>,
}

/// `create`.
#[derive(Debug, Clone, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "cooper create [OPTIONS] IMAGE [COMMAND] [ARG...]"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) flags: ContainerFlags,
    /// Image, command and its arguments
    #[arg(
        trailing_var_arg = true,
        required = true,
        value_name = "IMAGE [COMMAND] [ARG...]",
        hide = true
    )]
    pub(crate) rest: Vec<String>,
}
