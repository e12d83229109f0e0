//! Engine API bodies, shared by the routes (which write them) and the command line (which reads them).
//!
//! Own types instead of generated ones, because clients depend on what Docker prints exactly: `null` where Go has a
//! nil slice, `[]`, `""` and the zero time where it has a value, nothing where the field says `omitempty`. Field names,
//! order and meaning follow the definitions of API 1.51 (named on each type); the shapes were compared with the answers
//! of Docker 28.5.

mod build;
mod container;
mod data;
mod event;
mod exec;
mod host_config;
mod image;
mod message;
mod network;
mod system;
mod time;

pub use build::{
    BUILD_VERSION, BuildCall, BuildDoor, BuildFailure, BuildLine, BuildResult, Bytes, CONTEXT_PART,
    ImageResult, MAX_BUILD_CALL, MAX_BUILD_CHUNK, MAX_SECRET,
};
pub use container::{
    AttachParams, ContainerConfig, ContainerInspect, ContainerState, ContainerSummary, CreateRequest,
    CreateResponse, GraphDriver, Health, HealthcheckResult, MountPoint, NetworkSettings,
    PruneContainersReport, SummaryHostConfig, SummaryNetworkSettings, TopResponse, WaitError, WaitResponse,
};
pub use cooper_registry::oci::HealthConfig;
pub use data::{
    BlkioEntry, BlkioStats, CpuStats, CpuUsage, FilesystemChange, IdResponse, MemoryStats, PathStat,
    PidsStats, Stats, ThrottlingData, UpdateRequest, UpdateResponse,
};
pub use event::{EventActor, EventMessage};
pub use exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcessConfig, ExecStartRequest};
pub use host_config::{
    BindOptions, DeviceMapping, HostConfig, LogConfig, Mount, PortBinding, RestartPolicy, TmpfsOptions,
    Ulimit,
};
pub use image::{
    DeletedImage, HistoryItem, ImageInspect, ImageMetadata, ImageRootFs, ImageSummary, PruneImagesReport,
};
pub use message::{ErrorDetail, Message, ProgressDetail};
pub use network::{ConfigFrom, EndpointSettings, Ipam, Network, NetworkingConfig, VolumeList};
pub use system::{
    AuthConfig, AuthResponse, BuildCacheItem, Commit, Component, DiskUsage, ErrorResponse, FirewallBackend,
    Info, Platform, Plugins, PruneBuildReport, Runtime, SwarmInfo, Version,
};
pub use time::{ZERO_TIME, unix_seconds};

/// Highest Engine API version this engine speaks, and the one of routes without a version.
pub const API_VERSION: &str = "1.51";
/// Lowest Engine API version this engine accepts.
pub const MIN_API_VERSION: &str = "1.24";
/// Content type of framed output (8-byte headers), for processes without a terminal.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";
/// Content type of plain output, for processes with a terminal.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
