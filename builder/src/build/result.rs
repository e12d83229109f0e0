//! From executed steps to images in the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{ImageConfig, Platform};
use cooper_registry::store::Store;

use super::error::Error;
use super::options::CacheLocation;
use super::request::{BuiltImage, Request};
use crate::cache::{RemoteCache, embed};
use crate::exec::{Outcome, RootFs, finish_image};
use crate::plan::{Planned, is_multi_platform};

/// Puts the images of all targets into the store, named. A target for several platforms is an index.
pub(super) fn put(
    store: &Store,
    request: &Request,
    planned: &[Planned],
    outcome: &Outcome,
    remote: &RemoteCache<'_>,
) -> Result<Vec<BuiltImage>, Error> {
    let mut built = Vec::new();
    for (number, target) in request.targets.iter().enumerate() {
        let names = target.names.clone();
        let wanted = planned.iter().filter(|planned| planned.target == number);
        if is_multi_platform(request) {
            let mut images = Vec::new();
            for planned in wanted {
                let (config, rootfs) = config(request, planned, outcome, remote)?;
                let image = store.put_image(&config, &descriptors(&rootfs), &[])?;
                images.push((image, platform(&config)));
            }
            let image = store.put_index(&images, &names)?;
            built.push(BuiltImage { image, names });
        } else {
            for planned in wanted {
                let (config, rootfs) = config(request, planned, outcome, remote)?;
                let image = store.put_image(&config, &descriptors(&rootfs), &names)?;
                built.push(BuiltImage {
                    image,
                    names: names.clone(),
                });
            }
        }
    }
    Ok(built)
}

/// The layers of all images.
pub(super) fn layers(planned: &[Planned], outcome: &Outcome) -> BTreeSet<DiffId> {
    let all = planned.iter().filter_map(|planned| rootfs(planned, outcome));
    let layers = all.flat_map(|rootfs| &rootfs.layers);
    layers.map(|layer| layer.diff_id.clone()).collect()
}

fn rootfs<'a>(planned: &Planned, outcome: &'a Outcome) -> Option<&'a Arc<RootFs>> {
    outcome.results.get(&planned.state.rootfs?)
}

fn config(
    request: &Request,
    planned: &Planned,
    outcome: &Outcome,
    remote: &RemoteCache<'_>,
) -> Result<(ImageConfig, Arc<RootFs>), Error> {
    let rootfs = rootfs(planned, outcome).cloned().unwrap_or_default();
    let created = |step: usize| outcome.results.get(&step)?.layers.last()?.created.clone();
    let mut config = finish_image(&planned.state, &rootfs, &created, request)?;
    set_platform(
        &mut config,
        (!request.platforms.is_empty()).then_some(&planned.platform),
    );
    let inline = |location: &CacheLocation| matches!(location, CacheLocation::Inline);
    if request.cache_to.iter().any(|to| inline(&to.location)) {
        let layers = rootfs.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        embed(&mut config, &remote.records(Some(&layers))?);
    }
    Ok((config, rootfs))
}

fn descriptors(rootfs: &RootFs) -> Vec<cooper_registry::oci::Descriptor> {
    rootfs
        .layers
        .iter()
        .map(|layer| layer.descriptor.clone())
        .collect()
}

fn platform(config: &ImageConfig) -> Platform {
    Platform {
        architecture: config.architecture.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        variant: config.variant.clone(),
    }
}

/// An image that was asked for by platform says so, whatever its base is for; the base's variant and version stay where
/// nothing else was asked for. The rules are BuildKit's (`finalizeResultImage`).
fn set_platform(config: &mut ImageConfig, asked: Option<&Platform>) {
    if let Some(asked) = asked {
        let same = asked.os == config.os && asked.architecture == config.architecture;
        config.os.clone_from(&asked.os);
        config.architecture.clone_from(&asked.architecture);
        if asked.variant.is_some() || !same {
            config.variant.clone_from(&asked.variant);
        }
        if asked.os_version.is_some() || !same {
            config.os_version.clone_from(&asked.os_version);
        }
    }
    let normal = platform(config).normalized();
    config.variant = normal.variant;
    config.os_version = normal.os_version;
    if !config.architecture.is_empty() {
        (config.os, config.architecture) = (normal.os, normal.architecture);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_of_results() {
        for (base, asked, expected) in [
            ("linux/amd64", None, "linux/amd64"),
            ("linux/arm64/v8", None, "linux/arm64"),
            ("linux/arm", None, "linux/arm/v7"),
            ("linux/amd64", Some("linux/arm/v6"), "linux/arm/v6"),
            ("linux/arm/v6", Some("linux/amd64"), "linux/amd64"),
            ("linux/arm/v6", Some("linux/arm/v7"), "linux/arm/v7"),
            ("linux/amd64/v2", Some("linux/amd64"), "linux/amd64/v2"),
        ] {
            let given: Platform = base.parse().unwrap();
            let mut config: ImageConfig =
                serde_json::from_str(r#"{"architecture":"","os":"","rootfs":{"type":"layers"}}"#).unwrap();
            config.architecture = given.architecture;
            config.os = given.os;
            config.variant = given.variant;
            let asked = asked.map(|text| text.parse().unwrap());
            set_platform(&mut config, asked.as_ref());
            assert_eq!(platform(&config).to_string(), expected, "{base} {asked:?}");
        }
    }
}
