//! Containers as routes need them: looked up by what people type, with the engine's metadata, pinned in the store.

use cooper_registry::store::{GcOptions, GcReport, Image};
use cooper_runner::container::{self, State};

use super::{Engine, METADATA_FILE, Metadata};
use crate::error::{ApiError, ApiResult};

/// `config.json` is written by us; a larger one is not ours.
const METADATA_LIMIT: u64 = 4 << 20;
/// Prefix of the named lease that pins a container's image.
const LEASE_PREFIX: &str = "container/";

impl Engine {
    /// Id for a name, an id or a unique prefix of one.
    pub(crate) fn resolve_container(&self, text: &str) -> ApiResult<String> {
        let text = text.strip_prefix('/').unwrap_or(text);
        self.containers()?.resolve(text).map_err(|error| match error {
            container::Error::NotFound(_) => ApiError::no_such_container(text),
            other => other.into(),
        })
    }

    pub(crate) fn metadata(&self, id: &str) -> ApiResult<Metadata> {
        use std::io::Read as _;
        let path = self.containers()?.dir(id).join(METADATA_FILE);
        let failed =
            |error: &dyn std::fmt::Display| ApiError::internal(format!("{}: {error}", path.display()));
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ApiError::no_such_container(id));
            }
            Err(error) => return Err(failed(&error)),
        };
        let mut bytes = Vec::new();
        file.take(METADATA_LIMIT)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(&error))?;
        let mut metadata = Metadata::decode(&bytes).map_err(|error| failed(&error))?;
        let changed = self.containers()?.overrides(id)?.engine;
        if !changed.is_null() {
            metadata.host_config = serde_json::from_value(changed).map_err(|error| failed(&error))?;
        }
        Ok(metadata)
    }

    /// A container's health, if it has a check.
    pub(crate) fn health(&self, id: &str) -> ApiResult<Option<container::Health>> {
        Ok(self.containers()?.health(id)?)
    }

    /// Every container with metadata and state; those that vanish meanwhile are left out.
    pub(crate) fn all_containers(&self) -> ApiResult<Vec<(Metadata, State)>> {
        let mut all = Vec::new();
        for id in self.containers()?.list()? {
            let (metadata, state) = match (self.metadata(&id), self.containers()?.state(&id)) {
                (Ok(metadata), Ok(state)) => (metadata, state),
                (Err(error), _) if error.status == axum::http::StatusCode::NOT_FOUND => continue,
                (_, Err(container::Error::NotFound(_))) => continue,
                (Err(error), _) => {
                    tracing::warn!(
                        id,
                        error = error.message,
                        "leaving out a container with unusable metadata"
                    );
                    continue;
                }
                (_, Err(error)) => {
                    tracing::warn!(id, %error, "leaving out a container with unusable state");
                    continue;
                }
            };
            all.push((metadata, state));
        }
        Ok(all)
    }

    /// An image by what people type, with Docker's wording when there is none.
    pub(crate) fn image(&self, text: &str) -> ApiResult<Image> {
        self.store()?.image(text).map_err(|error| match error {
            cooper_registry::store::Error::NoSuchImage(_) => ApiError::no_such_image(&with_default_tag(text)),
            other => other.into(),
        })
    }

    /// Pins the image's manifest and layers for as long as the container exists.
    pub(crate) fn pin_image(&self, id: &str, image: &Image) -> ApiResult<()> {
        let lease = self.store()?.lease_named(&format!("{LEASE_PREFIX}{id}"))?;
        lease.manifest(&image.id)?;
        lease.manifest(&image.manifest_digest)?;
        for diff_id in &image.config.rootfs.diff_ids {
            lease.layer(diff_id)?;
        }
        Ok(())
    }

    pub(crate) fn unpin_image(&self, id: &str) -> ApiResult<()> {
        Ok(self.store()?.release_named(&format!("{LEASE_PREFIX}{id}"))?)
    }

    /// Removes a container and its pin.
    pub(crate) fn remove_container(&self, id: &str, force: bool) -> ApiResult<()> {
        self.containers()?.remove(id, force)?;
        self.unpin_image(id)
    }

    /// Pins what existing containers use once more: pins are written without waiting for the disk, so a power cut may
    /// have taken one whose container is there. Goes before every collection.
    pub(crate) fn renew_pins(&self) -> ApiResult<()> {
        for (metadata, _) in self.all_containers()? {
            if let Ok(image) = self.store()?.image(&metadata.image_id) {
                self.pin_image(&metadata.id, &image)?;
            }
        }
        Ok(())
    }

    /// Collects garbage; pins of containers that removed themselves (`--rm`) are dropped on the way.
    pub(crate) fn collect(&self, options: &GcOptions) -> ApiResult<GcReport> {
        self.renew_pins()?;
        let containers = self.containers()?;
        let alive = |name: &str| {
            name.strip_prefix(LEASE_PREFIX)
                .is_none_or(|id| containers.dir(id).exists())
        };
        Ok(self.store()?.gc(options, &alive)?)
    }
}

/// `nope` as Docker names it in errors: `nope:latest`.
fn with_default_tag(text: &str) -> String {
    match text.parse::<cooper_registry::reference::ImageRef>() {
        Ok(name) => match (&name.tag, name.tag_or_latest()) {
            (None, Some(tag)) => format!("{}:{tag}", name.familiar()),
            _ => name.familiar(),
        },
        Err(_) => text.to_owned(),
    }
}

/// Whether a process of the container exists.
pub(crate) fn is_running(state: &State) -> bool {
    state.is_running()
}
