//! What a build takes from this machine besides its context: environment, docker's configuration, secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use cooper_daemon::api::{AuthConfig, Bytes, MAX_SECRET};
use cooper_daemon::build::{Credentials, credentials_for};
use serde_json::Value;

use crate::commands::create::usage;
use crate::failure::{Failure, Result};
use crate::settings::build::SecretSource;
use crate::settings::values;

/// Variables that docker forwards from `proxies` of its configuration, with their keys there.
const PROXIES: [(&str, &str); 5] = [
    ("HTTP_PROXY", "httpProxy"),
    ("HTTPS_PROXY", "httpsProxy"),
    ("FTP_PROXY", "ftpProxy"),
    ("NO_PROXY", "noProxy"),
    ("ALL_PROXY", "allProxy"),
];
/// Docker Hub's key in docker's configuration.
const HUB: &str = "https://index.docker.io/v1/";

/// docker's `config.json`; null when there is none.
pub(super) fn docker_config() -> Result<Value> {
    let directory = match std::env::var_os("DOCKER_CONFIG").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => match std::env::var_os("HOME") {
            Some(home) => Path::new(&home).join(".docker"),
            None => return Ok(Value::Null),
        },
    };
    let path = directory.join("config.json");
    if !path.exists() {
        return Ok(Value::Null);
    }
    let text = values::read_small(&path).map_err(Failure::new)?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{} is not valid JSON: {error}", path.display())))
}

