//! `POST /containers/create`.

use std::fmt::Write as _;
use std::path::Path;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use cooper_registry::store::Image;
use cooper_runner::cgroup::{Resources, is_delegated};
use cooper_runner::container;
use cooper_runner::spec::{MountSource, MountSpec, NetworkMode, Propagation};

use crate::api;
use crate::engine::{Engine, METADATA_FILE, Metadata, attributes};
use crate::error::{ApiError, ApiResult, json};
use crate::http::body;
use crate::http::query::Query;
use crate::routes::system::cpus;
use crate::translate::{
    Input, Translated, generate_name, is_valid_name, merge_image_config, normalise_host_config, translate,
};

/// Limits were asked of an engine that may make no groups.
const NO_CGROUPS: &str = "No cgroups are delegated to this user. Limitation discarded.";

/// Attempts to find a free generated name; with digits there are 160 000.
const NAME_ATTEMPTS: usize = 20;
/// Our `/etc/hosts`, written only with `--add-host`.
const HOSTS_FILE: &str = "hosts.extra";

pub(super) async fn create(
    State(engine): State<Engine>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> ApiResult {
    let name = query.get("name").trim_start_matches('/').to_owned();
    let platform = query.get("platform").to_owned();
    let request: api::CreateRequest = body::json(&headers, body).await?;
    let answer = engine
        .blocking(move |engine| create_container(engine, &name, &platform, request))
        .await?;
    Ok(json(StatusCode::CREATED, &answer))
}

fn create_container(
    engine: &Engine,
    name: &str,
    platform: &str,
    mut request: api::CreateRequest,
) -> ApiResult<api::CreateResponse> {
    if !name.is_empty() && !is_valid_name(name) {
        return Err(ApiError::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    if request.config.image.is_empty() {
        return Err(ApiError::bad("config.Image must not be empty"));
    }
    normalise_host_config(&mut request)?;
    let image = engine.image(&request.config.image)?;
    check_platform(&request.config.image, &image, platform)?;
    merge_image_config(&mut request.config, &image.config.config);
    let id = random_id()?;
    if request.config.hostname.is_empty() {
        request.config.hostname = match request.host_config.network_mode.as_str() {
            "host" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ => id[..12].to_owned(),
        };
    }
    // Held until the container is visible: a collection that ran before that would drop the named lease as ownerless.
    let guard = engine.store()?.lease()?;
    guard.manifest(&image.manifest_digest)?;
    for diff_id in &image.config.rootfs.diff_ids {
        guard.layer(diff_id)?;
    }
    let lowers = engine.store()?.unpack_image(&image)?;
    let dir = engine.containers()?.dir(&id);
    let input = Input {
        id: &id,
        request: &request,
        lowers: &lowers,
        dir: &dir,
        cpus: cpus(),
    };
    let mut translated = translate(&input)?;
    if translated.spec.resources != Resources::default() && !is_delegated() {
        translated.warnings.push(NO_CGROUPS.to_owned());
    }
    prepare_host_paths(&translated)?;
    engine.pin_image(&id, &image)?;
    let created = publish(engine, name, &id, &image, request, &mut translated, &dir);
    if created.is_err() {
        engine.unpin_image(&id)?;
    }
    created?;
    drop(guard);
    Ok(api::CreateResponse {
        id,
        warnings: translated.warnings,
    })
}

/// Makes the container visible under `name`, or under a generated one.
fn publish(
    engine: &Engine,
    name: &str,
    id: &str,
    image: &Image,
    request: api::CreateRequest,
    translated: &mut Translated,
    dir: &Path,
) -> ApiResult<()> {
    let mut files = Vec::new();
    if !translated.extra_hosts.is_empty() {
        files.push((HOSTS_FILE, hosts_file(&request, translated)?));
        let source = MountSource::Bind {
            path: dir.join(HOSTS_FILE),
            propagation: Propagation::default(),
        };
        translated.spec.mounts.push(MountSpec {
            target: "/etc/hosts".into(),
            source,
            readonly: false,
        });
    }
    let points = std::mem::take(&mut translated.points);
    let metadata = Metadata::new(
        id.to_owned(),
        image.id.to_string(),
        request.config,
        request.host_config,
        points,
    );
    let bytes = metadata
        .encode()
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let attributes = serde_json::to_vec(&attributes(&metadata.config));
    files.push((
        container::ATTRIBUTES_FILE,
        attributes.map_err(|error| ApiError::internal(error.to_string()))?,
    ));
    files.push((METADATA_FILE, bytes));
    let containers = engine.containers()?;
    if !name.is_empty() {
        return Ok(containers.create(name, &translated.spec, &files)?);
    }
    let mut attempt = 0;
    loop {
        let mut random = [0; 3];
        getrandom::fill(&mut random).map_err(|error| ApiError::internal(error.to_string()))?;
        match containers.create(&generate_name(random, attempt), &translated.spec, &files) {
            Ok(()) => return Ok(()),
            Err(container::Error::NameInUse { .. }) if attempt < NAME_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn random_id() -> ApiResult<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ApiError::internal(error.to_string()))?;
    let mut id = String::with_capacity(64);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

/// `linux/amd64`, `linux`, `amd64`: what is given must fit.
fn check_platform(name: &str, image: &Image, platform: &str) -> ApiResult<()> {
    let mut parts = platform.split('/').filter(|part| !part.is_empty());
    let have = [image.config.os.as_str(), image.config.architecture.as_str()];
    let fits = match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(one), None) => have.contains(&one),
        (Some(os), Some(architecture)) => have == [os, architecture],
    };
    if fits {
        return Ok(());
    }
    Err(ApiError::not_found(format!(
        "image with reference {name} was found but does not provide the specified platform ({platform})"
    )))
}

/// Sources of binds: made when missing for `Binds`, as Docker does, and required for `Mounts`.
fn prepare_host_paths(translated: &Translated) -> ApiResult<()> {
    for path in &translated.require {
        if std::fs::symlink_metadata(path).is_err() {
            return Err(ApiError::bad(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            )));
        }
    }
    for path in &translated.create {
        if std::fs::metadata(path).is_err() {
            std::fs::create_dir_all(path).map_err(|error| {
                ApiError::internal(format!(
                    "error while creating mount source path '{}': {error}",
                    path.display()
                ))
            })?;
        }
    }
    Ok(())
}

/// `/etc/hosts` with the entries of `--add-host` at its end.
fn hosts_file(request: &api::CreateRequest, translated: &Translated) -> ApiResult<Vec<u8>> {
    let mut text = match translated.spec.network {
        NetworkMode::Host => std::fs::read_to_string("/etc/hosts")
            .map_err(|error| ApiError::internal(format!("failed to read /etc/hosts: {error}")))?,
        NetworkMode::None => format!(
            "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
             ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n127.0.0.1\t{}\n",
            request.config.hostname
        ),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    for (name, address) in &translated.extra_hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    Ok(text.into_bytes())
}
