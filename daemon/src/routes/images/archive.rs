//! `docker save` and `docker load`.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use cooper_registry::archive::{self, Loaded};

use super::inspect::find;
use crate::api::Message;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::body::{BodyReader, BodyWriter};
use crate::http::lines::Lines;
use crate::http::query::Query;

pub(super) async fn get_many(State(engine): State<Engine>, query: Query) -> ApiResult {
    let names: Vec<String> = query
        .all("names")
        .flat_map(|names| names.split(','))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(ApiError::bad("no image was named"));
    }
    get(engine, names, &query).await
}

pub(super) async fn get(engine: Engine, names: Vec<String>, query: &Query) -> ApiResult {
    if query.non_empty("platform").is_some() {
        return Err(ApiError::unavailable("saving one platform of an image"));
    }
    let images = engine
        .blocking(move |engine| {
            let mut images = Vec::new();
            for text in names {
                let image = find(engine, &text)?;
                // An id saves the image without names, a name with that one only.
                let id = image.id.to_string();
                let is_id = id.starts_with(&text)
                    || id.split_once(':').is_some_and(|(_, hex)| hex.starts_with(&text));
                let wanted = text.parse::<cooper_registry::reference::ImageRef>().ok();
                let chosen = image.names.iter().filter(|name| {
                    wanted
                        .as_ref()
                        .is_some_and(|wanted| wanted.repo == name.repo && wanted.tag_or_latest() == name.tag)
                });
                let chosen: Vec<_> = chosen.cloned().collect();
                let chosen = if is_id { Vec::new() } else { chosen };
                images.push((image, chosen));
            }
            Ok(images)
        })
        .await?;
    let (mut writer, body) = BodyWriter::new();
    tokio::spawn(async move {
        let saved = engine
            .waiting(move |engine| {
                let mut buffered = std::io::BufWriter::with_capacity(256 << 10, &mut writer);
                let result = archive::save(engine.store()?, &images, &mut buffered).map_err(ApiError::from);
                let flushed = std::io::Write::flush(&mut buffered);
                drop(buffered);
                if let Err(error) = &result {
                    writer.fail(&error.message);
                }
                flushed
                    .map_err(|error| ApiError::internal(error.to_string()))
                    .and(result)
            })
            .await;
        if let Err(error) = saved {
            tracing::debug!(error = error.message, "saving images ended early");
        }
    });
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, "application/x-tar")],
        body,
    )
        .into_response())
}

pub(super) async fn load(State(engine): State<Engine>, query: Query, body: Body) -> ApiResult {
    if query.non_empty("platform").is_some() {
        return Err(ApiError::unavailable("loading one platform of an image"));
    }
    let mut reader = BodyReader::new(body);
    let (lines, answer) = Lines::channel();
    tokio::spawn(async move {
        let report = lines.clone();
        let loaded = engine
            .waiting(move |engine| {
                for loaded in archive::load(engine.store()?, &mut reader)? {
                    let text = match loaded {
                        Loaded::Name(name) => {
                            engine.tell_named("load", &name);
                            format!("Loaded image: {}\n", name.familiar())
                        }
                        Loaded::Id(id) => format!("Loaded image ID: {id}\n"),
                    };
                    lines.send_blocking(Message::stream(text));
                }
                Ok(())
            })
            .await;
        if let Err(error) = loaded {
            report.fail(error).await;
        }
    });
    Ok(answer.response().await)
}
