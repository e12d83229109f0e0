//! The root command, its global flags and the list of verbs.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{build, builder, container, create, data, image, system};
use crate::client::Places;

/// Build Dockerfiles, serve the images from a built-in registry and run them as isolated containers
#[derive(Debug, Parser)]
#[command(
    name = "cooper",
    // Not what this file happens to be called.
    bin_name = "cooper",
    version,
    disable_help_subcommand = true,
    infer_long_args = false,
    after_help = "Examples:
  cooper build -t hello .             Build the Dockerfile of this directory
  cooper run --rm hello               Run the result
  cooper run --rm --build .           Both in one step
  cooper registry serve               Serve every image at 127.0.0.1:5000"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Which engine to use.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Engine to talk to: unix:///path or tcp://address:port (plain text)
    #[arg(short = 'H', long, env = "COOPER_HOST", value_name = "URL")]
    pub(crate) host: Option<String>,
    /// Work on this store in process, without a daemon [default: the daemon at /run/cooper/cooper.sock if it answers,
    /// else /var/lib/cooper in process; not as root: $XDG_RUNTIME_DIR/cooper.sock, ~/.local/share/cooper]
    #[arg(long, env = "COOPER_DATA_ROOT", value_name = "DIR")]
    pub(crate) data_root: Option<PathBuf>,
    /// Where sockets and mounts of running containers live [default: /run/cooper, or DATA_ROOT/run with --data-root; not
    /// as root: $XDG_RUNTIME_DIR/cooper, or /tmp/cooper-UID]
    #[arg(long, env = "COOPER_EXEC_ROOT", value_name = "DIR")]
    pub(crate) exec_root: Option<PathBuf>,
    /// Settings of an engine in process or of the daemon, as dockerd's daemon.json [default: /etc/cooper/daemon.json]
    #[arg(long, env = "COOPER_CONFIG_FILE", value_name = "FILE", hide = true)]
    pub(crate) config_file: Option<PathBuf>,
    /// Log what the engine does to stderr
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// What the defaults above are for this user.
    #[arg(skip)]
    pub(crate) places: Places,
}

/// The verbs, and docker's management commands as second names of the same.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Create and run a new container
    Run(create::RunArgs),
    /// Create a container without starting it
    Create(create::CreateArgs),
    /// Start stopped containers
    Start(container::StartArgs),
    /// Attach the terminal to a running container
    Attach(container::AttachArgs),
    /// Run a command in a running container
    Exec(container::ExecArgs),
    /// List containers
    Ps(container::PsArgs),
    /// Fetch the output of a container
    Logs(container::LogsArgs),
    /// Stop running containers
    Stop(container::StopArgs),
    /// Send a signal to running containers
    Kill(container::KillArgs),
    /// Stop and start containers
    Restart(container::StopArgs),
    /// Freeze all processes of containers
    Pause(container::Names),
    /// Thaw all processes of containers
    Unpause(container::Names),
    /// Give a container another name
    Rename(container::RenameArgs),
    /// Remove containers
    Rm(container::RmArgs),
    /// Wait until containers stop, then print their exit codes
    Wait(container::Names),
    /// Copy files between a container and here
    Cp(data::CpArgs),
    /// Show which files of a container differ from its image's
    Diff(data::DiffArgs),
    /// Write a container's file system as a tar
    Export(data::ExportArgs),
    /// Make an image from what a container has changed
    Commit(data::CommitArgs),
    /// Show what containers use, as it changes
    Stats(data::StatsArgs),
    /// Change limits and restart policies of containers
    Update(data::UpdateArgs),
    /// List the processes of a container
    Top(container::TopArgs),
    /// List images
    Images(image::ImagesArgs),
    /// Remove images
    Rmi(image::RmiArgs),
    /// Give an image another name
    Tag(image::TagArgs),
    /// Show all that is known of containers or images
    Inspect(system::InspectArgs),
    /// Show how an image came to be
    History(image::HistoryArgs),
    /// Make an image from the tar of a root file system
    Import(image::ImportArgs),
    /// Load images from a tar made by `save`
    Load(image::LoadArgs),
    /// Write images to a tar
    Save(image::SaveArgs),
    /// Download an image from a registry
    Pull(image::PullArgs),
    /// Upload an image to a registry
    Push(image::PushArgs),
    /// The built-in registry
    #[command(subcommand)]
    Registry(system::RegistryVerb),
    /// The build cache
    #[command(subcommand)]
    Builder(builder::BuilderVerb),
    /// Serve the Engine API on sockets
    Daemon(system::DaemonArgs),
    /// Disk use and clean-up
    #[command(subcommand)]
    System(system::SystemVerb),
    /// Run a command, or a shell, as root of your user namespace, where all files of your images are yours
    Unshare(system::UnshareArgs),
    /// Show the versions of client and engine
    Version(system::FormatArgs),
    /// Show what happens to containers and images, as it happens
    Events(system::EventsArgs),
    /// Show the state of the engine and what this machine can do
    Info(system::FormatArgs),
    /// Manage containers
    #[command(subcommand)]
    Container(ContainerVerb),
    /// Manage images
    #[command(subcommand)]
    Image(ImageVerb),
    /// Print a completion script for a shell
    Completion(system::CompletionArgs),
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man(system::ManArgs),
}

