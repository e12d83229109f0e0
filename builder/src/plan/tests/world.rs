//! A plan driven to its end with made-up images.

use std::collections::BTreeMap;
use std::sync::Arc;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{ImageConfig, Platform, RootFs, RunConfig};

use super::super::planner::{Planned, Planner};
use super::super::source::Source;
use super::super::step::{Action, Step};
use crate::build::{Request, StepInfo, Target};
use crate::dockerfile::parse;

/// Everything about a finished plan.
#[derive(Debug)]
pub(super) struct Plan {
    /// Names as the file alone gives them.
    pub(super) first: Vec<String>,
    pub(super) names: Vec<String>,
    pub(super) steps: Vec<Arc<Step>>,
    pub(super) images: Vec<Planned>,
    pub(super) unused: (Vec<String>, Vec<String>),
}

/// Triggers of the images that have some; all others are plain.
pub(super) type Images<'a> = &'a [(&'a str, &'a [&'a str])];

pub(super) fn request(platforms: &[&str]) -> Request {
    Request {
        platforms: platforms.iter().map(|text| text.parse().unwrap()).collect(),
        ..Request::default()
    }
}

/// Targets a stage.
pub(super) fn target(stage: &str) -> Request {
    Request {
        targets: vec![Target {
            stage: Some(stage.to_owned()),
            ..Target::default()
        }],
        ..Request::default()
    }
}

fn texts(names: Vec<StepInfo>) -> Vec<String> {
    for (id, info) in names.iter().enumerate() {
        assert_eq!(info.id, id, "numbers have no gaps");
    }
    names.into_iter().map(|info| info.name).collect()
}

fn config(platform: &Platform, triggers: &[&str]) -> ImageConfig {
    ImageConfig {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        os_version: None,
        variant: platform.variant.clone(),
        author: None,
        created: None,
        config: RunConfig {
            env: Some(vec!["BASE=1".to_owned()]),
            on_build: Some(triggers.iter().map(|&text| text.to_owned()).collect()),
            ..RunConfig::default()
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![Digest::sha256(b"layer").to_string().parse().unwrap()],
        },
        history: Vec::new(),
        inline_cache: None,
    }
}

/// Plans to the end; the images of `images` have triggers.
pub(super) fn plan(text: &str, request: &Request, images: Images<'_>) -> Result<Plan, String> {
    let source = Source::new("Dockerfile", text.as_bytes());
    let dockerfile = parse(text.as_bytes(), "Dockerfile").map_err(|error| error.to_string())?;
    let mut planner = Planner::new(request, &dockerfile, source).map_err(|error| error.to_string())?;
    let first = texts(planner.names().unwrap());
    let mut names = first.clone();
    let mut steps: Vec<Arc<Step>> = Vec::new();
    loop {
        let more = planner.advance().map_err(|error| error.to_string())?;
        if let Some(new) = planner.names() {
            names = texts(new);
        }
        if more.is_empty() {
            break;
        }
        for step in &more {
            for need in step.needs() {
                assert!(
                    steps.iter().chain(&more).any(|step| step.info.id == need),
                    "{step:?} needs {need}"
                );
            }
            if let Action::Base(base) = &step.action {
                let name = base.source.text();
                let triggers = images.iter().find(|(image, _)| name.contains(image));
                let triggers = triggers.map_or(&[] as &[&str], |(_, triggers)| triggers);
                let manifest = Digest::sha256(format!("{name} {}", step.platform).as_bytes());
                let config = Arc::new(config(&step.platform, triggers));
                planner.base_found(step.info.id, &manifest, &config);
            }
        }
        steps.extend(more);
    }
    assert!(planner.is_complete());
    assert_eq!(steps.len(), names.len(), "every step that has a name is known");
    let unused = planner.unused();
    let images = planner.finish().map_err(|error| error.to_string())?;
    Ok(Plan {
        first,
        names,
        steps,
        images,
        unused,
    })
}

impl Plan {
    /// Definitions of all RUN and COPY, by the text of the command or the destination.
    pub(super) fn definitions(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for step in &self.steps {
            let key = match &step.action {
                Action::Run(run) => run.args.join(" "),
                Action::Copy(copy) => copy.dest.clone(),
                _ => continue,
            };
            found.insert(key, step.definition.as_str().to_owned());
        }
        found
    }
}
