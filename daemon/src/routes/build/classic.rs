//! `POST /build`: the request of the classic builder, as docker's CLI without buildx, docker-py and testcontainers send
//! it. Parameters are those of API 1.51.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use axum::extract::{Request, State};
use axum::response::Response;
use cooper_builder::build::{self, CacheImport, CacheLocation, Context, Target};
use cooper_builder::context::{UnpackLimits, untar};
use cooper_registry::oci::Platform;
use cooper_registry::reference::ImageRef;
use cooper_runner::cgroup::Resources;
use cooper_runner::spec::NetworkMode;
use serde::Deserialize;

use super::archive::decompressed;
use super::course::{self, Job};
use super::text::ClassicText;
use crate::api::Ulimit;
use crate::engine::{Engine, OfferedSecrets};
use crate::error::{ApiError, ApiResult};
use crate::http::auth::registry_config;
use crate::http::body::BodyReader;
use crate::http::lines::Lines;
use crate::http::query::Query;

/// `POST /build`.
pub(super) async fn build_image(
    State(engine): State<Engine>,
    query: Query,
    request: Request,
) -> ApiResult<Response> {
    let mut parsed = parse(&query)?;
    let credentials = registry_config(request.headers());
    let runtime = tokio::runtime::Handle::current();
    let mut body = BodyReader::new(request.into_body());
    let (lines, answer) = Lines::channel();
    let running = engine.builds().begin(query.non_empty("buildid"));
    let tell = ClassicText::new(lines.clone(), query.flag("q"), running.cancelled().clone());
    let work = move |engine: &Engine, cancelled: &AtomicBool| {
        // Lives as long as the build; swept by the store if this process is killed.
        let scratch;
        if parsed.context == Context::Empty {
            scratch = engine.store()?.new_snapshot()?;
            let dir = scratch.upper();
            let failed = |error: &dyn std::fmt::Display| {
                ApiError::bad(format!("failed to read the build context: {error}"))
            };
            let mut plain = decompressed(&mut body).map_err(|error| failed(&error))?;
            untar(plain.as_mut(), &dir, UnpackLimits::default()).map_err(|error| failed(&error))?;
            parsed.context = Context::Directory(dir);
        }
        let job = Job {
            request: parsed,
            credentials,
            secrets: OfferedSecrets::default(),
            runtime,
        };
        course::run(engine, job, &tell, cancelled)
    };
    Ok(course::answer(engine, running, lines, answer, work).await)
}

/// An element of `outputs`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Output {
    #[serde(rename = "Type")]
    kind: String,
    attrs: BTreeMap<String, String>,
}

/// Docker's parameters as a request; its context is empty when the body is to be it.
fn parse(query: &Query) -> ApiResult<build::Request> {
    check_version(query)?;
    let names = query.all("t").filter(|name| !name.is_empty());
    let mut names = names.map(tagged).collect::<ApiResult<Vec<ImageRef>>>()?;
    let mut push = false;
    for output in query.json::<Option<Vec<Output>>>("outputs")?.unwrap_or_default() {
        if !matches!(output.kind.as_str(), "" | "image" | "moby" | "docker") {
            return Err(ApiError::unavailable(format!(
                "output type {:?} of POST /build",
                output.kind
            )));
        }
        if let Some(name) = output.attrs.get("name") {
            let more = name.split(',').filter(|name| !name.is_empty()).map(tagged);
            names.extend(more.collect::<ApiResult<Vec<_>>>()?);
        }
        push |= output.attrs.get("push").is_some_and(|push| push == "true");
    }
    let cached = query
        .json::<Option<Vec<String>>>("cachefrom")?
        .unwrap_or_default();
    let cache_from = cached.iter().filter(|name| !name.is_empty()).map(|name| {
        Ok(CacheImport {
            location: CacheLocation::Registry(tagged(name)?),
        })
    });
    let platforms = match query.non_empty("platform") {
        Some(text) => vec![
            text.parse::<Platform>()
                .map_err(|error| ApiError::bad(error.to_string()))?,
        ],
        None => Vec::new(),
    };
    Ok(build::Request {
        context: query
            .non_empty("remote")
            .map_or(Context::Empty, |remote| Context::Remote(remote.to_owned())),
        dockerfile_name: query.non_empty("dockerfile").unwrap_or("Dockerfile").to_owned(),
        build_args: query
            .json::<Option<BTreeMap<String, Option<String>>>>("buildargs")?
            .unwrap_or_default(),
        targets: vec![Target {
            stage: query.non_empty("target").map(str::to_owned),
            names,
        }],
        platforms,
        no_cache: query.flag("nocache"),
        pull: query.flag("pull"),
        labels: query
            .json::<Option<BTreeMap<String, String>>>("labels")?
            .unwrap_or_default(),
        network: network(query)?,
        extra_hosts: extra_hosts(query)?,
        ulimits: ulimits(query)?,
        shm_size: positive(query, "shmsize")?.and_then(|size| u64::try_from(size).ok()),
        cgroup_parent: query.non_empty("cgroupparent").map(str::to_owned),
        resources: resources(query)?,
        squash: query.flag("squash"),
        push,
        cache_from: cache_from.collect::<ApiResult<_>>()?,
        ..build::Request::default()
    })
}

