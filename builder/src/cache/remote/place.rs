//! Where a cache is.

use std::path::PathBuf;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Lease, Store};

use super::format::{CONFIG_TYPE, Contents, MAX_BLOBS, MAX_CONFIG};
use super::inline;
use super::layout::Layout;
use crate::build::{CacheLocation, Registries};

/// Config of BuildKit's caches.
const BUILDKIT_TYPE: &str = "application/vnd.buildkit.cacheconfig.v0";
const MAX_IMAGE_CONFIG: u64 = 8 << 20;

/// A cache's place with the means to reach it.
pub(super) enum Place<'a> {
    Registry {
        name: ImageRef,
        registries: &'a dyn Registries,
    },
    Layout {
        path: PathBuf,
        tag: String,
    },
}

/// What is found at a place.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Cache(Contents),
    /// An image, with its inline cache.
    Image(Option<Contents>),
    /// A cache of BuildKit's.
    BuildKit,
}

impl<'a> Place<'a> {
    /// None for inline: that one has no place of its own.
    pub(super) fn new(location: &CacheLocation, registries: &'a dyn Registries) -> Option<Self> {
        match location {
            CacheLocation::Registry(name) => Some(Self::Registry {
                name: name.clone(),
                registries,
            }),
            CacheLocation::Local { path, tag } => Some(Self::Layout {
                path: path.clone(),
                tag: tag.clone().unwrap_or_else(|| "latest".to_owned()),
            }),
            CacheLocation::Inline => None,
        }
    }

    /// For people.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Registry { name, .. } => name.familiar(),
            Self::Layout { path, tag } => format!("{}:{tag}", path.display()),
        }
    }

    /// For keys: the same for every build that names this cache.
    pub(super) fn scope(&self) -> String {
        let text = match self {
            Self::Registry { name, .. } => {
                let tag = name
                    .tag_or_latest()
                    .map(|tag| tag.to_string())
                    .unwrap_or_default();
                format!("registry {} {tag} {:?}", name.repo, name.digest)
            }
            Self::Layout { path, tag } => format!("local {} {tag}", path.display()),
        };
        Digest::sha256(text.as_bytes()).hex()[..32].to_owned()
    }

    /// Reads manifest and config.
    pub(super) fn read(&self, store: &Store, lease: &Lease) -> Result<Found, String> {
        let Some((descriptor, mut bytes)) = self.manifest(None)? else {
            return Ok(Found::Nothing);
        };
        if matches!(
            descriptor.media_type.as_str(),
            media_type::OCI_INDEX | media_type::DOCKER_LIST
        ) {
            let index: Index = json(&bytes)?;
            if index
                .manifests
                .iter()
                .any(|child| child.media_type == BUILDKIT_TYPE)
            {
                return Ok(Found::BuildKit);
            }
            let host = Platform::host();
            let child = index.manifests.iter().find(|child| {
                let platform = child.platform.as_ref();
                platform.is_some_and(|p| p.os == host.os && p.architecture == host.architecture)
            });
            let Some(child) = child else {
                return Ok(Found::Image(None));
            };
            match self.manifest(Some(&child.digest))? {
                Some((_, child)) => bytes = child,
                None => return Err(format!("manifest {} is missing", child.digest)),
            }
        }
        let manifest: Manifest = json(&bytes)?;
        if manifest.layers.len() > MAX_BLOBS {
            return Err(format!("more than {MAX_BLOBS} blobs"));
        }
        match manifest.config.media_type.as_str() {
            CONFIG_TYPE => {
                let config = self.small(store, lease, &manifest.config, MAX_CONFIG)?;
                Ok(Found::Cache(Contents::read(&config, &manifest.layers)?))
            }
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => {
                let config = self.small(store, lease, &manifest.config, MAX_IMAGE_CONFIG)?;
                let config: ImageConfig = json(&config)?;
                Ok(Found::Image(inline::extract(&config, &manifest.layers)?))
            }
            BUILDKIT_TYPE => Ok(Found::BuildKit),
            other => Err(format!("a manifest with a config of type {other:?} is no cache")),
        }
    }

    fn manifest(&self, digest: Option<&Digest>) -> Result<Option<(Descriptor, Vec<u8>)>, String> {
        match self {
            Self::Registry { name, registries } => match digest {
                None => registries.manifest(name),
                Some(digest) => registries.manifest(&ImageRef {
                    repo: name.repo.clone(),
                    tag: None,
                    digest: Some(digest.clone()),
                }),
            },
            Self::Layout { path, tag } => match Layout::open(path)? {
                None => Ok(None),
                Some(layout) => {
                    let digest = digest.map(ToString::to_string);
                    layout.manifest(digest.as_deref().unwrap_or(tag))
                }
            },
        }
    }

    fn small(&self, store: &Store, lease: &Lease, blob: &Descriptor, limit: u64) -> Result<Vec<u8>, String> {
        if blob.size > limit {
            return Err(format!(
                "its config has {} bytes, at most {limit} are read",
                blob.size
            ));
        }
        self.fetch(store, lease, blob)?;
        store
            .read_blob(&blob.digest, limit)
            .map_err(|error| error.to_string())
    }

    /// Fetches a blob into the store, verified; `lease` keeps it.
    pub(super) fn fetch(&self, store: &Store, lease: &Lease, blob: &Descriptor) -> Result<(), String> {
        match self {
            Self::Registry { name, registries } => {
                lease.blob(&blob.digest).map_err(|error| error.to_string())?;
                registries.blob(name, blob)
            }
            Self::Layout { path, .. } => match Layout::open(path)? {
                Some(layout) => layout.fetch(store, lease, blob),
                None => Err(format!("{} is gone", path.display())),
            },
        }
    }
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
