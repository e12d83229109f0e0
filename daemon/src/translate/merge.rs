//! An image's defaults under a container's settings (moby `daemon/internal/runconfig.Merge`).

use std::collections::BTreeMap;

use cooper_registry::oci::RunConfig;

use crate::api::ContainerConfig;

/// Fills what the request leaves open from the image.
///
/// The image's command applies only when the request gives neither command nor entry point: an entry point of one's
/// own makes the image's arguments meaningless. An entry point of `[""]` clears the image's.
pub(crate) fn merge_image_config(config: &mut ContainerConfig, image: &RunConfig) {
    let or = |own: &mut String, image: &str| {
        if own.is_empty() {
            image.clone_into(own);
        }
    };
    or(&mut config.user, &image.user);
    or(&mut config.working_dir, &image.working_dir);
    or(&mut config.stop_signal, &image.stop_signal);
    union(&mut config.exposed_ports, image.exposed_ports.as_ref());
    union(&mut config.volumes, image.volumes.as_ref());
    if let Some(image) = image.env.as_deref().filter(|env| !env.is_empty()) {
        let own = config.env.get_or_insert_default();
        let key = |pair: &str| pair.split('=').next().unwrap_or(pair).to_owned();
        let taken: Vec<String> = own.iter().map(|pair| key(pair)).collect();
        own.extend(image.iter().filter(|pair| !taken.contains(&key(pair))).cloned());
    }
    for (key, value) in image.labels.iter().flatten() {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let is_empty = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&config.entrypoint) {
        if is_empty(&config.cmd) {
            config.cmd.clone_from(&image.cmd);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if config
        .entrypoint
        .as_deref()
        .is_some_and(|entrypoint| entrypoint == [""])
    {
        config.entrypoint = None;
    }
    if let (Some(check), Some(image)) = (&mut config.healthcheck, &image.healthcheck) {
        // What is not given is inherited (moby `daemon/commit.go`, merge).
        if check.test.is_empty() {
            check.test.clone_from(&image.test);
        }
        for (own, inherited) in [
            (&mut check.interval, image.interval),
            (&mut check.timeout, image.timeout),
            (&mut check.start_period, image.start_period),
            (&mut check.start_interval, image.start_interval),
            (&mut check.retries, image.retries),
        ] {
            if *own == 0 {
                *own = inherited;
            }
        }
    } else if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&image.healthcheck);
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
}

fn union<V: Clone>(own: &mut Option<BTreeMap<String, V>>, image: Option<&BTreeMap<String, V>>) {
    let Some(image) = image.filter(|image| !image.is_empty()) else {
        return;
    };
    let own = own.get_or_insert_default();
    for (key, value) in image {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|item| (*item).to_owned()).collect())
    }

    #[test]
    fn command_and_entry_point_follow_dockers_table() {
        type Case<'c> = (
            Option<&'c [&'c str]>,
            Option<&'c [&'c str]>,
            Option<&'c [&'c str]>,
            Option<&'c [&'c str]>,
        );
        // request's entry point and command -> result's, for an image with ENTRYPOINT ["e"] CMD ["c"]
        let cases: [Case<'_>; 6] = [
            (None, None, Some(&["e"]), Some(&["c"])),
            (None, Some(&["x"]), Some(&["e"]), Some(&["x"])),
            (Some(&["y"]), None, Some(&["y"]), None),
            (Some(&["y"]), Some(&["x"]), Some(&["y"]), Some(&["x"])),
            (Some(&[""]), Some(&["x"]), None, Some(&["x"])),
            (Some(&[]), None, Some(&[]), Some(&["c"])),
        ];
        let image = RunConfig {
            entrypoint: list(&["e"]),
            cmd: list(&["c"]),
            ..Default::default()
        };
        for (entrypoint, cmd, expected_entrypoint, expected_cmd) in cases {
            let mut config = ContainerConfig {
                entrypoint: entrypoint.and_then(list),
                cmd: cmd.and_then(list),
                ..Default::default()
            };
            merge_image_config(&mut config, &image);
            assert_eq!(
                config.entrypoint,
                expected_entrypoint.and_then(list),
                "{entrypoint:?} {cmd:?}"
            );
            assert_eq!(config.cmd, expected_cmd.and_then(list), "{entrypoint:?} {cmd:?}");
        }
    }

    #[test]
    fn own_settings_win() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        let image = RunConfig {
            env: list(&["A=1", "B=2"]),
            labels: Some(labels(&[("a", "i"), ("b", "i")])),
            user: "app".to_owned(),
            working_dir: "/srv".to_owned(),
            ..Default::default()
        };
        let mut config = ContainerConfig {
            env: list(&["B=x", "C=3"]),
            labels: labels(&[("a", "own")]),
            user: "0".to_owned(),
            ..Default::default()
        };
        merge_image_config(&mut config, &image);
        assert_eq!(config.env, list(&["B=x", "C=3", "A=1"]));
        assert_eq!(config.labels, labels(&[("a", "own"), ("b", "i")]));
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("0", "/srv"));
    }
}
