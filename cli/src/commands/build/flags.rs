//! From `build`'s flags to the request, but for what is on this machine: contexts, secrets, agents.

use std::collections::BTreeSet;

use cooper_daemon::build::{CacheLocation, Entitlement, NetworkMode, Platform, Request};

use crate::args::build::{BuildArgs, ExplainFormat, ProgressMode};
use crate::outputs::OutputSpec;
use crate::settings::build::{
    ResourceFlags, annotations, attestations, compression, entitlements, exports, hosts, image, imports,
    resources, targets, ulimits,
};
use crate::settings::values;

/// Where the result goes, beside the store.
pub(super) fn outputs(args: &BuildArgs) -> Result<Vec<OutputSpec>, String> {
    let outputs = args.output.iter().map(|text| OutputSpec::parse(text));
    let outputs = outputs.collect::<Result<Vec<_>, _>>();
    let outputs = outputs.map_err(|error| format!("invalid --output: {error}"))?;
    let to_stdout = outputs.iter().filter(|spec| spec.is_stdout()).count();
    let others = args.progress == ProgressMode::Rawjson || args.explain == Some(ExplainFormat::Json);
    if to_stdout > 1 || (to_stdout == 1 && others) {
        return Err("only one thing can be written to stdout: give dest=FILE".to_owned());
    }
    Ok(outputs)
}

/// The request of these flags; what they do not say is as in `base`.
pub(super) fn request(args: &BuildArgs, outputs: &[OutputSpec], base: &Request) -> Result<Request, String> {
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
    let mut targets = targets(&args.tag, &args.target)?;
    // Whatever of an output is about the image in the store or in a registry.
    let forms: Vec<&OutputSpec> = outputs.iter().filter(|spec| spec.is_image_form()).collect();
    for name in forms.iter().flat_map(|spec| &spec.names) {
        let name = image(name).map_err(|error| format!("invalid --output name `{name}`: {error}"))?;
        if let [first, ..] = targets.as_mut_slice() {
            first.names.push(name);
        }
    }
    let push = args.push || forms.iter().any(|spec| spec.push);
    if push && targets.iter().any(|target| target.names.is_empty()) {
        return Err("pushing needs a name: add --tag".to_owned());
    }
    if targets.len() > 1 && outputs.iter().any(OutputSpec::is_received) {
        return Err("--output with several targets: one place cannot take several results".to_owned());
    }
    let many = args.platform.iter().flat_map(|list| list.split(',')).count() > 1;
    if many && outputs.iter().any(|spec| spec.is_docker_archive()) {
        return Err("--output type=docker holds one platform: use type=oci, or one --platform".to_owned());
    }
    let mut annotations = annotations(&args.annotation)?;
    annotations.extend(forms.iter().flat_map(|spec| spec.annotations.clone()));
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
        annotations,
        compression: asked.or(forms.iter().rev().find_map(|spec| spec.compression)),
        push,
        push_by_digest: forms.iter().any(|spec| spec.push_by_digest),
        docker_types: forms.iter().any(|spec| spec.docker_types),
        squash: args.squash,
        provenance: attestations.provenance,
        sbom: attestations.sbom,
        cache_from: absolute_caches(imports(&args.cache_from)?, |import| &mut import.location)?,
        cache_to: absolute_caches(exports(&args.cache_to)?, |export| &mut export.location)?,
        explain: args.explain.is_some(),
        debug: args.debug,
        verify: args.verify.as_deref().map(image).transpose()?,
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
        request(&args, &outputs(&args)?, &Request::default())
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
            (
                "-o type=image,name=a,push-by-digest=true,oci-mediatypes=false,compression=gzip,annotation.k=v",
                |r| r.push_by_digest && r.docker_types && r.compression.is_some() && r.annotations.len() == 1,
            ),
            ("-o type=oci,dest=x,compression=zstd", |r| r.compression.is_none()),
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
            ("--push --target a=n --target b", "add --tag"),
            ("-o type=imgae", "unknown output type"),
            ("-o type=image,name=A", "--output name"),
            ("-o out --target a --target b", "several targets"),
            ("-o - --progress rawjson", "stdout"),
            (
                "--platform linux/amd64,linux/arm64 -o type=docker,dest=x",
                "holds one platform",
            ),
            (
                "-o type=oci,dest=x,compression=zstd,oci-mediatypes=false",
                "OCI media types",
            ),
            ("-o - -o type=oci", "stdout"),
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
