//! `GET /containers/{id}/changes`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cooper_runner::container::ChangeKind;

use crate::api::FilesystemChange;
use crate::engine::Engine;
use crate::error::{ApiResult, json};

pub(super) async fn changes(State(engine): State<Engine>, Path(name): Path<String>) -> ApiResult {
    engine
        .blocking(move |engine| {
            let id = engine.resolve_container(&name)?;
            let changes = engine.containers()?.changes(&id)?;
            let changes: Vec<FilesystemChange> = changes
                .iter()
                .map(|change| FilesystemChange {
                    path: format!("/{}", change.path.to_string_lossy()),
                    kind: match change.kind {
                        ChangeKind::Modified => 0,
                        ChangeKind::Added => 1,
                        ChangeKind::Deleted => 2,
                    },
                })
                .collect();
            // Docker's answer without changes is null.
            Ok(json(
                StatusCode::OK,
                &Some(changes).filter(|changes| !changes.is_empty()),
            ))
        })
        .await
}
