//! FROM: finds a base image and makes its layers usable.

use std::sync::Arc;

use cooper_registry::oci::Platform;
use cooper_registry::store::Image;

use super::context::{Environment, LayerRef, RootFs};
use super::step::Done;
use crate::build::{Error, Event};
use crate::context::load_layout;
use crate::dockerfile::{Diagnostic, Rule};
use crate::plan::{BaseAction, BaseSource, Step};

pub(super) fn base(environment: &Environment<'_>, step: &Step, action: &BaseAction) -> Result<Done, Error> {
    let image = find(environment, step, action)?;
    environment.check_cancelled()?;
    environment.lease.manifest(&image.manifest_digest)?;
    warn_about_platform(environment, step, action, &image);
    let lowers = environment.store.unpack_image(&image)?;
    let ids = &image.config.rootfs.diff_ids;
    if ids.len() != image.manifest.layers.len() {
        return Err(Error::Source(format!(
            "the image's manifest has {} layers, its config {}",
            image.manifest.layers.len(),
            ids.len()
        )));
    }
    let layers = ids
        .iter()
        .zip(&image.manifest.layers)
        .map(|(diff_id, descriptor)| LayerRef {
            diff_id: diff_id.clone(),
            descriptor: descriptor.clone(),
            created: None,
        });
    let rootfs = Arc::new(RootFs {
        layers: layers.collect(),
        lowers,
    });
    Ok(Done {
        rootfs,
        cached: true,
        image: Some(Arc::new(image)),
    })
}

fn find(environment: &Environment<'_>, step: &Step, action: &BaseAction) -> Result<Image, Error> {
    let (name, result) = match &action.source {
        BaseSource::Named(name) => {
            let found = environment.services.bases.resolve(
                name,
                &step.platform,
                environment.request.pull,
                environment.stop,
            );
            (name.familiar(), found)
        }
        BaseSource::Layout { path, reference, .. } => {
            let found = load_layout(
                environment.store,
                environment.lease,
                path,
                reference.as_deref(),
                &step.platform,
                environment.stop,
            );
            let found = match found {
                Err(error @ Error::Cancelled) => return Err(error),
                found => found.map_err(|error| error.to_string()),
            };
            (action.source.text(), found)
        }
    };
    // Whatever a fetch that was told to stop says is a consequence of that.
    environment.check_cancelled()?;
    result.map_err(|message| {
        let text = if message.contains(&name) {
            message.clone()
        } else {
            format!("{name}: {message}")
        };
        let problem = Diagnostic::error(step.span, text).with_suggestion(action.suggestion.as_ref());
        Error::Base {
            name,
            message,
            excerpt: environment.source.render(problem),
        }
    })
}

/// BuildKit's words. An index has been searched for the platform, so this is about single images.
fn warn_about_platform(environment: &Environment<'_>, step: &Step, action: &BaseAction, image: &Image) {
    let found = Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        os_version: None,
        variant: image.config.variant.clone(),
    };
    // Who asks for no platform gets that of the base, as long as it can be run.
    let implicit = !action.explicit && environment.emulation.check(&found).is_ok();
    let fits = found.architecture.is_empty() || found.same_machine(&step.platform);
    if !action.warns || fits || implicit {
        return;
    }
    let name = match &action.source {
        BaseSource::Named(name) => name.familiar(),
        BaseSource::Layout { .. } => action.source.text(),
    };
    let message = format!(
        "Base image {name} was pulled with platform \"{}\", expected \"{}\" for current build",
        found.normalized(),
        step.platform
    );
    let warning = Diagnostic::warning(Rule::InvalidBaseImagePlatform, step.span, message);
    (environment.events)(Event::Warning {
        text: environment.source.render(warning),
    });
}
