//! `GET /images/json`.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Image;

use crate::api::{self, ImageSummary};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::filters::Filters;
use crate::http::query::Query;
use crate::http::version::{ApiVersion, NO_VIRTUAL_SIZE_SINCE};
use crate::routes::containers::prune_until;

pub(super) async fn list(
    State(engine): State<Engine>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> ApiResult {
    let filters = Filters::parse(
        &query,
        &[
            "before",
            "dangling",
            "label",
            "label!",
            "reference",
            "since",
            "until",
        ],
    )?;
    let dangling = filters.flag("dangling")?;
    let until = prune_until(&filters)?;
    engine
        .blocking(move |engine| {
            let bound = |key: &str| -> ApiResult<Option<i64>> {
                filters
                    .values(key)
                    .first()
                    .map(|name| Ok(created(&engine.image(name)?)))
                    .transpose()
            };
            let (before, since) = (bound("before")?, bound("since")?);
            let mut images = engine.store()?.images()?;
            images.retain(|image| {
                let created = created(image);
                let labels = image.config.config.labels.clone().unwrap_or_default();
                dangling.is_none_or(|dangling| image.names.is_empty() == dangling)
                    && before.is_none_or(|bound| created < bound)
                    && since.is_none_or(|bound| created > bound)
                    && until.is_none_or(|bound| created < bound)
                    && filters.labels(&labels)
            });
            for image in &mut images {
                image
                    .names
                    .retain(|name| filters.any("reference", |pattern| matches_reference(name, pattern)));
            }
            if !filters.values("reference").is_empty() {
                images.retain(|image| !image.names.is_empty());
            }
            images.sort_by_key(|image| std::cmp::Reverse(created(image)));
            let mut summaries = summaries(engine, &images)?;
            for_version(&mut summaries, version);
            Ok(json(StatusCode::OK, &summaries))
        })
        .await
}

/// When the image was made, in unix seconds.
pub(super) fn created(image: &Image) -> i64 {
    image.config.created.as_deref().map_or(0, api::unix_seconds)
}

/// List entries, without counting containers.
pub(crate) fn summaries(engine: &Engine, images: &[Image]) -> ApiResult<Vec<ImageSummary>> {
    images.iter().map(|image| summary(engine, image)).collect()
}

/// Adds what clients of an old version read instead of `Size`.
pub(crate) fn for_version(summaries: &mut [ImageSummary], version: ApiVersion) {
    if version < NO_VIRTUAL_SIZE_SINCE {
        for summary in summaries {
            summary.virtual_size = Some(summary.size);
        }
    }
}

fn summary(engine: &Engine, image: &Image) -> ApiResult<ImageSummary> {
    Ok(ImageSummary {
        containers: -1,
        created: created(image),
        id: image.id.to_string(),
        labels: image.config.config.labels.clone(),
        parent_id: String::new(),
        repo_digests: repo_digests(image),
        repo_tags: repo_tags(image),
        shared_size: -1,
        size: image_size(engine, image)?,
        virtual_size: None,
    })
}

/// Names with tags in their short form.
pub(super) fn repo_tags(image: &Image) -> Vec<String> {
    image
        .names
        .iter()
        .filter(|name| name.tag.is_some())
        .map(ImageRef::familiar)
        .collect()
}

/// `repository@digest`, one for each repository.
pub(super) fn repo_digests(image: &Image) -> Vec<String> {
    let mut digests: Vec<String> = image
        .names
        .iter()
        .map(|name| format!("{}@{}", name.repo.familiar(), image.id))
        .collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Bytes of the layers: unpacked where they are, as stored otherwise.
pub(crate) fn image_size(engine: &Engine, image: &Image) -> ApiResult<i64> {
    let store = engine.store()?;
    let mut total: u64 = 0;
    for (index, diff_id) in image.config.rootfs.diff_ids.iter().enumerate() {
        let size = match store.layer(diff_id)? {
            Some(layer) => layer.size,
            None => image.manifest.layers.get(index).map_or(0, |layer| layer.size),
        };
        total = total.saturating_add(size);
    }
    i64::try_from(total).map_err(|_| ApiError::internal("image size overflows"))
}

/// Docker's rule: the pattern is a path pattern (`*` stays within a component) for the short name with or without tag.
fn matches_reference(name: &ImageRef, pattern: &str) -> bool {
    let full = name.familiar();
    glob(pattern.as_bytes(), full.as_bytes()) || glob(pattern.as_bytes(), name.repo.familiar().as_bytes())
}

/// `*` and `?`, neither of which takes a slash.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') if text[t] != b'/' => {
                p += 1;
                t += 1;
                continue;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        match star {
            Some((at, taken)) if text[taken] != b'/' => {
                star = Some((at, taken + 1));
                p = at + 1;
                t = taken + 1;
            }
            _ => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_match_patterns() {
        for (name, pattern, expected) in [
            ("busybox:latest", "busybox", true),
            ("busybox:latest", "busy*", true),
            ("busybox:latest", "busybox:l*t", true),
            ("user/app:1", "*", false),
            ("user/app:1", "*/*", true),
            ("user/app:1", "user/a?p:1", true),
            ("busybox:latest", "box", false),
        ] {
            assert_eq!(
                matches_reference(&name.parse().unwrap(), pattern),
                expected,
                "{name} {pattern}"
            );
        }
    }
}