fn check_version(query: &Query) -> ApiResult<()> {
    match query.get("version") {
        "" | "1" => {}
        "2" => {
            return Err(ApiError::unavailable(
                "BuildKit's protocol (use DOCKER_BUILDKIT=0)",
            ));
        }
        other => return Err(ApiError::bad(format!("invalid version {other}"))),
    }
    let options = query.all("securityopt");
    if options
        .into_iter()
        .any(|option| !matches!(option, "" | "[]" | "null"))
    {
        return Err(ApiError::bad(
            "The daemon on this platform does not support setting security options on build",
        ));
    }
    Ok(())
}

fn tagged(name: impl AsRef<str>) -> ApiResult<ImageRef> {
    let mut name: ImageRef = name.as_ref().parse()?;
    if name.digest.is_none() && name.tag.is_none() {
        name.tag = name.tag_or_latest();
    }
    Ok(name)
}

fn network(query: &Query) -> ApiResult<NetworkMode> {
    match query.get("networkmode") {
        // The classic builder's default is the bridge; without one, RUN gets the host's network, as it needs one.
        "" | "default" | "bridge" | "host" => Ok(NetworkMode::Host),
        "none" => Ok(NetworkMode::None),
        other => Err(ApiError::unavailable(format!("networkmode {other:?} of a build"))),
    }
}

/// `extrahosts`, each `name:address`. docker's own client repeats the parameter; a JSON list is taken as well.
fn extra_hosts(query: &Query) -> ApiResult<Vec<(String, String)>> {
    let mut all = Vec::new();
    for value in query.all("extrahosts").filter(|value| !value.is_empty()) {
        let entries = if value.starts_with('[') || value == "null" {
            serde_json::from_str::<Option<Vec<String>>>(value)
                .map_err(|error| ApiError::bad(format!("invalid JSON in parameter extrahosts: {error}")))?
                .unwrap_or_default()
        } else {
            vec![value.to_owned()]
        };
        for entry in entries {
            let pair = entry
                .split_once('=')
                .or_else(|| entry.split_once(':'))
                .filter(|(name, address)| !name.is_empty() && !address.is_empty());
            let Some((name, address)) = pair else {
                return Err(ApiError::bad(format!("bad format for add-host: {entry:?}")));
            };
            let address = address.trim_start_matches('[').trim_end_matches(']');
            all.push((name.to_owned(), address.to_owned()));
        }
    }
    Ok(all)
}

fn ulimits(query: &Query) -> ApiResult<Vec<(String, u64, u64)>> {
    let limits = query.json::<Option<Vec<Ulimit>>>("ulimits")?.unwrap_or_default();
    let value = |limit: i64| match limit {
        -1 => Ok(u64::MAX),
        limit => u64::try_from(limit).map_err(|_| ApiError::bad(format!("invalid ulimit {limit}"))),
    };
    limits
        .into_iter()
        .map(|limit| Ok((limit.name, value(limit.soft)?, value(limit.hard)?)))
        .collect()
}

/// A number where 0 stands for the default.
fn positive(query: &Query, name: &str) -> ApiResult<Option<i64>> {
    Ok(query.number::<i64>(name)?.filter(|number| *number != 0))
}

