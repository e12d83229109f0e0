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

/// How `--explain` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExplainFormat {
    /// For people, on stderr
    Text,
    /// One JSON line for each step, on stdout
    Json,
}

/// `build`.
#[derive(Debug, Clone, Args)]
#[command(
    override_usage = "cooper build [OPTIONS] PATH | URL | -",
    after_help = "The image always goes into the store; --output and --push say where else.

Contexts:
  PATH    Directory; its .dockerignore, or FILE.dockerignore beside the Dockerfile, applies
  URL     Git repository (URL#REF:DIR) or archive
  -       Archive on stdin, compressed or not, or a Dockerfile alone

Outputs:
  DIR, type=local,dest=DIR      The files of the result
  -, type=tar,dest=FILE         The same as a tar
  type=oci|docker,dest=FILE     The image as an archive; with type=oci,tar=false a directory
  type=image, type=registry     Options of the image in the store: name=, push=, compression= and so on

With --progress rawjson every event of the build is one JSON object with the field `event`: plan, started, cached, output,
done, failed, warning, progress or image.

Examples:
  cooper build -t app .
  cooper build -t app -f docker/Dockerfile --build-arg VERSION=2 --target release .
  cooper build -t app - < Dockerfile                   No context, the Dockerfile on stdin
  cooper build --target app=app:1 --target test=t .    Two images at once
  cooper build --secret id=token,env=TOKEN .           RUN --mount=type=secret,id=token sees it
  cooper build --watch -t app .                        Build again whenever a file changes"
)]
pub(crate) struct BuildArgs {
    /// Name and optionally tag of the result
    #[arg(short, long, value_name = "NAME[:TAG]")]
    pub(crate) tag: Vec<String>,
    /// Dockerfile: a path, a URL, or `-` for stdin [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG; NAME alone takes it from the environment
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) build_arg: Vec<String>,
    /// Stage to build; several make several images
    #[arg(long, value_name = "STAGE[=NAME]")]
    pub(crate) target: Vec<String>,
    /// Platform of the result; several make one image for all of them
    #[arg(long, value_name = "OS/ARCH[,...]", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// More contexts: NAME=DIR, URL, docker-image://NAME or oci-layout://DIR
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,

    /// Do not use cached steps
    #[arg(long, help_heading = "Cache")]
    pub(crate) no_cache: bool,
    /// Do not use cached steps of these stages
    #[arg(
        long,
        value_name = "STAGE[,...]",
        value_delimiter = ',',
        help_heading = "Cache"
    )]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registry for newer base images
    #[arg(long, help_heading = "Cache")]
    pub(crate) pull: bool,
    /// Look for cached steps elsewhere: NAME, type=registry,ref=NAME or type=local,src=DIR
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    pub(crate) cache_from: Vec<String>,
    /// Put the cache elsewhere, too: NAME, type=registry, type=local,dest=DIR or type=inline
    #[arg(long, value_name = "CACHE", help_heading = "Cache")]
    pub(crate) cache_to: Vec<String>,
    /// Tell why each step was not in the cache
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "text", help_heading = "Cache")]
    pub(crate) explain: Option<ExplainFormat>,

    /// Build it again and say where the result differs from this image
    #[arg(long, value_name = "IMAGE", help_heading = "Cache")]
    pub(crate) verify: Option<String>,

    /// Secret for RUN --mount=type=secret: id=ID[,src=FILE|,env=NAME]
    #[arg(long, value_name = "SECRET", help_heading = "RUN")]
    pub(crate) secret: Vec<String>,
    /// Agent for RUN --mount=type=ssh: default, or ID[=SOCKET]
    #[arg(long, value_name = "AGENT", help_heading = "RUN")]
    pub(crate) ssh: Vec<String>,
    /// Network of RUN: default, host or none
    #[arg(long, value_name = "MODE", default_value = "default", help_heading = "RUN")]
    pub(crate) network: String,
    /// Line for /etc/hosts of RUN; host-gateway is this host
    #[arg(long, value_name = "NAME:ADDRESS", help_heading = "RUN")]
    pub(crate) add_host: Vec<String>,
    /// Let RUN ask for more: network.host, security.insecure or device
    #[arg(long, value_name = "ENTITLEMENT", help_heading = "RUN")]
    pub(crate) allow: Vec<String>,
    /// Size of /dev/shm of RUN
    #[arg(long, value_name = "BYTES", help_heading = "RUN")]
    pub(crate) shm_size: Option<String>,
    /// Resource limit of RUN: nofile=1024[:2048]
    #[arg(long, value_name = "NAME=SOFT[:HARD]", help_heading = "RUN")]
    pub(crate) ulimit: Vec<String>,
    /// Cgroup below which those of RUN are made
    #[arg(long, value_name = "PATH", help_heading = "RUN")]
    pub(crate) cgroup_parent: Option<String>,
    /// Limits of each RUN: memory=1g,cpu-quota=50000 and so on
    #[arg(long, value_name = "NAME=VALUE[,...]", help_heading = "RUN")]
    pub(crate) resource: Vec<String>,
    /// Memory limit of RUN
    #[arg(short, long, value_name = "BYTES", help_heading = "RUN")]
    pub(crate) memory: Option<String>,
    /// Memory plus swap of RUN; -1 for unlimited swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, help_heading = "RUN")]
    pub(crate) memory_swap: Option<String>,
    /// CPU weight of RUN
    #[arg(short, long, value_name = "SHARES", help_heading = "RUN")]
    pub(crate) cpu_shares: Option<String>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS", help_heading = "RUN")]
    pub(crate) cpu_period: Option<String>,
    /// CPU time of RUN in each period
    #[arg(
        long,
        value_name = "MICROSECONDS",
        allow_hyphen_values = true,
        help_heading = "RUN"
    )]
    pub(crate) cpu_quota: Option<String>,
    /// CPUs that RUN may use
    #[arg(long, value_name = "LIST", help_heading = "RUN")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes that RUN may use
    #[arg(long, value_name = "LIST", help_heading = "RUN")]
    pub(crate) cpuset_mems: Option<String>,
    /// Offer a shell in the state of a RUN that failed
    #[arg(short = 'D', long, help_heading = "RUN")]
    pub(crate) debug: bool,

    /// Set a label on the image
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Result")]
    pub(crate) label: Vec<String>,
    /// Annotate the manifest or index: [manifest|index|...:]NAME=VALUE
    #[arg(long, value_name = "ANNOTATION", help_heading = "Result")]
    pub(crate) annotation: Vec<String>,
    /// Attest the result: type=provenance or type=sbom
    #[arg(long, value_name = "ATTESTATION", help_heading = "Result")]
    pub(crate) attest: Vec<String>,
    /// Short for --attest type=provenance: true, false or mode=max
    #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          help_heading = "Result")]
    pub(crate) provenance: Option<String>,
    /// Short for --attest type=sbom: true, false or generator=NAME
    #[arg(long, value_name = "VALUE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          help_heading = "Result")]
    pub(crate) sbom: Option<String>,
    /// Make one layer of all that were built
    #[arg(long, help_heading = "Result")]
    pub(crate) squash: bool,
    /// Compression of the image's layers: none, gzip or zstd [default: as they are in the store]
    #[arg(long, value_name = "FORMAT", help_heading = "Result")]
    pub(crate) compression: Option<String>,
    /// Level of --compression
    #[arg(long, value_name = "LEVEL", help_heading = "Result")]
    pub(crate) compression_level: Option<String>,
    /// Compress layers of base images again, too
    #[arg(long, help_heading = "Result")]
    pub(crate) force_compression: bool,
    /// Where else the result goes: a directory, `-` for a tar on stdout, or type=...,dest=...
    #[arg(short, long, value_name = "OUTPUT", help_heading = "Result")]
    pub(crate) output: Vec<String>,
    /// Push the image to the registry of its name
    #[arg(long, help_heading = "Result")]
    pub(crate) push: bool,
    /// Write the image id to a file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Write what was built as JSON to a file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Check the Dockerfile instead of building it
    #[arg(long, help_heading = "Questions")]
    pub(crate) check: bool,
    /// Ask about the Dockerfile instead of building it: check, outline, targets or subrequests.describe
    #[arg(long, value_name = "METHOD[,format=json]", help_heading = "Questions")]
    pub(crate) call: Option<String>,

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
    /// Build again whenever a file that matters changes
    #[arg(long)]
    pub(crate) watch: bool,

    /// Accepted for docker's sake: the result is always in the store
    #[arg(long, hide = true)]
    pub(crate) load: bool,
    /// Accepted for docker's sake: no intermediate containers are kept
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) rm: Option<bool>,
    /// Accepted for docker's sake: no intermediate containers are kept
    #[arg(long, hide = true)]
    pub(crate) force_rm: bool,
    /// Accepted for docker's sake: a context that is sent is not worth compressing
    #[arg(long, hide = true)]
    pub(crate) compress: bool,
    /// Accepted for docker's sake: there is one isolation
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) isolation: Option<String>,
    /// Accepted for docker's sake: there is one builder
    #[arg(long, hide = true, value_name = "NAME")]
    pub(crate) builder: Option<String>,
    /// Refused: docker has it on Windows only
    #[arg(long, hide = true, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Directory or URL whose files COPY and ADD see, or `-` for stdin
    #[arg(value_name = "PATH|URL|-", required = true)]
    pub(crate) context: PathBuf,
}
