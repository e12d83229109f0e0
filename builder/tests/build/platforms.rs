//! Builds for other platforms, and bases that take their time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cooper_builder::build::{Error, Event, Request, Target, build};
use cooper_registry::oci::{Index, Platform, RunConfig};

use crate::world::{Test, World};

pub(crate) const TESTS: &[Test] = &[
    ("image_index", image_index),
    ("one_foreign_platform", one_foreign_platform),
    ("foreign_run", foreign_run),
    ("mismatched_base", mismatched_base),
    ("slow_base", slow_base),
];

fn platforms(list: &[&str]) -> Vec<Platform> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn host() -> String {
    Platform::host().normalized().to_string()
}

/// An index `multi` of an image for this host and one for `linux/arm/v6`.
pub(crate) fn add_multi(world: &World) {
    let mut images = Vec::new();
    for (name, text) in [("native", host()), ("foreign", "linux/arm/v6".to_owned())] {
        let platform: Platform = text.parse().unwrap();
        let config = RunConfig {
            env: Some(vec![format!("IMAGE={name}")]),
            ..RunConfig::default()
        };
        images.push((world.add_base_for(name, config, &platform), platform));
    }
    let names = ["multi".parse().unwrap()];
    world.store.put_index(&images, &names).unwrap();
}

fn index(world: &World, id: &cooper_registry::digest::Digest) -> Index {
    serde_json::from_slice(&world.store.read_blob(id, 1 << 20).unwrap()).unwrap()
}

