//! Inspect and history.

use axum::http::StatusCode;
use cooper_registry::store::Image;

use super::list::{image_size, repo_digests, repo_tags};
use crate::api;
use crate::engine::Engine;
use crate::error::{ApiResult, json};

/// A reference that cannot be one is a bad request, not a missing image.
pub(super) fn find(engine: &Engine, name: &str) -> ApiResult<Image> {
    let hex = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if !hex && !name.starts_with("sha256:") && !name.starts_with("sha512:") {
        name.parse::<cooper_registry::reference::ImageRef>()?;
    }
    engine.image(name)
}

pub(super) async fn inspect(engine: Engine, name: String) -> ApiResult {
    engine
        .blocking(move |engine| Ok(json(StatusCode::OK, &describe(engine, find(engine, &name)?)?)))
        .await
}

fn describe(engine: &Engine, image: Image) -> ApiResult<api::ImageInspect> {
    let stored = jiff::Timestamp::from_second(image.stored_at).map(|time| time.to_string());
    let upper = match image.config.rootfs.diff_ids.last() {
        Some(diff_id) => engine
            .store()?
            .layer(diff_id)?
            .map(|layer| layer.tree.display().to_string()),
        None => None,
    };
    let comment = image
        .config
        .history
        .last()
        .map(|step| step.comment.clone())
        .unwrap_or_default();
    Ok(api::ImageInspect {
        id: image.id.to_string(),
        repo_tags: repo_tags(&image),
        repo_digests: repo_digests(&image),
        comment,
        created: image
            .config
            .created
            .clone()
            .unwrap_or_else(|| api::ZERO_TIME.to_owned()),
        author: image.config.author.clone().unwrap_or_default(),
        architecture: image.config.architecture.clone(),
        variant: image.config.variant.clone().unwrap_or_default(),
        os: image.config.os.clone(),
        size: image_size(engine, &image)?,
        graph_driver: api::GraphDriver {
            data: upper
                .into_iter()
                .map(|path| ("UpperDir".to_owned(), path))
                .collect(),
            name: "overlay2".to_owned(),
        },
        root_fs: api::ImageRootFs {
            kind: "layers".to_owned(),
            layers: image
                .config
                .rootfs
                .diff_ids
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        metadata: api::ImageMetadata {
            last_tag_time: stored.unwrap_or_else(|_| api::ZERO_TIME.to_owned()),
        },
        config: image.config.config,
        ..api::ImageInspect::default()
    })
}

pub(super) async fn history(engine: Engine, name: String) -> ApiResult {
    engine
        .blocking(move |engine| {
            let image = find(engine, &name)?;
            Ok(json(StatusCode::OK, &steps(engine, &image)?))
        })
        .await
}

/// Newest first; only the newest has an id, because the steps before it are no images of their own.
fn steps(engine: &Engine, image: &Image) -> ApiResult<Vec<api::HistoryItem>> {
    let store = engine.store()?;
    let mut layers = image.config.rootfs.diff_ids.iter();
    let mut items = Vec::with_capacity(image.config.history.len());
    for step in &image.config.history {
        let layer = if step.empty_layer { None } else { layers.next() };
        let size = match layer {
            Some(diff_id) => store.layer(diff_id)?.map_or(0, |layer| layer.size),
            None => 0,
        };
        items.push(api::HistoryItem {
            comment: step.comment.clone(),
            created: step.created.as_deref().map_or(0, api::unix_seconds),
            created_by: step.created_by.clone(),
            id: "<missing>".to_owned(),
            size: i64::try_from(size).unwrap_or(i64::MAX),
            tags: None,
        });
    }
    if let Some(newest) = items.last_mut() {
        newest.id = image.id.to_string();
        newest.tags = Some(repo_tags(image)).filter(|tags| !tags.is_empty());
    }
    items.reverse();
    Ok(items)
}