/// `--build-arg` with what is forwarded without being asked for: SOURCE_DATE_EPOCH of the environment, as buildx does, and
/// docker's `proxies`, of which those for `host` go before `default`. A name without a value anywhere is left out.
pub(super) fn build_args(
    flags: &[String],
    config: &Value,
    host: &str,
    own: &dyn Fn(&str) -> Option<String>,
) -> BTreeMap<String, Option<String>> {
    let mut all = BTreeMap::new();
    let proxies = &config["proxies"];
    let proxies = proxies.get(host).unwrap_or(&proxies["default"]);
    for (name, key) in PROXIES {
        if let Some(value) = proxies[key].as_str().filter(|value| !value.is_empty()) {
            all.insert(name.to_owned(), Some(value.to_owned()));
            all.insert(name.to_lowercase(), Some(value.to_owned()));
        }
    }
    let epoch = own("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty());
    all.extend(epoch.map(|value| ("SOURCE_DATE_EPOCH".to_owned(), Some(value))));
    for flag in flags {
        match flag.split_once('=') {
            Some((name, value)) => {
                all.insert(name.to_owned(), Some(value.to_owned()));
            }
            None => all.extend(own(flag).map(|value| (flag.clone(), Some(value)))),
        }
    }
    all
}

/// The value of a secret.
pub(super) fn secret(id: &str, source: &SecretSource) -> Result<Bytes> {
    let value = match source {
        SecretSource::Variable(name) => {
            use std::os::unix::ffi::OsStringExt;
            let value = std::env::var_os(name).ok_or_else(|| {
                usage(format!(
                    "--secret id={id}: environment variable {name} is not set"
                ))
            })?;
            Bytes::from(value.into_vec())
        }
        SecretSource::File(path) => {
            let fail = |error: std::io::Error| {
                usage(format!(
                    "--secret id={id}: cannot read {}: {error}",
                    path.display()
                ))
            };
            // Of full size at once: a buffer that grows leaves copies behind.
            let mut value = Vec::with_capacity(MAX_SECRET + 2);
            let file = std::fs::File::open(path).map_err(fail)?;
            let read = file.take(MAX_SECRET as u64 + 1).read_to_end(&mut value);
            let value = Bytes::from(value);
            read.map_err(fail)?;
            value
        }
    };
    if value.0.len() > MAX_SECRET {
        return Err(usage(format!("--secret id={id}: longer than {MAX_SECRET} bytes")));
    }
    Ok(value)
}

/// Checks that an ssh agent's socket is one, and makes its path absolute.
pub(super) fn agent(id: &str, path: &Path) -> Result<PathBuf> {
    let fail = |why: &str| usage(format!("--ssh {id}={}: {why}", path.display()));
    let found = std::fs::metadata(path).map_err(|error| fail(&error.to_string()))?;
    if found.file_type().is_socket() {
        return std::path::absolute(path).map_err(|error| fail(&error.to_string()));
    }
    Err(fail("not the socket of an ssh agent").hint(format!(
        "load a key into an agent: eval $(ssh-agent); ssh-add {}; then --ssh {id}",
        path.display()
    )))
}

/// `X-Registry-Config`: what docker's configuration and its credential helpers know; none when they know nothing.
pub(super) async fn registry_config(config: &Value) -> Result<Option<String>> {
    let keys = |name: &str| config[name].as_object().into_iter().flat_map(|all| all.keys());
    let servers: BTreeSet<&String> = keys("auths").chain(keys("credHelpers")).collect();
    let mut all = BTreeMap::new();
    for server in servers {
        let bare = server
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let host = match server.as_str() {
            HUB => "docker.io",
            _ => bare.split('/').next().unwrap_or(bare),
        };
        // A helper that fails only matters for its own registry, which then says that it wants credentials.
        let auth = match credentials_for(host).await {
            Ok(Credentials::Basic { username, password }) => AuthConfig {
                username,
                password,
                ..AuthConfig::default()
            },
            Ok(Credentials::IdentityToken(identitytoken)) => AuthConfig {
                identitytoken,
                ..AuthConfig::default()
            },
            Ok(Credentials::Anonymous) => continue,
            Err(error) => {
                crate::commands::print::warning(&error.to_string());
                continue;
            }
        };
        all.insert(server, auth);
    }
    if all.is_empty() {
        return Ok(None);
    }
    let text = serde_json::to_vec(&all)?;
    Ok(Some(base64::engine::general_purpose::URL_SAFE.encode(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments() {
        let own = |name: &str| match name {
            "SOURCE_DATE_EPOCH" => Some("1".to_owned()),
            "HOME" => Some("/root".to_owned()),
            _ => None,
        };
        let check = |flags: &[&str], config: &Value, expected: &[&str]| {
            let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
            let got: Vec<_> = build_args(&flags, config, "unix:///x", &own)
                .into_iter()
                .map(|(name, value)| format!("{name}={}", value.unwrap_or_default()))
                .collect();
            assert_eq!(got, expected, "{flags:?}");
        };
        check(
            &["A=b=c", "HOME", "UNSET", "SOURCE_DATE_EPOCH=2"],
            &Value::Null,
            &["A=b=c", "HOME=/root", "SOURCE_DATE_EPOCH=2"],
        );
        let config = json!({"proxies": {"default": {"httpProxy": "http://p", "noProxy": ""}}});
        check(
            &["http_proxy=mine"],
            &config,
            &["HTTP_PROXY=http://p", "SOURCE_DATE_EPOCH=1", "http_proxy=mine"],
        );
        let config =
            json!({"proxies": {"default": {"httpProxy": "http://p"}, "unix:///x": {"ftpProxy": "f"}}});
        check(
            &[],
            &config,
            &["FTP_PROXY=f", "SOURCE_DATE_EPOCH=1", "ftp_proxy=f"],
        );
    }

    #[test]
    fn secrets_have_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let read = |size: usize| {
            std::fs::write(&path, vec![b'x'; size]).unwrap();
            secret("s", &SecretSource::File(path.clone()))
                .map(|value| value.0.len())
                .ok()
        };
        assert_eq!(read(0), Some(0));
        assert_eq!(read(MAX_SECRET), Some(MAX_SECRET));
        assert_eq!(read(MAX_SECRET + 1), None);
        assert!(secret("s", &SecretSource::File(directory.path().join("none"))).is_err());
        assert!(secret("s", &SecretSource::Variable("COOPER_NO_SUCH".to_owned())).is_err());
        assert!(agent("a", &path).unwrap_err().to_string().contains("ssh-add"));
    }
}
