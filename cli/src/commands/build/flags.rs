//! From `build`'s flags to the request, but for what is on this machine: contexts, secrets, agents.

use std::collections::BTreeSet;

use cooper_daemon::build::{CacheLocation, Entitlement, NetworkMode, Platform, Request};

use crate::args::build::BuildArgs;
use crate::settings::build::{
    ResourceFlags, annotations, attestations, compression, entitlements, exports, hosts, imports, outputs,
    resources, targets, ulimits,
};
use crate::settings::values;

/// The request of these flags; what they do not say is as in `base`.
pub(super) fn request(args: &BuildArgs, base: &Request) -> Result<Request, String> {
    let network = match args.network.as_str() {
        "default" | "host" | "sandbox" | "bridge" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => return Err(format!("network `{other}` is not available: use host or none")),
    };
    let mut allow: BTreeSet<Entitlement> = entitlements(&args.allow)?;
    if args.network == "host" {
        // Who gives the whole build the host's network does not mind that one step asks for it.
        allow.insert(Entitlement::NetworkHost);
    }
    let platforms = args.platform.iter().filter(|text| !text.is_empty());
    let platforms = platforms.map(|text| {
        text.parse::<Platform>()
            .map_err(|error| format!("--platform: {error}"))
    });
    let attestations = attestations(&args.attest, args.provenance.as_deref(), args.sbom.as_deref())?;
    let outputs = outputs(&args.output, args.push)?;
    let mut targets = targets(&args.tag, &args.target)?;
    if let [first, ..] = targets.as_mut_slice() {
        first.names.extend(outputs.names);
    }
    if outputs.push && targets.iter().all(|target| target.names.is_empty()) {
        return Err("pushing needs a name: add --tag".to_owned());
    }
    let asked = compression(
        args.compression.as_deref(),
        args.compression_level.as_deref(),
        args.force_compression,
    )?;
    let shm_size = match args.shm_size.as_deref() {
        Some(text) => Some(values::bytes(text).map_err(|error| format!("invalid --shm-size: {error}"))?),
        None => None,
    };
    Ok(Request {
        targets,
        platforms: platforms.collect::<Result<_, _>>()?,
        no_cache: args.no_cache,
        no_cache_filter: args.no_cache_filter.clone(),
        pull: args.pull,
        labels: values::labels(&[], &args.label)?,
        network,
        allow,
        extra_hosts: hosts(&args.add_host)?,
        ulimits: ulimits(&args.ulimit)?,
        shm_size: shm_size.and_then(|size| u64::try_from(size).ok()),
        cgroup_parent: args.cgroup_parent.clone(),
        resources: resources(&args.resource, &resource_flags(args))?,
        annotations: annotations(&args.annotation)?,
        compression: asked.or(outputs.compression),
        push: outputs.push,
        squash: args.squash,
        provenance: attestations.provenance,
        sbom: attestations.sbom,
        cache_from: absolute_caches(imports(&args.cache_from)?, |import| &mut import.location)?,
        cache_to: absolute_caches(exports(&args.cache_to)?, |export| &mut export.location)?,
        explain: args.explain.is_some(),
        debug: args.debug,
        ..base.clone()
    })
}

fn resource_flags(args: &BuildArgs) -> ResourceFlags<'_> {
    ResourceFlags {
        memory: args.memory.as_deref(),
        memory_swap: args.memory_swap.as_deref(),
        cpu_shares: args.cpu_shares.as_deref(),
        cpu_period: args.cpu_period.as_deref(),
        cpu_quota: args.cpu_quota.as_deref(),
        cpuset_cpus: args.cpuset_cpus.as_deref(),
        cpuset_mems: args.cpuset_mems.as_deref(),
    }
}

/// Cache directories are relative to ours, not to the engine's.
fn absolute_caches<T>(
    mut all: Vec<T>,
    location: impl Fn(&mut T) -> &mut CacheLocation,
) -> Result<Vec<T>, String> {
    for one in &mut all {
        if let CacheLocation::Local { path, .. } = location(one) {
            *path = std::path::absolute(&*path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::root::{Cli, Verb};

    fn read(line: &str) -> Result<Request, String> {
        let cli = Cli::try_parse_from(
            ["cooper", "build", "."]
                .into_iter()
                .chain(line.split_whitespace()),
        );
        let Verb::Build(args) = cli.map_err(|error| error.to_string())?.verb else {
            panic!("not a build");
        };
        request(&args, &Request::default())
    }

    #[test]
    fn no_flags() {
        let expected = Request {
            network: NetworkMode::Host,
            ..Request::default()
        };
        assert_eq!(read("").unwrap(), expected);
    }

    #[test]
    fn flags_reach_the_request() {
        type Check = fn(&Request) -> bool;
        let cases: &[(&str, Check)] = &[
            ("-t a", |r| r.targets[0].names.len() == 1),
            ("--target a --target b=c", |r| r.targets.len() == 2),
            ("--platform linux/amd64,linux/arm64 --platform arm", |r| {
                r.platforms.len() == 3
            }),
            ("--no-cache", |r| r.no_cache),
            ("--no-cache-filter a,b", |r| r.no_cache_filter == ["a", "b"]),
            ("--pull", |r| r.pull),
            ("--label a=b", |r| r.labels["a"] == "b"),
            ("--network none", |r| r.network == NetworkMode::None),
            ("--network host", |r| r.allow.contains(&Entitlement::NetworkHost)),
            ("--allow security.insecure", |r| {
                r.allow.contains(&Entitlement::SecurityInsecure)
            }),
            ("--add-host a:host-gateway", |r| {
                r.extra_hosts[0].1 == "host-gateway"
            }),
            ("--ulimit nofile=1:2", |r| r.ulimits.len() == 1),
            ("--shm-size 64m", |r| r.shm_size == Some(64 << 20)),
            ("--cgroup-parent p", |r| r.cgroup_parent.as_deref() == Some("p")),
            ("-m 1g -c 5 --resource cpu-quota=7", |r| {
                r.resources.memory == Some(1 << 30) && r.resources.cpu_quota == Some(7)
            }),
            ("--annotation index:a=b", |r| r.annotations.len() == 1),
            (
                "--compression zstd --compression-level 3 --force-compression",
                |r| r.compression.is_some_and(|compression| compression.force),
            ),
            ("--push -t a", |r| r.push),
            ("-o type=registry,name=a", |r| {
                r.push && r.targets[0].names.len() == 1
            }),
            ("--squash", |r| r.squash),
            ("--sbom --provenance=mode=max", |r| {
                r.sbom.is_some() && r.provenance.is_some()
            }),
            ("--attest type=sbom", |r| r.sbom.is_some()),
            ("--cache-from a --cache-to type=inline", |r| {
                r.cache_from.len() == 1 && r.cache_to.len() == 1
            }),
            (
                "--cache-to type=local,dest=d",
                |r| matches!(&r.cache_to[0].location, CacheLocation::Local { path, .. } if path.is_absolute()),
            ),
            ("--explain", |r| r.explain),
            ("--explain=json -D", |r| r.explain && r.debug),
            (
                "--rm=false --force-rm --compress --load --isolation default --builder x",
                |_| true,
            ),
        ];
        for (line, holds) in cases {
            let request = read(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(holds(&request), "{line}: {request:?}");
        }
    }

    #[test]
    fn wrong_flags() {
        for (line, part) in [
            ("--push", "add --tag"),
            ("--network bridge2", "network"),
            ("--platform linux/x/y/z", "--platform"),
            ("--shm-size x", "--shm-size"),
            ("--compresion zstd", "unexpected argument"),
            ("--progress fancy", "invalid value"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
