//! System: ping, version, info, disk usage, credentials.

use axum::Extension;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use cooper_builder::cache::{self, CacheItem, Filter};
use cooper_registry::digest::Digest;
use cooper_registry::oci::Platform;
use cooper_registry::store::Usage;
use cooper_runner::cgroup;
use cooper_runner::container::Status;
use cooper_runner::rootless;

use super::containers::summary::{self, summarise};
use super::images::list::{for_version, summaries};
use crate::api;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, json};
use crate::http::body;
use crate::http::query::Query;
use crate::http::version::ApiVersion;

pub(super) fn routes() -> Router<Engine> {
    Router::new()
        .route("/_ping", get(ping).head(ping))
        .route("/version", get(version))
        .route("/info", get(info))
        .route("/system/df", get(disk_usage))
        .route("/auth", post(auth))
}

async fn ping(request: axum::extract::Request) -> Response {
    let headers = [
        // 1: the classic POST /build, which is what this engine answers.
        (HeaderName::from_static("builder-version"), "1"),
        (HeaderName::from_static("swarm"), "inactive"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::PRAGMA, "no-cache"),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
    ];
    if request.method() == axum::http::Method::HEAD {
        return (
            StatusCode::OK,
            headers,
            [(header::CONTENT_LENGTH, "0")],
            Body::empty(),
        )
            .into_response();
    }
    (StatusCode::OK, headers, "OK").into_response()
}

fn kernel_version() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

async fn version() -> Response {
    let platform = Platform::host();
    let details = [
        ("ApiVersion", api::API_VERSION.to_owned()),
        ("Arch", platform.architecture.clone()),
        ("Experimental", "false".to_owned()),
        ("KernelVersion", kernel_version()),
        ("MinAPIVersion", api::MIN_API_VERSION.to_owned()),
        ("Os", platform.os.clone()),
    ];
    let engine = api::Component {
        name: "Engine".to_owned(),
        version: crate::VERSION.to_owned(),
        details: details
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    };
    let answer = api::Version {
        platform: api::Platform {
            name: "Cooper".to_owned(),
        },
        components: vec![engine],
        version: crate::VERSION.to_owned(),
        api_version: api::API_VERSION.to_owned(),
        min_api_version: api::MIN_API_VERSION.to_owned(),
        git_commit: String::new(),
        go_version: String::new(),
        os: platform.os,
        arch: platform.architecture,
        kernel_version: kernel_version(),
        build_time: String::new(),
    };
    json(StatusCode::OK, &answer)
}

async fn info(State(engine): State<Engine>) -> ApiResult {
    engine
        .blocking(|engine| Ok(json(StatusCode::OK, &describe(engine)?)))
        .await
}

fn describe(engine: &Engine) -> ApiResult<api::Info> {
    let containers = engine.all_containers()?;
    let count = |wanted: &[Status]| {
        let matching = containers
            .iter()
            .filter(|(_, state)| wanted.contains(&state.status))
            .count();
        i64::try_from(matching).unwrap_or(i64::MAX)
    };
    let images = engine.store()?.images()?.len();
    let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let confined = rootless::in_user_namespace();
    let limits = cgroup::is_delegated();
    let cgroup_version = match cgroup::detect() {
        cgroup::Layout::V1 => "1",
        cgroup::Layout::V2 => "2",
    };
    Ok(api::Info {
        id: engine_id(engine, &read("/etc/machine-id")),
        containers: number(containers.len()),
        containers_running: count(&[Status::Running, Status::Restarting]),
        containers_paused: count(&[Status::Paused]),
        containers_stopped: count(&[Status::Created, Status::Exited, Status::Dead]),
        images: number(images),
        driver: "overlay2".to_owned(),
        driver_status: [
            ("Supports d_type", "true"),
            ("Store", "one for images, layers and the registry"),
        ]
        .map(|(key, value)| [key.to_owned(), value.to_owned()])
        .to_vec(),
        plugins: api::Plugins {
            volume: Vec::new(),
            network: ["host", "null"].map(str::to_owned).to_vec(),
            authorization: None,
            log: ["json-file", "none"].map(str::to_owned).to_vec(),
        },
        memory_limit: limits,
        swap_limit: limits,
        cpu_cfs_period: limits,
        cpu_cfs_quota: limits,
        cpu_shares: limits,
        cpu_set: limits,
        pids_limit: limits,
        ipv4_forwarding: read("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        n_fd: std::fs::read_dir("/proc/self/fd").map_or(-1, |entries| number(entries.count())),
        system_time: jiff::Timestamp::now().to_string(),
        logging_driver: "json-file".to_owned(),
        // Docker's word for a daemon that has no groups to give.
        cgroup_driver: if limits { "cgroupfs" } else { "none" }.to_owned(),
        cgroup_version: cgroup_version.to_owned(),
        kernel_version: kernel_version(),
        operating_system: operating_system(&read("/etc/os-release")),
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: serde_json::json!({
            "IndexConfigs": {
                "docker.io": { "Mirrors": [], "Name": "docker.io", "Official": true, "Secure": true }
            },
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "Mirrors": null,
        }),
        ncpu: number(cpus()),
        mem_total: memory_total(&read("/proc/meminfo")),
        docker_root_dir: engine.config().data_root.display().to_string(),
        name,
        server_version: crate::VERSION.to_owned(),
        runtimes: [(
            "cooper".to_owned(),
            api::Runtime {
                path: "cooper".to_owned(),
            },
        )]
        .into(),
        default_runtime: "cooper".to_owned(),
        swarm: api::SwarmInfo {
            local_node_state: "inactive".to_owned(),
            ..Default::default()
        },
        live_restore_enabled: true,
        security_options: [
            ("name=seccomp,profile=builtin", true),
            ("name=rootless", confined),
        ]
        .into_iter()
        .filter(|(_, is_on)| *is_on)
        .map(|(option, _)| option.to_owned())
        .collect(),
        warnings: (!limits).then(|| vec!["No cgroups are delegated to this user: no limits".to_owned()]),
        ..api::Info::default()
    })
}

/// Stable for one data root on one machine, without a file to keep it in.
fn engine_id(engine: &Engine, machine_id: &str) -> String {
    let text = format!("{}\n{}", machine_id.trim(), engine.config().data_root.display());
    let hex = Digest::sha256(text.as_bytes()).to_string().replace("sha256:", "");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..32]
    )
}

