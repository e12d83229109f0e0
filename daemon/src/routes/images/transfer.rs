//! Pull and push with Docker's progress lines.
//!
//! The client runs on a thread of its own that the runtime's driver serves: its transfers go on when the request's task
//! is dropped, and its futures need not move between threads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::http::HeaderMap;
use cooper_registry::client::Progress;
use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform};
use cooper_registry::reference::ImageRef;
use tokio::runtime::Handle;

use crate::api::{Message, ProgressDetail};
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult};
use crate::http::auth::registry_auth;
use crate::http::lines::{Lines, progress_bar};
use crate::http::query::Query;

/// Pulls `name`; goes on when the client hangs up, because what is half here would have to be fetched again.
pub(super) async fn pull(
    engine: Engine,
    name: ImageRef,
    platform: Platform,
    headers: &HeaderMap,
) -> ApiResult {
    let credentials = registry_auth(headers);
    let client = engine.blocking(|engine| Ok(engine.client()?)).await?;
    let (lines, answer) = Lines::channel();
    tokio::spawn(async move {
        let known = current(&engine, &name).await;
        let translator = Arc::new(Translator::new(&name, Direction::Pull));
        let report = translator.clone().reporter(lines.clone());
        let (pulled, runtime) = (name.clone(), Handle::current());
        let result = engine
            .waiting(move |engine| {
                let descriptor = runtime.block_on(client.pull(&pulled, &platform, credentials, &*report))?;
                engine.tell_named("pull", &pulled);
                Ok(descriptor)
            })
            .await;
        match result {
            Ok(descriptor) => {
                for line in translator.finish() {
                    lines.send(line).await;
                }
                lines
                    .send(Message::status(format!("Digest: {}", descriptor.digest)))
                    .await;
                let status = match known {
                    Some(known) if known == descriptor.digest => "Image is up to date",
                    _ => "Downloaded newer image",
                };
                lines
                    .send(Message::status(format!(
                        "Status: {status} for {}",
                        name.familiar()
                    )))
                    .await;
            }
            Err(error) => lines.fail(error).await,
        }
    });
    Ok(answer.response().await)
}

async fn current(engine: &Engine, name: &ImageRef) -> Option<Digest> {
    let name = name.to_string();
    engine
        .blocking(move |engine| Ok(engine.image(&name)?.id))
        .await
        .ok()
}

pub(super) async fn push(engine: Engine, name: String, query: &Query, headers: &HeaderMap) -> ApiResult {
    let mut name: ImageRef = name.parse()?;
    if name.digest.is_some() {
        return Err(ApiError::bad("cannot push a digest reference"));
    }
    if query.non_empty("platform").is_some() {
        return Err(ApiError::unavailable("pushing one platform of an image"));
    }
    if let Some(tag) = query.non_empty("tag") {
        name.tag = Some(tag.parse()?);
    }
    name.tag = name.tag_or_latest();
    let credentials = registry_auth(headers);
    let client = engine.blocking(|engine| Ok(engine.client()?)).await?;
    let (lines, answer) = Lines::channel();
    tokio::spawn(async move {
        let first = Message::status(format!("The push refers to repository [{}]", name.repo));
        lines.send(first).await;
        if current(&engine, &name).await.is_none() {
            let text = format!(
                "An image does not exist locally with the tag: {}",
                name.repo.familiar()
            );
            lines.fail(ApiError::not_found(text)).await;
            return;
        }
        let translator = Arc::new(Translator::new(&name, Direction::Push));
        let report = translator.clone().reporter(lines.clone());
        let (pushed, runtime) = (name.clone(), Handle::current());
        let result = engine
            .waiting(move |engine| {
                let descriptor = runtime.block_on(client.push(&pushed, credentials, &*report))?;
                engine.tell_named("push", &pushed);
                Ok(descriptor)
            })
            .await;
        match result {
            Ok(descriptor) => {
                for line in translator.finish() {
                    lines.send(line).await;
                }
                let tag = name.tag.as_ref().map(ToString::to_string).unwrap_or_default();
                let (digest, size) = (descriptor.digest.to_string(), descriptor.size);
                lines
                    .send(Message::status(format!("{tag}: digest: {digest} size: {size}")))
                    .await;
                lines
                    .send(Message::aux(
                        serde_json::json!({"Tag": tag, "Digest": digest, "Size": size}),
                    ))
                    .await;
            }
            Err(error) => lines.fail(error).await,
        }
    });
    Ok(answer.response().await)
}

type Report = Box<dyn Fn(Progress) + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Pull,
    Push,
}

/// The client's progress as Docker's lines.
///
/// Lines may be dropped on their way to a slow reader, so the last word on every layer is repeated at the end if it was
/// not said for sure.
#[derive(Debug)]
struct Translator {
    direction: Direction,
    tag: String,
    path: String,
    /// Layers seen and not known to be complete.
    open: Mutex<BTreeSet<String>>,
}