/// `cooper container …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ContainerVerb {
    /// Attach the terminal to a running container
    Attach(container::AttachArgs),
    /// Create a container without starting it
    Create(create::CreateArgs),
    /// Run a command in a running container
    Exec(container::ExecArgs),
    /// Show all that is known of containers
    Inspect(system::InspectArgs),
    /// Send a signal to running containers
    Kill(container::KillArgs),
    /// Fetch the output of a container
    Logs(container::LogsArgs),
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(container::PsArgs),
    /// Freeze all processes of containers
    Pause(container::Names),
    /// Remove all stopped containers
    Prune(system::PruneArgs),
    /// Give a container another name
    Rename(container::RenameArgs),
    /// Stop and start containers
    Restart(container::StopArgs),
    /// Remove containers
    #[command(visible_alias = "remove")]
    Rm(container::RmArgs),
    /// Create and run a new container
    Run(create::RunArgs),
    /// Start stopped containers
    Start(container::StartArgs),
    /// Stop running containers
    Stop(container::StopArgs),
    /// Copy files between a container and here
    Cp(data::CpArgs),
    /// Show which files of a container differ from its image's
    Diff(data::DiffArgs),
    /// Write a container's file system as a tar
    Export(data::ExportArgs),
    /// Make an image from what a container has changed
    Commit(data::CommitArgs),
    /// Show what containers use, as it changes
    Stats(data::StatsArgs),
    /// Change limits and restart policies of containers
    Update(data::UpdateArgs),
    /// List the processes of a container
    Top(container::TopArgs),
    /// Thaw all processes of containers
    Unpause(container::Names),
    /// Wait until containers stop, then print their exit codes
    Wait(container::Names),
}

/// `cooper image …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// Build an image from a Dockerfile
    Build(Box<build::BuildArgs>),
    /// Show how an image came to be
    History(image::HistoryArgs),
    /// Make an image from the tar of a root file system
    Import(image::ImportArgs),
    /// Show all that is known of images
    Inspect(system::InspectArgs),
    /// Load images from a tar made by `save`
    Load(image::LoadArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(image::ImagesArgs),
    /// Remove images without a name, or all unused ones with --all
    Prune(system::PruneArgs),
    /// Download an image from a registry
    Pull(image::PullArgs),
    /// Upload an image to a registry
    Push(image::PushArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(image::RmiArgs),
    /// Write images to a tar
    Save(image::SaveArgs),
    /// Give an image another name
    Tag(image::TagArgs),
}