/// CPUs that this process may use.
pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn operating_system(os_release: &str) -> String {
    let pretty = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn memory_total(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

async fn disk_usage(
    State(engine): State<Engine>,
    Extension(version): Extension<ApiVersion>,
    query: Query,
) -> ApiResult {
    let filters = super::build::du_filters(&query)?;
    let wanted: Vec<String> = query.all("type").map(str::to_owned).collect();
    let wants = move |kind: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == kind);
    engine
        .blocking(move |engine| {
            let mut answer = usage(engine, &wants, &filters)?;
            for_version(&mut answer.images, version);
            Ok(json(StatusCode::OK, &answer))
        })
        .await
}

fn usage(engine: &Engine, wants: &dyn Fn(&str) -> bool, filters: &[Filter]) -> ApiResult<api::DiskUsage> {
    // The build cache is walked by itself.
    let others = ["image", "container", "volume"].into_iter().any(wants);
    let usage = if others {
        engine.store()?.usage()?
    } else {
        Usage::default()
    };
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut answer = api::DiskUsage {
        layers_size: signed(usage.layers_bytes.saturating_add(usage.blobs_bytes)),
        cooper_total: Some(usage.total_bytes),
        cooper_reclaimable: Some(usage.reclaimable_bytes),
        ..api::DiskUsage::default()
    };
    let containers = engine.all_containers()?;
    if wants("image") {
        answer.images = summaries(engine, &engine.store()?.images()?)?;
        for image in &mut answer.images {
            let count = containers
                .iter()
                .filter(|(metadata, _)| metadata.image_id == image.id)
                .count();
            image.containers = i64::try_from(count).unwrap_or(i64::MAX);
            if let Some((_, total, unique)) = usage.images.iter().find(|(id, ..)| id.to_string() == image.id)
            {
                image.size = signed(*total);
                image.shared_size = signed(total.saturating_sub(*unique));
            }
        }
    }
    if wants("container") {
        let mut names = summary::ImageNames::new(engine);
        for (metadata, state) in &containers {
            let mut entry = match summarise(engine, metadata, state, &mut names) {
                Ok(entry) => entry,
                Err(error) if error.status == StatusCode::NOT_FOUND => continue,
                Err(error) => return Err(error),
            };
            summary::add_sizes(engine, metadata, &mut entry)?;
            answer.containers.push(entry);
        }
    }
    if wants("build-cache") {
        let items = cache::items(engine.store()?).map_err(|error| ApiError::internal(error.to_string()))?;
        let items = items
            .into_iter()
            .filter(|item| filters.iter().all(|filter| filter.matches(item)));
        answer.build_cache = items.map(cache_item).collect();
    }
    Ok(answer)
}

fn cache_item(item: CacheItem) -> api::BuildCacheItem {
    let time = |seconds: i64| {
        jiff::Timestamp::from_second(seconds)
            .map_or_else(|_| api::ZERO_TIME.to_owned(), |time| time.to_string())
    };
    api::BuildCacheItem {
        id: item.id,
        parents: Some(item.parents).filter(|parents| !parents.is_empty()),
        kind: item.kind.as_str().to_owned(),
        description: item.description,
        in_use: item.in_use,
        shared: item.shared,
        size: i64::try_from(item.bytes).unwrap_or(i64::MAX),
        // When a cache mount was made is not known.
        created_at: time(item.created_at.unwrap_or(item.used_at)),
        last_used_at: Some(time(item.used_at)),
        usage_count: i64::try_from(item.uses).unwrap_or(i64::MAX),
    }
}

async fn auth(headers: HeaderMap, body: Body) -> ApiResult {
    let _: api::AuthConfig = body::json(&headers, body).await?;
    Err(ApiError::unavailable(
        "checking credentials (they are used as given by pull, push and build)",
    ))
}
