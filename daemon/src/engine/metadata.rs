//! What the engine knows of a container beyond the runner's spec: `config.json` in the container's directory.
//!
//! Format version 1: the JSON of [`Metadata`]. Written once, before the container becomes visible, by
//! `Containers::create`; never changed afterwards, so readers need no lock. A `HostConfig` that was updated since is in the
//! runner's `overrides.json` and takes the place of the one here. The container's name is the runner's.

use serde::{Deserialize, Serialize};

use crate::api;

/// File name within the container's directory.
pub(crate) const METADATA_FILE: &str = "config.json";
/// Version written by this engine.
const VERSION: u32 = 1;

/// The engine's part of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct Metadata {
    version: u32,
    pub(crate) id: String,
    /// RFC 3339 with nanoseconds.
    pub(crate) created: String,
    /// Digest of the image it was made from.
    pub(crate) image_id: String,
    /// After merging with the image's.
    pub(crate) config: api::ContainerConfig,
    pub(crate) host_config: api::HostConfig,
    pub(crate) mounts: Vec<api::MountPoint>,
}

/// Why `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetadataError {
    #[error("version {0} was written by a newer engine")]
    Version(u32),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl Metadata {
    pub(crate) fn new(
        id: String,
        image_id: String,
        config: api::ContainerConfig,
        host_config: api::HostConfig,
        mounts: Vec<api::MountPoint>,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            created: format!("{:.9}", jiff::Timestamp::now()),
            image_id,
            config,
            host_config,
            mounts,
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, MetadataError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes)?;
        if head.version > VERSION {
            return Err(MetadataError::Version(head.version));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote_and_refuses_newer_versions() {
        let host = api::HostConfig {
            memory: 1 << 30,
            network_mode: "none".to_owned(),
            ..Default::default()
        };
        let config = api::ContainerConfig {
            cmd: Some(vec!["sh".to_owned()]),
            ..Default::default()
        };
        let written = Metadata::new("a1".to_owned(), "sha256:00".to_owned(), config, host, Vec::new());
        let bytes = written.encode().unwrap();
        assert_eq!(Metadata::decode(&bytes).unwrap(), written);
        let mut newer: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        newer["version"] = 2.into();
        let newer = serde_json::to_vec(&newer).unwrap();
        assert!(matches!(Metadata::decode(&newer), Err(MetadataError::Version(2))));
    }
}