impl Translator {
    fn new(name: &ImageRef, direction: Direction) -> Self {
        let tag = match (&name.tag, &name.digest) {
            (_, Some(digest)) => digest.to_string(),
            (Some(tag), None) => tag.to_string(),
            (None, None) => "latest".to_owned(),
        };
        Self {
            direction,
            tag,
            path: name.repo.path().to_owned(),
            open: Mutex::new(BTreeSet::new()),
        }
    }

    /// The client's callback.
    fn reporter(self: Arc<Self>, lines: Lines) -> Report {
        Box::new(move |progress| {
            for line in self.lines(progress) {
                lines.offer(line);
            }
        })
    }

    fn lines(&self, progress: Progress) -> Vec<Message> {
        let pulls = self.direction == Direction::Pull;
        match progress {
            Progress::Resolving if pulls => {
                vec![Message {
                    id: Some(self.tag.clone()),
                    ..Message::status(format!("Pulling from {}", self.path))
                }]
            }
            Progress::Resolving => Vec::new(),
            Progress::Note(text) => vec![Message::status(text)],
            Progress::Waiting(blob) => {
                self.opened(&blob, true);
                vec![step(&blob, if pulls { "Pulling fs layer" } else { "Preparing" })]
            }
            Progress::Exists(blob) => {
                self.opened(&blob, false);
                vec![step(
                    &blob,
                    if pulls {
                        "Already exists"
                    } else {
                        "Layer already exists"
                    },
                )]
            }
            Progress::Downloading { blob, done } => vec![transfer(&blob, "Downloading", done)],
            Progress::Uploading { blob, done } => vec![transfer(&blob, "Pushing", done)],
            Progress::Unpacking(blob) => vec![step(&blob, "Download complete"), step(&blob, "Extracting")],
            Progress::Done(blob) => {
                self.opened(&blob, false);
                vec![step(&blob, if pulls { "Pull complete" } else { "Pushed" })]
            }
            Progress::Mounted(blob) => {
                self.opened(&blob, false);
                vec![step(&blob, "Mounted")]
            }
            Progress::Pushed(blob) => {
                self.opened(&blob, false);
                vec![step(&blob, "Pushed")]
            }
        }
    }

    fn opened(&self, blob: &Descriptor, open: bool) {
        let mut set = self
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if open {
            set.insert(short(&blob.digest));
        } else {
            set.remove(&short(&blob.digest));
        }
    }

    fn finish(&self) -> Vec<Message> {
        let open = std::mem::take(
            &mut *self
                .open
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        let word = if self.direction == Direction::Pull {
            "Pull complete"
        } else {
            "Pushed"
        };
        let line = |id| Message {
            id: Some(id),
            progress_detail: Some(ProgressDetail::default()),
            ..Message::status(word)
        };
        open.into_iter().map(line).collect()
    }
}

fn short(digest: &Digest) -> String {
    let text = digest.to_string();
    let hex = text.split_once(':').map_or(text.as_str(), |(_, hex)| hex);
    hex.get(..12).unwrap_or(hex).to_owned()
}

fn step(blob: &Descriptor, status: &str) -> Message {
    Message {
        id: Some(short(&blob.digest)),
        progress_detail: Some(ProgressDetail::default()),
        ..Message::status(status)
    }
}

fn transfer(blob: &Descriptor, status: &str, done: u64) -> Message {
    Message {
        id: Some(short(&blob.digest)),
        progress_detail: Some(ProgressDetail {
            current: Some(done),
            total: Some(blob.size),
        }),
        progress: Some(progress_bar(done, blob.size)),
        ..Message::status(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_progress_reads_as_dockers() {
        let translator = Translator::new(&"localhost:5000/a/b:1".parse().unwrap(), Direction::Pull);
        let blob = Descriptor::new("x", Digest::sha256(b"x"), 100);
        let text = |progress| {
            let lines = translator.lines(progress);
            lines
                .iter()
                .map(|line| serde_json::to_string(line).unwrap())
                .collect::<Vec<_>>()
                .join("\n")
        };
        let id = short(&blob.digest);
        assert_eq!(
            text(Progress::Resolving),
            r#"{"status":"Pulling from a/b","id":"1"}"#
        );
        assert_eq!(
            text(Progress::Waiting(blob.clone())),
            format!(r#"{{"status":"Pulling fs layer","progressDetail":{{}},"id":"{id}"}}"#)
        );
        let line = text(Progress::Downloading {
            blob: blob.clone(),
            done: 50,
        });
        assert!(
            line.contains(r#""progressDetail":{"current":50,"total":100}"#),
            "{line}"
        );
        assert_eq!(
            translator.finish().len(),
            1,
            "a layer whose end was not reported is closed"
        );
        assert!(text(Progress::Done(blob)).contains("Pull complete"));
    }
}