fn resources(query: &Query) -> ApiResult<Resources> {
    let unsigned = |name: &str| -> ApiResult<Option<u64>> {
        match positive(query, name)? {
            Some(number) => u64::try_from(number)
                .map(Some)
                .map_err(|_| ApiError::bad(format!("invalid value {number} for {name}"))),
            None => Ok(None),
        }
    };
    let text = |name: &str| query.non_empty(name).map(str::to_owned);
    Ok(Resources {
        memory: positive(query, "memory")?,
        memory_swap: positive(query, "memswap")?,
        cpu_shares: unsigned("cpushares")?,
        cpu_quota: positive(query, "cpuquota")?,
        cpu_period: unsigned("cpuperiod")?,
        cpuset_cpus: text("cpusetcpus"),
        cpuset_mems: text("cpusetmems"),
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<build::Request, String> {
        parse(&Query::parse(query)).map_err(|error| error.message)
    }

    /// What docker's CLI 28 sends with DOCKER_BUILDKIT=0 and no flags.
    #[test]
    fn defaults_of_dockers_cli() {
        let defaults = "buildargs=%7B%22A%22%3Anull%7D&cachefrom=%5B%5D&cgroupparent=&cpuperiod=0&cpuquota=0&cpusetcpus=\
            &cpusetmems=&cpushares=0&dockerfile=Dockerfile&labels=%7B%7D&memory=0&memswap=0&networkmode=default&rm=1\
            &shmsize=0&t=a&target=&ulimits=null&version=1";
        let request = read(defaults).unwrap();
        let expected = build::Request {
            targets: vec![Target {
                stage: None,
                names: vec!["docker.io/library/a:latest".parse().unwrap()],
            }],
            build_args: BTreeMap::from([("A".to_owned(), None)]),
            network: NetworkMode::Host,
            ..build::Request::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn every_parameter() {
        let all = "remote=https://x/y.git&extrahosts=a:10.0.0.1&extrahosts=b:[::1]&memory=100&memswap=-1&cpushares=7\
            &cpusetcpus=0-1&cpusetmems=0&cpuperiod=1000&cpuquota=-1&shmsize=65536&squash=1&networkmode=none\
            &platform=linux/arm64&target=t&nocache=1&pull=1&cgroupparent=p&dockerfile=d&labels={\"l\":\"v\"}\
            &ulimits=[{\"Name\":\"nofile\",\"Soft\":1,\"Hard\":-1}]&cachefrom=[\"c\"]\
            &outputs=[{\"Type\":\"moby\",\"Attrs\":{\"name\":\"o,p:1\",\"push\":\"true\"}}]&version=1";
        let request = read(all).unwrap();
        let names = ["docker.io/library/o:latest", "docker.io/library/p:1"];
        let expected = build::Request {
            context: Context::Remote("https://x/y.git".to_owned()),
            dockerfile_name: "d".to_owned(),
            extra_hosts: vec![
                ("a".to_owned(), "10.0.0.1".to_owned()),
                ("b".to_owned(), "::1".to_owned()),
            ],
            resources: Resources {
                memory: Some(100),
                memory_swap: Some(-1),
                cpu_shares: Some(7),
                cpu_quota: Some(-1),
                cpu_period: Some(1000),
                cpuset_cpus: Some("0-1".to_owned()),
                cpuset_mems: Some("0".to_owned()),
                ..Resources::default()
            },
            shm_size: Some(65536),
            squash: true,
            network: NetworkMode::None,
            platforms: vec!["linux/arm64".parse().unwrap()],
            targets: vec![Target {
                stage: Some("t".to_owned()),
                names: names.map(|name| name.parse().unwrap()).to_vec(),
            }],
            no_cache: true,
            pull: true,
            push: true,
            cgroup_parent: Some("p".to_owned()),
            labels: BTreeMap::from([("l".to_owned(), "v".to_owned())]),
            ulimits: vec![("nofile".to_owned(), 1, u64::MAX)],
            cache_from: vec![CacheImport {
                location: CacheLocation::Registry("docker.io/library/c:latest".parse().unwrap()),
            }],
            ..build::Request::default()
        };
        assert_eq!(request, expected);
    }

    #[test]
    fn wrong_parameters() {
        for (query, part) in [
            ("t=Bad", "Bad"),
            ("buildargs=x", "buildargs"),
            ("version=3", "invalid version 3"),
            ("version=2", "not implemented"),
            ("memory=x", "memory"),
            ("cpushares=-1", "cpushares"),
            ("platform=a/b/c/d", "platform"),
            ("networkmode=container:x", "networkmode"),
            ("extrahosts=nothing", "add-host"),
            ("ulimits=[{\"Name\":\"a\",\"Soft\":-2}]", "ulimit"),
            ("outputs=[{\"Type\":\"tar\"}]", "output type"),
            ("securityopt=[\"x\"]", "security options"),
        ] {
            let message = read(query).unwrap_err();
            assert!(message.contains(part), "{query}: {message}");
        }
    }
}
