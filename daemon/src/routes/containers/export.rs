//! `GET /containers/{id}/export`.

use axum::extract::{Path, State};
use cooper_registry::store::live;

use super::stream;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};

pub(super) async fn export(State(engine): State<Engine>, Path(name): Path<String>) -> ApiResult {
    let files = engine
        .waiting(move |engine| {
            let id = engine.resolve_container(&name)?;
            let files = engine.containers()?.root_files(&id)?;
            engine.containers()?.tell(&id, "export", &[]);
            Ok(files)
        })
        .await?;
    let root = files
        .root()
        .try_clone_to_owned()
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(stream::archive(
        engine,
        "application/octet-stream",
        None,
        move |to| {
            let packed = live::pack_directory(root, None, to);
            drop(files);
            packed
        },
    ))
}
