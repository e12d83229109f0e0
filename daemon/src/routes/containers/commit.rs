//! `POST /commit`: an image from what a container has changed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use cooper_registry::oci::{History, ImageConfig, RunConfig};
use cooper_registry::reference::ImageRef;
use cooper_runner::container::Status;

use crate::api::{ContainerConfig, IdResponse};
use crate::engine::{Engine, Metadata};
use crate::error::{ApiError, ApiResult, json};
use crate::http::body;
use crate::http::query::Query;
use crate::routes::images::{apply_change, target};
use crate::translate::merge_image_config;

/// What was asked for.
struct Order {
    name: Option<ImageRef>,
    author: Option<String>,
    comment: String,
    pause: bool,
    changes: Vec<String>,
    config: Option<ContainerConfig>,
}

pub(super) async fn commit(
    State(engine): State<Engine>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let container = query.get("container").to_owned();
    if container.is_empty() {
        return Err(ApiError::bad("invalid name or ID supplied: \"\""));
    }
    let name = query
        .non_empty("repo")
        .map(|repo| target(repo, query.get("tag")))
        .transpose()?;
    let changes = query.all("changes").flat_map(str::lines);
    let order = Order {
        name,
        author: query.non_empty("author").map(str::to_owned),
        comment: query.get("comment").to_owned(),
        pause: query.non_empty("pause").is_none() || query.flag("pause"),
        changes: changes
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect(),
        config: body::optional_json(&headers, body).await?,
    };
    let id = engine
        .waiting(move |engine| make_image(engine, &container, &order))
        .await?;
    Ok(json(StatusCode::CREATED, &IdResponse { id }))
}

fn make_image(engine: &Engine, container: &str, order: &Order) -> ApiResult<String> {
    let id = engine.resolve_container(container)?;
    let metadata = engine.metadata(&id)?;
    let config = config(&metadata, order)?;
    let (store, containers) = (engine.store()?, engine.containers()?);
    let base = store.image(&metadata.image_id)?;
    let lease = store.lease()?;
    for diff_id in &base.config.rootfs.diff_ids {
        lease.layer(diff_id)?;
    }
    let pause = order.pause && containers.state(&id)?.status == Status::Running;
    let paused = pause
        && match containers.pause(&id) {
            Ok(()) => true,
            // It has just ended, or this user may make no groups: then it is copied as it goes.
            Err(error) => {
                tracing::warn!(id, %error, "a container is committed without being paused");
                false
            }
        };
    let copied = copy(engine, &id);
    if paused {
        // Somebody else may have thawed it.
        let _ = containers.unpause(&id);
    }
    let snapshot = copied?;
    let created = Some(format!("{:.9}", jiff::Timestamp::now()));
    let mut image = ImageConfig {
        author: order.author.clone(),
        created: created.clone(),
        config,
        ..base.config.clone()
    };
    let mut layers = base.manifest.layers.clone();
    image.history.push(History {
        created,
        created_by: metadata.config.cmd.clone().unwrap_or_default().join(" "),
        comment: order.comment.clone(),
        author: order.author.clone().unwrap_or_default(),
        empty_layer: snapshot.is_none(),
    });
    if let Some(snapshot) = snapshot {
        let layer = store.commit_snapshot(snapshot, None)?;
        lease.layer(&layer.diff_id)?;
        image.rootfs.diff_ids.push(layer.diff_id.clone());
        layers.push(store.layer_descriptor(&layer));
    }
    let names: Vec<ImageRef> = order.name.iter().cloned().collect();
    let image_id = store.put_image(&image, &layers, &names)?.to_string();
    let reference = order.name.as_ref().map_or_else(String::new, ImageRef::familiar);
    containers.tell(
        &id,
        "commit",
        &[
            ("comment", order.comment.clone()),
            ("imageID", image_id.clone()),
            ("imageRef", reference),
        ],
    );
    Ok(image_id)
}

/// The container's changes as a snapshot; `None` if there are none.
fn copy(engine: &Engine, id: &str) -> ApiResult<Option<cooper_registry::store::Snapshot>> {
    let files = engine.containers()?.writable_files(id)?;
    let changed: BTreeSet<PathBuf> = engine
        .containers()?
        .changes(id)?
        .into_iter()
        .map(|change| change.path)
        .collect();
    if changed.is_empty() {
        return Ok(None);
    }
    let snapshot = engine
        .store()?
        .snapshot_of(files.root(), &|path| changed.contains(path))?;
    Ok(Some(snapshot))
}

/// The container's configuration with the request's and the changes over it.
fn config(metadata: &Metadata, order: &Order) -> ApiResult<RunConfig> {
    let mut config = run_config(&metadata.config);
    if let Some(given) = &order.config {
        let mut given = given.clone();
        merge_image_config(&mut given, &config);
        config = run_config(&given);
    }
    let command = config.cmd.clone();
    let entrypoint = config.entrypoint.clone();
    for change in &order.changes {
        apply_change(&mut config, change)?;
    }
    // As in a Dockerfile, a new entry point takes the old one's arguments with it.
    if config.entrypoint != entrypoint && config.cmd == command {
        config.cmd = None;
    }
    Ok(config)
}

fn run_config(config: &ContainerConfig) -> RunConfig {
    RunConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone(),
        args_escaped: config.args_escaped,
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()).filter(|labels| !labels.is_empty()),
        stop_signal: config.stop_signal.clone(),
        shell: config.shell.clone(),
    }
}
