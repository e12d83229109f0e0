//! `DELETE /images/{name}`: removes a name, and the image with its last one (moby `daemon/images/image_delete.go`).

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cooper_registry::reference::{ImageRef, Tag};
use cooper_registry::store::Image;

use super::inspect::find;
use crate::api::DeletedImage;
use crate::engine::{Engine, is_running};
use crate::error::{ApiError, ApiResult, json};
use crate::http::query::Query;

pub(super) async fn delete(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    query: Query,
) -> ApiResult {
    let force = query.flag("force");
    engine
        .blocking(move |engine| Ok(json(StatusCode::OK, &remove(engine, &name, force)?)))
        .await
}

/// A container made from the image.
struct User {
    id: String,
    running: bool,
}

fn users(engine: &Engine, image: &Image) -> ApiResult<Vec<User>> {
    let id = image.id.to_string();
    let all = engine
        .all_containers()?
        .into_iter()
        .filter(|(metadata, _)| metadata.image_id == id);
    Ok(all
        .map(|(metadata, state)| User {
            id: metadata.id,
            running: is_running(&state),
        })
        .collect())
}

fn short(id: &str) -> &str {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex)
}

fn remove(engine: &Engine, text: &str, force: bool) -> ApiResult<Vec<DeletedImage>> {
    let image = find(engine, text)?;
    let users = users(engine, &image)?;
    let mut answer = Vec::new();
    let untagged = |name: &ImageRef| DeletedImage {
        untagged: name.familiar(),
        ..DeletedImage::default()
    };
    if let Some(name) = named(&image, text)? {
        if let (Some(user), false, true) = (users.first(), force, image.names.len() <= 1) {
            return Err(ApiError::conflict(format!(
                "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its \
                 referenced image {}",
                short(&user.id),
                short(&image.id.to_string())
            )));
        }
        engine.store()?.untag_image(&name)?;
        engine.tell_image("untag", &image.id, Some(&name));
        answer.push(untagged(&name));
        // Used images stay without a name until their last container goes.
        if image.names.len() > 1 || !users.is_empty() {
            return Ok(answer);
        }
    } else {
        check_unused(&image, &users, force)?;
        for name in &image.names {
            engine.store()?.untag_image(name)?;
            engine.tell_image("untag", &image.id, Some(name));
            answer.push(untagged(name));
        }
        if !users.is_empty() {
            return Ok(answer);
        }
    }
    engine.renew_pins()?;
    let report = engine.store()?.delete_image(&image.id)?;
    engine.tell_image("delete", &image.id, None);
    answer.push(DeletedImage {
        deleted: image.id.to_string(),
        ..DeletedImage::default()
    });
    let others = report.deleted.iter().filter(|digest| **digest != image.id);
    answer.extend(others.map(|digest| DeletedImage {
        deleted: digest.to_string(),
        ..DeletedImage::default()
    }));
    Ok(answer)
}

/// The image's name that `text` means; `None` when it is an id.
fn named(image: &Image, text: &str) -> ApiResult<Option<ImageRef>> {
    let id = image.id.to_string();
    if id.starts_with(text) || id.split_once(':').is_some_and(|(_, hex)| hex.starts_with(text)) {
        // A name may look like the beginning of an id; names win, as everywhere.
        let is_name = text
            .parse::<ImageRef>()
            .is_ok_and(|name| image.names.contains(&with_tag(name)));
        if !is_name {
            return Ok(None);
        }
    }
    let wanted = text.parse::<ImageRef>()?;
    if wanted.digest.is_some() && wanted.tag.is_none() {
        return Ok(None);
    }
    let wanted = with_tag(wanted);
    Ok(image
        .names
        .iter()
        .find(|name| name.repo == wanted.repo && name.tag == wanted.tag)
        .cloned())
}

fn with_tag(mut name: ImageRef) -> ImageRef {
    if name.tag.is_none() && name.digest.is_none() {
        name.tag = Some(Tag::latest());
    }
    name
}

fn check_unused(image: &Image, users: &[User], force: bool) -> ApiResult<()> {
    let id = image.id.to_string();
    let id = short(&id);
    if let Some(user) = users.iter().find(|user| user.running) {
        return Err(ApiError::conflict(format!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {}",
            short(&user.id)
        )));
    }
    if force {
        return Ok(());
    }
    let mut repositories: Vec<_> = image.names.iter().map(|name| &name.repo).collect();
    repositories.sort();
    repositories.dedup();
    if repositories.len() > 1 || image.names.len() > 1 {
        return Err(ApiError::conflict(format!(
            "conflict: unable to delete {id} (must be forced) - image is referenced in multiple repositories"
        )));
    }
    match users.first() {
        Some(user) => Err(ApiError::conflict(format!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped container {}",
            short(&user.id)
        ))),
        None => Ok(()),
    }
}
