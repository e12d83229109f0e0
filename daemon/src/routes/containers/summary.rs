//! A container as an entry of the list.

use std::collections::BTreeMap;

use cooper_runner::container::State;
use jiff::Timestamp;

use super::status::{status_name, status_text};
use crate::api::{self, ContainerSummary, EndpointSettings, SummaryHostConfig, SummaryNetworkSettings};
use crate::engine::{Engine, Metadata, disk_bytes};
use crate::error::ApiResult;
use crate::routes::networks::network_id;

/// Which image a name means now, looked up once per name and request.
pub(crate) struct ImageNames<'e> {
    engine: &'e Engine,
    ids: BTreeMap<String, Option<String>>,
}

impl<'e> ImageNames<'e> {
    pub(crate) fn new(engine: &'e Engine) -> Self {
        Self {
            engine,
            ids: BTreeMap::new(),
        }
    }

    /// The id that `name` stands for, if any.
    pub(crate) fn id(&mut self, name: &str) -> Option<String> {
        if let Some(known) = self.ids.get(name) {
            return known.clone();
        }
        let id = self.engine.image(name).ok().map(|image| image.id.to_string());
        self.ids.insert(name.to_owned(), id.clone());
        id
    }
}

pub(crate) fn summarise(
    engine: &Engine,
    metadata: &Metadata,
    state: &State,
    names: &mut ImageNames<'_>,
) -> ApiResult<ContainerSummary> {
    let name = engine.containers()?.name(&metadata.id)?;
    // A name that was moved to another image would mislead.
    let image = match names.id(&metadata.config.image) {
        Some(id) if id == metadata.image_id => metadata.config.image.clone(),
        _ => metadata.image_id.clone(),
    };
    let mode = metadata.host_config.network_mode.clone();
    Ok(ContainerSummary {
        id: metadata.id.clone(),
        names: vec![format!("/{name}")],
        image,
        image_id: metadata.image_id.clone(),
        command: command_line(&metadata.config),
        created: api::unix_seconds(&metadata.created),
        ports: Vec::new(),
        size_rw: None,
        size_root_fs: None,
        labels: metadata.config.labels.clone(),
        state: status_name(state.status).to_owned(),
        status: status_text(state, engine.health(&metadata.id)?.as_ref(), Timestamp::now()),
        network_settings: SummaryNetworkSettings {
            networks: endpoints(&mode),
        },
        host_config: SummaryHostConfig { network_mode: mode },
        mounts: metadata.mounts.clone(),
    })
}

/// Adds `SizeRw` and `SizeRootFs`; walks the container's files.
pub(crate) fn add_sizes(engine: &Engine, metadata: &Metadata, entry: &mut ContainerSummary) -> ApiResult<()> {
    let (own, all) = sizes(engine, metadata)?;
    // `omitempty` of a number leaves out zero.
    entry.size_rw = Some(own).filter(|size| *size != 0);
    entry.size_root_fs = Some(all);
    Ok(())
}

/// Bytes of the writable layer, and of it and the image together.
pub(crate) fn sizes(engine: &Engine, metadata: &Metadata) -> ApiResult<(i64, i64)> {
    let upper = engine.containers()?.dir(&metadata.id).join("upper");
    let own = i64::try_from(disk_bytes(&upper)).unwrap_or(i64::MAX);
    let image = match engine.image(&metadata.image_id) {
        Ok(image) => crate::routes::images::list::image_size(engine, &image)?,
        Err(_) => 0,
    };
    Ok((own, own.saturating_add(image)))
}

/// The network a container is in, as an endpoint without addresses.
pub(crate) fn endpoints(mode: &str) -> BTreeMap<String, EndpointSettings> {
    let endpoint = EndpointSettings {
        network_id: network_id(mode),
        ..EndpointSettings::default()
    };
    [(mode.to_owned(), endpoint)].into()
}

/// Program and arguments, those with blanks in single quotes as Docker prints them.
fn command_line(config: &api::ContainerConfig) -> String {
    let words = config.entrypoint.iter().chain(&config.cmd).flatten();
    let quote = |(index, word): (usize, &String)| {
        if index > 0 && word.contains(' ') {
            format!("'{word}'")
        } else {
            word.clone()
        }
    };
    words.enumerate().map(quote).collect::<Vec<_>>().join(" ")
}
