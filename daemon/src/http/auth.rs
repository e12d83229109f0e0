//! Credentials that clients send along: `X-Registry-Auth` and `X-Registry-Config`.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base64::Engine as _;
use cooper_registry::client::Credentials;
use serde::de::DeserializeOwned;

use crate::api::AuthConfig;

/// Docker Hub's key in credential files.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// `X-Registry-Auth`; a bad value counts as none, as in Docker.
pub(crate) fn registry_auth(headers: &HeaderMap) -> Credentials {
    decode(headers, "x-registry-auth").map_or(Credentials::Anonymous, |auth: AuthConfig| credentials(&auth))
}

/// `X-Registry-Config`, by registry host.
pub(crate) fn registry_config(headers: &HeaderMap) -> BTreeMap<String, Credentials> {
    let all: BTreeMap<String, AuthConfig> = decode(headers, "x-registry-config").unwrap_or_default();
    all.iter()
        .map(|(server, auth)| (host(server), credentials(auth)))
        .collect()
}

fn decode<T: DeserializeOwned>(headers: &HeaderMap, name: &str) -> Option<T> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
    let text = headers.get(name)?.to_str().ok()?;
    let bytes = URL_SAFE
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .or_else(|_| STANDARD.decode(text));
    serde_json::from_slice(&bytes.ok()?).ok()
}

fn host(server: &str) -> String {
    if server == HUB_KEY {
        return cooper_registry::reference::DEFAULT_DOMAIN.to_owned();
    }
    let bare = server
        .trim_start_matches("https://")
        .trim_start_matches("http://");
    bare.split('/').next().unwrap_or(bare).to_owned()
}

fn credentials(auth: &AuthConfig) -> Credentials {
    if !auth.identitytoken.is_empty() {
        return Credentials::IdentityToken(auth.identitytoken.clone());
    }
    if !auth.username.is_empty() {
        return Credentials::Basic {
            username: auth.username.clone(),
            password: auth.password.clone(),
        };
    }
    let pair = base64::engine::general_purpose::STANDARD
        .decode(&auth.auth)
        .ok()
        .and_then(|b| String::from_utf8(b).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((username, password)) => Credentials::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        },
        None => Credentials::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_values_are_anonymous() {
        let check = |value: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-registry-auth", value.parse().unwrap());
            let text = match registry_auth(&headers) {
                Credentials::Anonymous => "anonymous".to_owned(),
                Credentials::Basic { username, password } => format!("{username}:{password}"),
                Credentials::IdentityToken(token) => token,
            };
            assert_eq!(text, expected);
        };
        let encode = |json: &str| base64::engine::general_purpose::URL_SAFE.encode(json);
        check("!!", "anonymous");
        check(&encode("{}"), "anonymous");
        check(&encode(r#"{"username":"a","password":"b"}"#), "a:b");
        check(&encode(r#"{"auth":"YTpi"}"#), "a:b");
        check(&encode(r#"{"identitytoken":"t"}"#), "t");
        assert_eq!(host("https://index.docker.io/v1/"), "docker.io");
        assert_eq!(host("http://localhost:5000/v2/"), "localhost:5000");
    }
}
