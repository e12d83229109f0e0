//! From executed steps to images in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cooper_registry::digest::DiffId;
use cooper_registry::oci::{ImageConfig, Platform};

use super::course::Finished as Executed;
use super::error::Error;
use super::options::CacheLocation;
use super::request::{BuiltImage, Request};
use crate::cache::{RemoteCache, embed};
use crate::exec::{Outcome, RootFs, finish_image};
use crate::export::{Facts, Finished, Material, Publisher, StepFact};
use crate::plan::{Action, BaseSource, Planned, Source, Step};

/// Where the images come from, for their provenance.
pub(super) struct Origin<'a> {
    /// When the build began.
    pub(super) begun: jiff::Timestamp,
    pub(super) source: Source<'a>,
}

/// Puts the images of all targets into the store, named, and then into registries if that was asked for.
pub(super) fn put(
    publisher: &Publisher<'_>,
    executed: &Executed,
    outcome: &Outcome,
    origin: &Origin<'_>,
    remote: &RemoteCache<'_>,
) -> Result<Vec<BuiltImage>, Error> {
    let request = publisher.request;
    let mut built = Vec::new();
    for (number, target) in request.targets.iter().enumerate() {
        let mut platforms = Vec::new();
        for planned in executed.images.iter().filter(|planned| planned.target == number) {
            let (config, rootfs) = config(request, planned, outcome, remote)?;
            let layers = rootfs.layers.iter().map(|layer| layer.descriptor.clone());
            platforms.push(Finished {
                platform: platform(&config),
                layers: layers.collect(),
                base_layers: planned.state.base_layers,
                lowers: rootfs.lowers.clone(),
                facts: facts(executed, planned, outcome, origin, target.stage.as_deref()),
                config,
            });
        }
        let names = target.names.clone();
        let image = publisher.publish(platforms, &names)?;
        built.push(BuiltImage { image, names });
    }
    for BuiltImage { image, names } in &built {
        publisher.push(image, names)?;
    }
    Ok(built)
}

/// What provenance tells of one image: the steps that its files come from.
fn facts(
    executed: &Executed,
    planned: &Planned,
    outcome: &Outcome,
    origin: &Origin<'_>,
    stage: Option<&str>,
) -> Facts {
    let mut needed = BTreeSet::new();
    let mut open: Vec<usize> = planned.state.rootfs.into_iter().collect();
    while let Some(id) = open.pop() {
        if needed.insert(id)
            && let Some(step) = executed.steps.get(&id)
        {
            open.extend(step.needs());
        }
    }
    // Of steps that are the same one was executed, whichever was first; told is the first in order, so that it never varies.
    let first = first_of_same(executed);
    let needed: BTreeSet<usize> = needed
        .iter()
        .map(|id| first.get(id).copied().unwrap_or(*id))
        .collect();
    let mut told: Vec<(&usize, &Arc<Step>)> = needed
        .iter()
        .filter_map(|id| executed.steps.get_key_value(id))
        .collect();
    // Those of triggers are numbered as they became known.
    told.sort_by_key(|(id, step)| (step.info.line, **id));
    let mut materials = Vec::new();
    let mut steps = Vec::new();
    for (id, step) in told {
        if let (Action::Base(base), Some(image)) = (&step.action, executed.bases.get(id)) {
            materials.push(match &base.source {
                BaseSource::Named(name) => Material::image(name, &image.id, &step.platform),
                BaseSource::Layout { .. } => Material::layout(&base.source.text(), &image.id),
            });
        }
        let result = outcome.results.get(id);
        let layers = result.map(|rootfs| rootfs.layers.as_slice()).unwrap_or_default();
        // A base image's layers are all its own; of other steps only the last one is.
        let own = match step.action {
            Action::Base(_) => layers,
            Action::Nothing => &[],
            _ => &layers[layers.len().saturating_sub(1)..],
        };
        steps.push(StepFact {
            name: step.info.name.clone(),
            line: step.info.line,
            layers: own.iter().map(|layer| layer.diff_id.to_string()).collect(),
        });
    }
    Facts {
        started: Some(origin.begun),
        dockerfile_name: origin.source.name.to_owned(),
        dockerfile: origin.source.bytes.to_vec(),
        stage: stage.map(str::to_owned),
        materials,
        steps,
    }
}

/// By its number, the first of all steps that are the same as a step: bases that are one image, other steps of one
/// definition.
fn first_of_same(executed: &Executed) -> BTreeMap<usize, usize> {
    let mut bases = BTreeMap::new();
    let mut others = BTreeMap::new();
    let mut first = BTreeMap::new();
    for (&id, step) in &executed.steps {
        let same = match (&step.action, executed.bases.get(&id)) {
            (Action::Base(base), Some(image)) => {
                let key = (base.source.text(), &image.manifest_digest);
                bases.entry(key).or_insert(id)
            }
            _ => others.entry(&step.definition).or_insert(id),
        };
        first.insert(id, *same);
    }
    first
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
