//! `POST /images/create`: pulls (`fromImage`) or imports a root file system (`fromSrc=-`).

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use cooper_registry::oci::{History, ImageConfig, Platform, RootFs, RunConfig};
use cooper_registry::reference::{ImageRef, Tag};

use super::changes::apply;
use super::tag::target;
use super::transfer;
use crate::api::Message;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::body::BodyReader;
use crate::http::lines::Lines;
use crate::http::query::Query;

pub(super) async fn create(
    State(engine): State<Engine>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let platform = platform(query.get("platform"))?;
    match (query.non_empty("fromImage"), query.non_empty("fromSrc")) {
        (Some(image), _) => {
            transfer::pull(engine, pulled_name(image, query.get("tag"))?, platform, &headers).await
        }
        (None, Some("-")) => import(engine, &query, platform, body).await,
        (None, Some(_)) => Err(ApiError::unavailable(
            "importing from a URL (send the archive with fromSrc=-)",
        )),
        (None, None) => Err(ApiError::bad("neither fromImage nor fromSrc was given")),
    }
}

/// `os/architecture[/variant]`; parts that are missing are the host's.
fn platform(text: &str) -> ApiResult<Platform> {
    let mut platform = Platform::host();
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    let known = |part: &str| {
        part.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if !parts.iter().all(|part| known(part)) {
        return Err(ApiError::bad(format!("{text:?} is an invalid platform")));
    }
    match parts.as_slice() {
        [] | ["linux"] => {}
        [architecture] => platform.architecture = (*architecture).to_owned(),
        [os, architecture, rest @ ..] if rest.len() < 2 => {
            platform.os = (*os).to_owned();
            platform.architecture = (*architecture).to_owned();
            platform.variant = rest.first().map(|variant| (*variant).to_owned());
        }
        _ => return Err(ApiError::bad(format!("{text:?} is an invalid platform"))),
    }
    Ok(platform)
}

/// The `tag` parameter may be a tag or a digest.
fn pulled_name(image: &str, tag: &str) -> ApiResult<ImageRef> {
    let mut name: ImageRef = image.parse()?;
    if tag.contains(':') {
        name.digest = Some(
            tag.parse()
                .map_err(|_| ApiError::bad("invalid reference format"))?,
        );
        name.tag = None;
    } else if !tag.is_empty() {
        name.tag = Some(tag.parse()?);
    }
    if name.tag.is_none() && name.digest.is_none() {
        name.tag = Some(Tag::latest());
    }
    Ok(name)
}

async fn import(engine: Engine, query: &Query, platform: Platform, body: Body) -> ApiResult {
    let name = query
        .non_empty("repo")
        .map(|repo| target(repo, query.get("tag")))
        .transpose()?;
    let mut config = RunConfig::default();
    for change in query
        .all("changes")
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty())
    {
        apply(&mut config, change)?;
    }
    let message = query.non_empty("message").unwrap_or("Imported from -").to_owned();
    let mut reader = BodyReader::new(body);
    let (lines, answer) = Lines::channel();
    tokio::spawn(async move {
        let report = lines.clone();
        let imported = engine
            .waiting(move |engine| {
                let store = engine.store()?;
                let lease = store.lease()?;
                let layer = store.import_layer(&mut reader)?;
                lease.layer(&layer.diff_id)?;
                let created = Some(format!("{:.9}", jiff::Timestamp::now()));
                let image = ImageConfig {
                    architecture: platform.architecture,
                    os: platform.os,
                    os_version: None,
                    variant: platform.variant,
                    author: None,
                    created: created.clone(),
                    config,
                    rootfs: RootFs {
                        kind: "layers".to_owned(),
                        diff_ids: vec![layer.diff_id.clone()],
                    },
                    history: vec![History {
                        created,
                        comment: message,
                        ..History::default()
                    }],
                    inline_cache: None,
                };
                let names: Vec<ImageRef> = name.into_iter().collect();
                let id = store.put_image(&image, &[store.layer_descriptor(&layer)], &names)?;
                engine.tell_image("import", &id, names.first());
                lines.send_blocking(Message::status(id.to_string()));
                Ok(())
            })
            .await;
        if let Err(error) = imported {
            report.fail(error).await;
        }
    });
    Ok(answer.response().await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_pull() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (image, tag, expected) in [
            ("busybox", "", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1", "", "docker.io/library/busybox:1".to_owned()),
            ("busybox", "2", "docker.io/library/busybox:2".to_owned()),
            ("busybox", &digest, format!("docker.io/library/busybox@{digest}")),
        ] {
            assert_eq!(pulled_name(image, tag).unwrap().to_string(), expected);
        }
        assert!(pulled_name("Bad", "").is_err());
    }

    #[test]
    fn platforms() {
        assert_eq!(platform("").unwrap(), Platform::host());
        let arm = platform("linux/arm/v7").unwrap();
        assert_eq!(
            (arm.architecture.as_str(), arm.variant.as_deref()),
            ("arm", Some("v7"))
        );
        for bad in ["a/b/c/d", "linux/../x"] {
            assert!(platform(bad).is_err(), "{bad}");
        }
    }
}