fn image_index() {
    let world = World::new();
    add_multi(&world);
    world.write("a", "1");
    let dockerfile = "FROM --platform=$BUILDPLATFORM multi AS build\nRUN cat /proc/sys/kernel/random/uuid > /id; echo shared\nARG TARGETARCH\nRUN echo for $TARGETARCH > /made\nFROM multi\nARG TARGETPLATFORM\nLABEL image=$IMAGE platform=$TARGETPLATFORM\nCOPY a /\nCOPY --from=build /id /made /\n";
    let request = Request {
        platforms: platforms(&[&host(), "linux/arm/v6"]),
        targets: vec![Target {
            names: vec!["result:1".parse().unwrap(), "other".parse().unwrap()],
            ..Target::default()
        }],
        ..world.request(dockerfile)
    };
    let outcome = world.run(&request);
    let built = outcome.result.as_ref().unwrap();
    assert_eq!(
        outcome.output(),
        "shared\n",
        "the build platform's steps are shared"
    );
    let list = index(&world, &built.images[0].image);
    let names: Vec<String> = list
        .manifests
        .iter()
        .map(|manifest| manifest.platform.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(names, [host().as_str(), "linux/arm/v6"]);
    let mut top = Vec::new();
    for (name, image) in [(host(), "native"), ("linux/arm/v6".to_owned(), "foreign")] {
        let found = world.store.image_for("result:1", &name.parse().unwrap()).unwrap();
        let labels = found.config.config.labels.clone().unwrap();
        assert_eq!((&*labels["image"], &*labels["platform"]), (image, name.as_str()));
        let platform = Platform {
            architecture: found.config.architecture.clone(),
            os: found.config.os.clone(),
            os_version: None,
            variant: found.config.variant.clone(),
        };
        assert_eq!(platform.to_string(), name);
        let layer = world.layer(&found, 0);
        let architecture = name.split('/').nth(1).unwrap();
        assert!(
            layer.contains(&format!("made 644 0:0 {:?}", format!("for {architecture}\n"))),
            "{layer:?}"
        );
        top.push(layer.iter().find(|line| line.starts_with("id ")).unwrap().clone());
    }
    assert_eq!(top[0], top[1]);
    // It is this host's image by name, and the whole goes with its names.
    assert_eq!(world.store.resolve_image("other").unwrap(), built.images[0].image);
    let again = world.run(&request);
    assert_eq!(again.executed(), Vec::<String>::new());
    assert_eq!(again.result.unwrap().images[0].image, built.images[0].image);
    world.store.delete_image(&built.images[0].image).unwrap();
    let children = list.manifests.iter();
    let left: Vec<_> = children
        .filter(|child| world.store.image(&child.digest.to_string()).is_ok())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    world.assert_clean();
}

fn one_foreign_platform() {
    let world = World::new();
    add_multi(&world);
    let mut request = Request {
        platforms: platforms(&["linux/arm/v6"]),
        ..world.request("FROM multi\nENV X=$IMAGE\n")
    };
    let (image, _) = world.build_request(&request);
    assert_eq!(
        (
            image.config.architecture.as_str(),
            image.config.variant.as_deref()
        ),
        ("arm", Some("v6"))
    );
    assert!(image.config.config.env.unwrap().contains(&"X=foreign".to_owned()));
    let (scratch, _) = world.build_request(&Request {
        platforms: platforms(&["linux/arm64/v8"]),
        ..world.request("FROM scratch\nCOPY <<E /a\nE\n")
    });
    assert_eq!(
        (scratch.config.architecture.as_str(), scratch.config.variant),
        ("arm64", None)
    );
    request
        .build_args
        .insert("BUILDKIT_MULTI_PLATFORM".to_owned(), Some("true".to_owned()));
    let built = world.run(&request).result.unwrap();
    assert_eq!(index(&world, &built.images[0].image).manifests.len(), 1);
    world.assert_clean();
}

/// mips is what nobody has an emulator registered for.
fn foreign_run() {
    let world = World::new();
    let config = RunConfig::default();
    world.add_base_for("other", config, &"linux/mips".parse().unwrap());
    let request = Request {
        platforms: platforms(&["linux/mips"]),
        ..world.request("FROM other\nENV A=1\nCOPY <<E /e\nE\nRUN true\n")
    };
    let error = world.run(&request).error();
    for part in [
        "RUN for linux/mips needs an emulator on this",
        "qemu-user",
        "Dockerfile:5:1",
        "^^^",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(world.store.images().unwrap().len(), 2, "only the bases");
    world.assert_clean();
}

fn mismatched_base() {
    let world = World::new();
    let config = RunConfig::default();
    world.add_base_for("other", config, &"linux/mips".parse().unwrap());
    let expected = format!(
        "Base image other:latest was pulled with platform \"linux/mips\", expected \"{}\" for current build",
        host()
    );
    let (image, outcome) = world.build("FROM other\nENV A=1\n");
    let warnings = outcome.warnings();
    assert!(
        warnings.contains(&expected)
            && warnings.contains("[InvalidBaseImagePlatform]")
            && warnings.contains("Dockerfile:1:6"),
        "{warnings}"
    );
    assert_eq!(image.config.architecture, "mips");
    for quiet in [
        "# check=skip=InvalidBaseImagePlatform\nFROM other\n",
        "# check=skip=all\nFROM other\n",
    ] {
        let (_, outcome) = world.build(quiet);
        assert_eq!(outcome.warnings(), "", "{quiet}");
    }
    let (_, outcome) = world.build("FROM --platform=linux/s390x busybox\nENV A=1\n");
    assert!(
        outcome
            .warnings()
            .contains("expected \"linux/s390x\" for current build"),
        "{}",
        outcome.warnings()
    );
    // Who asks for a platform gets an image that says so.
    let request = Request {
        platforms: platforms(&[&host()]),
        ..world.request("FROM other\nENV A=1\n")
    };
    let (image, outcome) = world.build_request(&request);
    assert!(outcome.warnings().contains(&expected));
    assert_eq!(image.config.architecture, Platform::host().architecture);
}

/// While a base is still being fetched, what does not need it runs; and the build can be cancelled all the same.
fn slow_base() {
    let world = World::new();
    let dockerfile = "FROM example.com/hang:1 AS slow\nRUN true\nFROM busybox AS fast\nRUN echo fast\nFROM busybox\nRUN echo first\nCOPY --from=fast /etc/group /a\nCOPY --from=slow / /\n";
    let cancelled = AtomicBool::new(false);
    let events = Mutex::new(Vec::new());
    let sink = |event: Event| {
        let mut events = events.lock().unwrap();
        events.push(event);
        // The step before the one that copies from the hanging stage: cancelled once all that can run has run.
        let copied = events
            .iter()
            .filter(|event| matches!(event, Event::Done { .. }))
            .count();
        if copied == 4 {
            cancelled.store(true, Ordering::Relaxed);
        }
    };
    let request = Request {
        parallelism: 1,
        ..world.request(dockerfile)
    };
    let started = Instant::now();
    let result = build(
        &world.store,
        &world.exec_root(),
        &request,
        &world.services(),
        &sink,
        &cancelled,
    );
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
    let events = events.into_inner().unwrap();
    assert!(events.contains(&Event::Started { step: 0 }), "{events:?}");
    assert!(!events.contains(&Event::Started { step: 1 }), "{events:?}");
    world.assert_clean();
}
