//! `--squash`: the layers of this build as one.

use cooper_registry::digest::{ChainId, Digest};
use cooper_registry::oci::History;
use cooper_registry::store::{Lease, Store};

use super::index::json;
use super::publish::Finished;
use crate::build::{Error, Request};

/// Replaces the layers that were made here by one that does the same; those of the base image stay. The history is what
/// docker's classic builder writes (moby `daemon/images/image_squash.go`): entries of this build lose their layers, and one
/// more entry tells what was merged.
pub(super) fn squash(
    store: &Store,
    lease: &Lease,
    request: &Request,
    finished: &mut Finished,
) -> Result<(), Error> {
    let base = finished.base_layers;
    let diff_ids = &finished.config.rootfs.diff_ids;
    if diff_ids.len() <= base {
        return Ok(());
    }
    let merged = store.merge_layers(&diff_ids[base..], base == 0)?;
    lease.layer(&merged.diff_id)?;
    let before = Digest::sha256(&json(&finished.config)?);
    let comment = match ChainId::of(&diff_ids[..base]) {
        Some(parent) => format!("merge {before} to {parent}"),
        None => format!("create new from {before}"),
    };
    let config = &mut finished.config;
    let mut kept = 0;
    for entry in &mut config.history {
        if !entry.empty_layer {
            kept += 1;
            entry.empty_layer = kept > base;
        }
    }
    let created = match request.source_date_epoch {
        Some(_) => config.created.clone(),
        None => Some(jiff::Timestamp::now().to_string()),
    };
    config.history.push(History {
        created: created.clone(),
        comment,
        ..History::default()
    });
    config.created = created;
    config.rootfs.diff_ids.truncate(base);
    config.rootfs.diff_ids.push(merged.diff_id.clone());
    finished.layers.truncate(base);
    finished.layers.push(store.layer_descriptor(&merged));
    let below = finished
        .lowers
        .split_off(finished.lowers.len().saturating_sub(base));
    finished.lowers = std::iter::once(merged.tree).chain(below).collect();
    Ok(())
}
