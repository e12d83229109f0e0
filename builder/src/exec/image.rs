//! The image's config: layers, history and times.

use cooper_registry::oci::{History, ImageConfig};
use jiff::Timestamp;

use super::context::RootFs;
use crate::build::{Error, Request};
use crate::plan::StageState;

/// Comment of history entries that a Dockerfile made, as BuildKit writes it.
const COMMENT: &str = "buildkit.dockerfile.v0";
/// Comment of entries for layers that nothing tells of.
const EXPORTER: &str = "buildkit.exporter.image.v0";

/// The config of the image that `state` and the layers of `rootfs` make.
///
/// Times are BuildKit's: an entry without a layer has the time of the layer before it, or of the first new one; the image
/// that of its last entry. With an epoch no time is later than it and the image's time is the epoch.
pub(crate) fn finish_image(
    state: &StageState,
    rootfs: &RootFs,
    created: &dyn Fn(usize) -> Option<String>,
    request: &Request,
) -> Result<ImageConfig, Error> {
    let epoch = request.source_date_epoch.map(epoch_text).transpose()?;
    let mut image = state.image.clone();
    // It describes the base image's layers.
    image.inline_cache = None;
    image.history.extend(state.history.iter().map(|entry| History {
        created: epoch.clone().or_else(|| entry.layer.and_then(created)),
        created_by: entry.created_by.clone(),
        comment: COMMENT.to_owned(),
        author: String::new(),
        empty_layer: entry.layer.is_none(),
    }));
    // Files that are no image have a layer and no history; BuildKit's exporter tells of it at the end.
    let told = image.history.iter().filter(|entry| !entry.empty_layer).count();
    let untold = (state.base_layers + own_layers(state)).saturating_sub(told);
    image.history.extend((0..untold).map(|_| History {
        created: epoch.clone(),
        comment: EXPORTER.to_owned(),
        ..History::default()
    }));
    fill_times(&mut image.history);
    if let Some(epoch) = &epoch {
        for entry in &mut image.history {
            if entry.created.as_deref().is_none_or(|time| is_later(time, epoch)) {
                entry.created = Some(epoch.clone());
            }
        }
    }
    image.created = epoch.or_else(|| image.history.iter().rev().find_map(|entry| entry.created.clone()));
    image.rootfs.diff_ids = rootfs.layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let shown = image.history.iter().filter(|entry| !entry.empty_layer).count();
    let layers = image.rootfs.diff_ids.len();
    if shown != layers && state.base_layers + own_layers(state) != layers {
        return Err(Error::internal("history and layers of the image do not match"));
    }
    if !request.labels.is_empty() {
        let labels = image.config.labels.get_or_insert_default();
        labels.extend(
            request
                .labels
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    Ok(image)
}

fn own_layers(state: &StageState) -> usize {
    state.history.iter().filter(|entry| entry.layer.is_some()).count()
}

/// Fills in missing times: each takes the one before it, the first ones that of the first new layer.
fn fill_times(history: &mut [History]) {
    let mut time = None;
    let mut missing = false;
    for entry in history.iter() {
        match &entry.created {
            Some(created) => {
                time = Some(created.clone());
                if missing {
                    break;
                }
            }
            None => missing = true,
        }
    }
    missing = false;
    for entry in history.iter_mut() {
        match &entry.created {
            Some(created) if missing => time = Some(created.clone()),
            Some(_) => {}
            None => {
                missing = true;
                entry.created.clone_from(&time);
            }
        }
    }
}

fn epoch_text(seconds: i64) -> Result<String, Error> {
    let time = Timestamp::from_second(seconds);
    time.map(|time| time.to_string())
        .map_err(|error| Error::Source(format!("invalid SOURCE_DATE_EPOCH: {error}")))
}

/// A time that cannot be read is not trusted to be earlier.
fn is_later(time: &str, epoch: &str) -> bool {
    match (time.parse::<Timestamp>(), epoch.parse::<Timestamp>()) {
        (Ok(time), Ok(epoch)) => time > epoch,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_times() {
        for (times, expected) in [
            ("a ? ? b ?", "a b b b b"),
            ("? ? b ? c ?", "b b b b c c"),
            ("a b ?", "a b b"),
            ("? ?", "? ?"),
        ] {
            let time = |text: &str| (text != "?").then(|| text.to_owned());
            let mut history: Vec<History> = times
                .split(' ')
                .map(|text| History {
                    created: time(text),
                    ..History::default()
                })
                .collect();
            fill_times(&mut history);
            let found: Vec<String> = history
                .into_iter()
                .map(|entry| entry.created.unwrap_or_else(|| "?".to_owned()))
                .collect();
            assert_eq!(found.join(" "), expected, "{times}");
        }
    }
}
