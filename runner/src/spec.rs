//! What to run and how to isolate it: the contract between an engine and a supervisor.
//!
//! An engine writes a [`ContainerSpec`] as `spec.json` (format [`SPEC_VERSION`]); the supervisor reads it back, maybe
//! under a newer binary, so fields are only ever added, with defaults.

mod policy;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use policy::{HealthCheck, Restart, RestartPolicy};

use crate::cgroup::{DeviceRule, Resources};

/// Version written to `spec.json`.
pub const SPEC_VERSION: u32 = 1;

/// Everything a supervisor needs to start one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// [`SPEC_VERSION`] of the writer.
    pub version: u32,
    /// The container's id, 64 hex digits.
    pub id: String,
    /// Host name inside the UTS namespace; ignored with [`NetworkMode::Host`].
    pub hostname: String,
    /// Where the root file system comes from.
    pub rootfs: RootFs,
    /// The first process.
    pub process: ProcessSpec,
    /// Mounts on top of Docker's default ones, in order.
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    /// Network namespace.
    pub network: NetworkMode,
    /// All capabilities, devices and paths, no seccomp (`--privileged`).
    #[serde(default)]
    pub privileged: bool,
    /// Seccomp filter.
    #[serde(default)]
    pub seccomp: SeccompMode,
    /// Paths hidden from the container; `None` means Docker's default list.
    #[serde(default)]
    pub masked_paths: Option<Vec<PathBuf>>,
    /// Paths made read-only; `None` means Docker's default list.
    #[serde(default)]
    pub readonly_paths: Option<Vec<PathBuf>>,
    /// Limits.
    #[serde(default)]
    pub resources: Resources,
    /// Device cgroup rules on top of Docker's default ones.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// Cgroup below the controller's root, `cooper/<id>`.
    pub cgroup_path: String,
    /// Namespaced sysctls.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Size of `/dev/shm` in bytes.
    #[serde(default = "default_shm_size")]
    pub shm_size: u64,
    /// Signal that asks the process to end, as a number.
    #[serde(default = "default_stop_signal")]
    pub stop_signal: i32,
    /// Where output goes.
    #[serde(default)]
    pub log: LogConfig,
    /// The supervisor removes the container's directory when the process has ended (`--rm`).
    #[serde(default)]
    pub auto_remove: bool,
    /// When the supervisor starts the process again.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How the container is found healthy; `None` if nobody asks.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

fn default_shm_size() -> u64 {
    64 << 20
}

fn default_stop_signal() -> i32 {
    15
}

/// An overlay of unpacked layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Unpacked layer directories, **top first** (overlayfs order). May be empty (`FROM scratch`).
    pub lowers: Vec<PathBuf>,
    /// Writable directory.
    pub upper: PathBuf,
    /// Overlay's work directory, on the same file system as `upper`.
    pub work: PathBuf,
    /// Mount the root read-only (`--read-only`).
    #[serde(default)]
    pub readonly: bool,
}

/// A process to execute inside the container: its first one or an exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `K=V`, complete except for HOME, which is set from passwd when absent.
    pub env: Vec<String>,
    /// Working directory inside the container; created when missing.
    pub cwd: String,
    /// `user[:group]` by name or number as Docker takes it; empty means root.
    #[serde(default)]
    pub user: String,
    /// Additional groups by name or number (`--group-add`).
    #[serde(default)]
    pub group_add: Vec<String>,
    /// Allocate a pty.
    #[serde(default)]
    pub tty: bool,
    /// Initial pty size, rows then columns.
    #[serde(default)]
    pub console_size: Option<(u16, u16)>,
    /// Keep stdin open for attached clients; otherwise it is `/dev/null`.
    #[serde(default)]
    pub open_stdin: bool,
    /// Close stdin when the first attached client closes its side.
    #[serde(default)]
    pub stdin_once: bool,
    /// Bounding, permitted and effective capabilities by name (`CAP_CHOWN`); inheritable and ambient stay empty.
    pub capabilities: Vec<String>,
    /// Set `no_new_privs`.
    #[serde(default)]
    pub no_new_privileges: bool,
    /// Resource limits: name (`nofile`), soft, hard.
    #[serde(default)]
    pub rlimits: Vec<(String, u64, u64)>,
    /// `oom_score_adj`.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
}

/// One mount on top of the default ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// Absolute path inside the container, resolved within the root; created when missing.
    pub target: PathBuf,
    /// What is mounted.
    pub source: MountSource,
    /// Read-only, recursively.
    #[serde(default)]
    pub readonly: bool,
}

/// What a [`MountSpec`] mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountSource {
    /// A host file or directory.
    Bind {
        /// Absolute host path.
        path: PathBuf,
        /// Propagation.
        #[serde(default)]
        propagation: Propagation,
    },
    /// A fresh tmpfs.
    Tmpfs {
        /// Size limit in bytes.
        size: Option<u64>,
        /// Mode of its root.
        mode: Option<u32>,
        /// Programs in it may be executed, and devices used (BuildKit); Docker's own are `noexec` and `nodev`.
        #[serde(default)]
        exec: bool,
    },
    /// Part of a stack of layers; for build steps only.
    Overlay {
        /// Layer directories, top first; at least one.
        lowers: Vec<PathBuf>,
        /// Where writes go, with overlay's work directory; none for a read-only mount.
        upper: Option<(PathBuf, PathBuf)>,
        /// What of it is mounted; links in it stay inside. Empty for all.
        path: PathBuf,
    },
    /// A file that exists in memory only, read-only; for build steps only.
    Secret {
        /// Its bytes.
        content: Secret,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// Bytes that no log shows. Serialised in hex, for the socket to a supervisor; never written to a disk.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The error must not quote what was read.
        let invalid = || serde::de::Error::custom("not in hex");
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(invalid());
        };
        let bytes = pairs
            .iter()
            .map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
        bytes.collect::<Option<Vec<u8>>>().map(Self).ok_or_else(invalid)
    }
}

/// Mount propagation of a bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Nothing propagates (Docker's default).
    #[default]
    Private,
    /// Host to container.
    Slave,
    /// Both ways.
    Shared,
}

/// Network namespace of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// A new one with only loopback, up.
    None,
}

/// Which seccomp filter is loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeccompMode {
    /// Docker's default profile.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile in Docker's JSON format.
    Profile(String),
}

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// Write the log file; builds and `--log-driver none` do not.
    pub enabled: bool,
    /// Rotate at this many bytes.
    pub max_size: u64,
    /// Keep this many files including the current one.
    pub max_files: u32,
}

impl Default for LogConfig {
    /// 10 MB in 3 files: bounded where Docker's default is not.
    fn default() -> Self {
        Self {
            enabled: true,
            max_size: 10_000_000,
            max_files: 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_and_do_not_show() {
        for bytes in [b"".to_vec(), b"top\xffsecret\0".to_vec()] {
            let secret = Secret(bytes);
            let json = serde_json::to_string(&secret).unwrap();
            assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
            assert!(!format!("{secret:?} {json}").contains("top"));
        }
        for bad in ["\"abc\"", "\"zz\"", "\"é\""] {
            let error = serde_json::from_str::<Secret>(bad).unwrap_err().to_string();
            assert!(error.starts_with("not in hex"), "{error}");
        }
    }
}
