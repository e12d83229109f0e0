//! Tokens (distribution `docs/content/spec/auth/token.md` and `oauth.md`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::credentials::Credentials;
use super::error::{Error, root_cause};
use super::http::{BodyError, IDLE, describe, limited, lock};
use super::retry;
use crate::digest::Digest;

const MAX_TOKEN_BYTES: usize = 1 << 20;
/// What a token is good for if its service does not say (the specification's default).
const DEFAULT_EXPIRY: u64 = 60;
const MAX_CACHED: usize = 256;

/// A token to ask for.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) realm: String,
    pub(super) service: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) credentials: Credentials,
}

/// Tokens by what they were asked for, until they expire.
#[derive(Clone, Default)]
pub(super) struct Tokens(Arc<Mutex<BTreeMap<Key, (Instant, HeaderValue)>>>);

type Key = (String, Option<String>, Vec<String>, Digest);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(..)")
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// The `Authorization` header for user and password.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Basic { username, password } = credentials else {
        return None;
    };
    secret(&format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    ))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The `Authorization` header with a token for `grant`, cached unless `renew`. `secure`: the registry is reached by
/// verified TLS, so credentials may not go to a token service without.
pub(super) async fn token(
    client: &reqwest::Client,
    tokens: &Tokens,
    host: &str,
    grant: &Grant,
    renew: bool,
    secure: bool,
) -> Result<HeaderValue, Error> {
    let Grant {
        realm,
        service,
        scopes,
        credentials,
    } = grant;
    let key = (
        realm.clone(),
        service.clone(),
        scopes.clone(),
        credentials.fingerprint(),
    );
    let now = Instant::now();
    let cached = lock(&tokens.0)
        .get(&key)
        .filter(|(expiry, _)| !renew && *expiry > now)
        .cloned();
    if let Some((_, value)) = cached {
        return Ok(value);
    }
    let protocol = |reason: &str| Error::Protocol {
        host: host.to_owned(),
        path: "/v2/".to_owned(),
        reason: format!("token service {realm}: {reason}"),
    };
    let url = Url::parse(realm).map_err(|_| protocol("malformed URL"))?;
    match url.scheme() {
        "https" => {}
        "http" if !secure => {}
        _ => return Err(protocol("not https")),
    }
    let answer = ask(client, host, url, grant).await?;
    let token = answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty());
    let value = token.and_then(|token| secret(&format!("Bearer {token}")));
    let value = value.ok_or_else(|| protocol("answer without a usable token"))?;
    // A tenth early, so that it does not expire on the way.
    let life = Duration::from_secs(answer.expires_in.unwrap_or(DEFAULT_EXPIRY).min(86_400)).mul_f64(0.9);
    let mut cache = lock(&tokens.0);
    cache.retain(|_, (expiry, _)| *expiry > now);
    if cache.len() < MAX_CACHED {
        cache.insert(key, (now + life, value.clone()));
    }
    Ok(value)
}

async fn ask(client: &reqwest::Client, host: &str, url: Url, grant: &Grant) -> Result<Answer, Error> {
    let failed = |attempts: u32, cause: String| Error::Broken {
        host: host.to_owned(),
        path: format!(" (token service {})", grant.realm),
        attempts,
        cause,
    };
    let mut attempt = 1;
    loop {
        let sent = tokio::time::timeout(IDLE, request(client, url.clone(), grant).send()).await;
        let cause = match sent {
            Ok(Ok(response)) => {
                let status = response.status();
                let wait = retry::delay(attempt, Some(response.headers()));
                if !retry::passing(status) || attempt >= retry::ATTEMPTS {
                    let body = match limited(response, MAX_TOKEN_BYTES).await {
                        Ok(body) => body,
                        Err(BodyError::TooLarge) => {
                            return Err(failed(attempt, "answer too large".to_owned()));
                        }
                        Err(BodyError::Transport(cause)) => return Err(failed(attempt, cause)),
                    };
                    return read(host, grant, status, &body);
                }
                tokio::time::sleep(wait).await;
                attempt += 1;
                continue;
            }
            Ok(Err(error)) => root_cause(&error),
            Err(_) => format!("no answer within {} s", IDLE.as_secs()),
        };
        if attempt >= retry::ATTEMPTS {
            return Err(failed(attempt, cause));
        }
        tokio::time::sleep(retry::delay(attempt, None)).await;
        attempt += 1;
    }
}

fn read(host: &str, grant: &Grant, status: StatusCode, body: &[u8]) -> Result<Answer, Error> {
    let path = format!(" (token service {})", grant.realm);
    if status.is_success() {
        // The parser's own text could quote the token.
        return serde_json::from_slice(body).map_err(|_| Error::Protocol {
            host: host.to_owned(),
            path,
            reason: "answer is not JSON with a token".to_owned(),
        });
    }
    let detail = describe(body).unwrap_or_else(|| format!("status {}", status.as_u16()));
    let host = host.to_owned();
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST => Error::Unauthorized { host, path, detail },
        StatusCode::FORBIDDEN => Error::Denied { host, path, detail },
        _ => Error::Status {
            host,
            path,
            status: status.as_u16(),
            detail,
        },
    })
}

/// GET with scopes for passwords and anonymous use, POST `refresh_token` for identity tokens.
fn request(client: &reqwest::Client, mut url: Url, grant: &Grant) -> reqwest::RequestBuilder {
    if let Credentials::IdentityToken(token) = &grant.credentials {
        let mut form = vec![
            ("grant_type", "refresh_token"),
            ("client_id", "cooper"),
            ("refresh_token", token),
        ];
        let scope = grant.scopes.join(" ");
        form.push(("scope", &scope));
        form.extend(grant.service.as_deref().map(|service| ("service", service)));
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let body: Vec<_> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", encode(value)))
            .collect();
        return client
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.join("&"));
    }
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &grant.service {
            query.append_pair("service", service);
        }
        for scope in &grant.scopes {
            query.append_pair("scope", scope);
        }
        if let Credentials::Basic { username, .. } = &grant.credentials {
            query.append_pair("account", username);
        }
    }
    let request = client.get(url);
    match basic(&grant.credentials) {
        Some(value) => request.header(AUTHORIZATION, value),
        None => request,
    }
}
