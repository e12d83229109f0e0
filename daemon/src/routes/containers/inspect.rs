//! `GET /containers/{id}/json`.

use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::status::state_object;
use super::summary::{endpoints, sizes};
use crate::api;
use crate::engine::Engine;
use crate::error::{ApiResult, json};
use crate::http::query::Query;

pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    let size = query.flag("size");
    engine
        .blocking(move |engine| Ok(json(StatusCode::OK, &describe(engine, &name, size)?)))
        .await
}

fn describe(engine: &Engine, name: &str, size: bool) -> ApiResult<api::ContainerInspect> {
    let id = engine.resolve_container(name)?;
    let containers = engine.containers()?;
    let metadata = engine.metadata(&id)?;
    let state = containers.state(&id)?;
    let spec = containers.spec(&id)?;
    let dir = containers.dir(&id);
    let file = |name: &str| dir.join(name).display().to_string();
    let (size_rw, size_root_fs) = match size {
        true => Some(sizes(engine, &metadata)?).unzip(),
        false => (None, None),
    };
    let lowers: Vec<String> = spec
        .rootfs
        .lowers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let data = [
        ("ID", id.clone()),
        ("LowerDir", lowers.join(":")),
        ("UpperDir", spec.rootfs.upper.display().to_string()),
        ("WorkDir", spec.rootfs.work.display().to_string()),
    ];
    let mut args = spec.process.args.iter().cloned();
    let mode = metadata.host_config.network_mode.clone();
    Ok(api::ContainerInspect {
        name: format!("/{}", containers.name(&id)?),
        created: metadata.created,
        path: args.next().unwrap_or_default(),
        args: args.collect(),
        state: state_object(&state, engine.health(&id)?.as_ref()),
        image: metadata.image_id,
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: if spec.log.enabled {
            containers.log_path(&id).display().to_string()
        } else {
            String::new()
        },
        restart_count: state.restart_count.into(),
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        mount_label: String::new(),
        process_label: String::new(),
        app_armor_profile: String::new(),
        exec_ids: None,
        host_config: metadata.host_config,
        graph_driver: api::GraphDriver {
            data: data
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
            name: "overlay2".to_owned(),
        },
        size_rw,
        size_root_fs,
        mounts: metadata.mounts,
        config: metadata.config,
        network_settings: api::NetworkSettings {
            networks: endpoints(&mode),
            ..Default::default()
        },
        id,
    })
}
