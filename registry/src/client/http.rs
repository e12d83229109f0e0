//! Requests to one registry: authorization, redirects, retries, bounded answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::auth::{self, Grant, Tokens};
use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::endpoint::Endpoint;
use super::error::{Error, root_cause};
use super::retry;

const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence of a registry in an answer.
pub(super) const IDLE: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 5;
/// Bytes of an error body that are looked at.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// What all registries share: connections and tokens. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Http {
    clients: Arc<Mutex<BTreeMap<(bool, bool), reqwest::Client>>>,
    pub(super) tokens: Tokens,
}

impl Http {
    /// The client for verified or unverified TLS, through the environment's proxy or not. Made at first use: loading
    /// certificates takes time that most commands need not spend.
    pub(super) fn client(&self, insecure: bool, direct: bool) -> Result<reqwest::Client, Error> {
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(&(insecure, direct)) {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("cooper/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .http1_only()
            .tls_danger_accept_invalid_certs(insecure);
        if direct {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| Error::Setup(root_cause(&error)))?;
        clients.insert((insecure, direct), client.clone());
        Ok(client)
    }
}

/// A lock whose data is whole after every statement: a panic elsewhere does not spoil it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One repository of one registry that answers.
#[derive(Debug)]
pub(super) struct Remote {
    http: Http,
    client: reqwest::Client,
    place: Endpoint,
    /// Host as in the reference, for texts.
    pub(super) host: String,
    /// Path of the repository.
    pub(super) repo: String,
    credentials: Credentials,
    challenges: Mutex<Vec<Challenge>>,
    scopes: Mutex<BTreeSet<String>>,
}

/// A request that can be made again.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    pub(super) fn header(mut self, name: reqwest::header::HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }
}

impl Remote {
    /// Finds out at which of `places` the registry answers, and how it wants to be authorized.
    pub(super) async fn connect(
        http: &Http,
        host: &str,
        places: Vec<Endpoint>,
        repo: &str,
        actions: &str,
        credentials: Credentials,
    ) -> Result<Self, Error> {
        let mut cause = "no usable address".to_owned();
        for place in places {
            let client = http.client(place.insecure, place.direct)?;
            let url = join(&place.base, "v2/");
            let request = client.get(url).send();
            let response = match tokio::time::timeout(IDLE, request).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => {
                    cause = root_cause(&error);
                    continue;
                }
                Err(_) => {
                    cause = format!("no answer within {} s", IDLE.as_secs());
                    continue;
                }
            };
            let challenges = if response.status() == StatusCode::UNAUTHORIZED {
                challenges(&response)
            } else {
                vec![]
            };
            return Ok(Self {
                http: http.clone(),
                client,
                place,
                host: host.to_owned(),
                repo: repo.to_owned(),
                credentials,
                challenges: Mutex::new(challenges),
                scopes: Mutex::new(BTreeSet::from([format!("repository:{repo}:{actions}")])),
            });
        }
        Err(Error::Unreachable {
            host: host.to_owned(),
            cause,
        })
    }

    /// The URL of something in the repository.
    pub(super) fn url(&self, tail: &str) -> Url {
        join(&self.place.base, &format!("v2/{}/{tail}", self.repo))
    }

    /// Asks for a further scope with the next token.
    pub(super) fn add_scope(&self, scope: String) {
        lock(&self.scopes).insert(scope);
    }

    /// Makes a request: authorized, redirected (GET and HEAD), again after what may pass by itself. Gives whatever
    /// final answer the registry has.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, Error> {
        let mut attempt = 1;
        loop {
            let body = || Body::from(call.body.clone());
            match self.once(call, &body).await {
                Ok(response) if attempt < retry::ATTEMPTS && retry::passing(response.status()) => {
                    tokio::time::sleep(retry::delay(attempt, Some(response.headers()))).await;
                }
                Ok(response) => return Ok(response),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transport(cause)) if attempt >= retry::ATTEMPTS => {
                    return Err(self.broken(&call.url, attempt, cause));
                }
                Err(Failure::Transport(cause)) => {
                    tracing::debug!("{}{}: {cause}, trying again", self.host, call.url.path());
                    tokio::time::sleep(retry::delay(attempt, None)).await;
                }
            }
            attempt += 1;
        }
    }

    async fn once(&self, call: &Call, body: &(dyn Fn() -> Body + Sync)) -> Result<Response, Failure> {
        let request = self.exchange(call, body);
        match tokio::time::timeout(IDLE * 4, request).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Transport(format!(
                "no answer within {} s",
                (IDLE * 4).as_secs()
            ))),
        }
    }

    /// One attempt, with the new tokens and redirects that it takes. `body` is called for each request made.
    pub(super) async fn exchange(
        &self,
        call: &Call,
        body: &(dyn Fn() -> Body + Sync),
    ) -> Result<Response, Failure> {
        let mut url = call.url.clone();
        let mut redirects = 0;
        let mut refreshed = false;
        loop {
            let ours = url.origin() == self.place.base.origin();
            let mut headers = call.headers.clone();
            // Anything else would make proxies change what we verify.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            if ours && let Some(value) = self.authorization(refreshed).await? {
                headers.insert(AUTHORIZATION, value);
            }
            let request = self
                .client
                .request(call.method.clone(), url.clone())
                .headers(headers)
                .body(body());
            let response = request
                .send()
                .await
                .map_err(|error| Failure::Transport(root_cause(&error)))?;
            let status = response.status();
            if status == StatusCode::UNAUTHORIZED && ours && !refreshed {
                self.learn(challenges(&response));
                refreshed = true;
                continue;
            }
            let follow = matches!(call.method, Method::GET | Method::HEAD)
                && matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
            if !follow {
                return Ok(response);
            }
            redirects += 1;
            url = self.redirect(&url, &response, redirects)?;
        }
    }

    fn redirect(&self, from: &Url, response: &Response, count: usize) -> Result<Url, Failure> {
        let fail = |reason: &str| Failure::Final(self.protocol(from, reason));
        if count > MAX_REDIRECTS {
            return Err(fail("too many redirects"));
        }
        let location = header(response, &LOCATION).ok_or_else(|| fail("redirect without a Location"))?;
        let to = from
            .join(location)
            .map_err(|_| fail("redirect to a malformed URL"))?;
        match to.scheme() {
            "https" => Ok(to),
            "http" if self.place.insecure || from.scheme() == "http" => Ok(to),
            _ => Err(fail("redirect from https to another scheme")),
        }
    }

    /// Takes note of what the registry asked for beyond what we thought of.
    fn learn(&self, found: Vec<Challenge>) {
        for challenge in &found {
            if let Challenge::Bearer {
                scope: Some(scope), ..
            } = challenge
            {
                lock(&self.scopes).extend(scope.split(' ').map(str::to_owned));
            }
        }
        if !found.is_empty() {
            *lock(&self.challenges) = found;
        }
    }

    /// The `Authorization` header; `renew` asks for a new token although one may be cached.
    async fn authorization(&self, renew: bool) -> Result<Option<HeaderValue>, Failure> {
        let challenges = lock(&self.challenges).clone();
        let basic = challenges.contains(&Challenge::Basic);
        let bearer = challenges.into_iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, .. } => Some((realm, service)),
            Challenge::Basic => None,
        });
        let Some((realm, service)) = bearer else {
            return Ok(if basic {
                auth::basic(&self.credentials)
            } else {
                None
            });
        };
        let scopes = lock(&self.scopes).iter().cloned().collect();
        let grant = Grant {
            realm,
            service,
            scopes,
            credentials: self.credentials.clone(),
        };
        let client = &self.client;
        let secure = self.place.base.scheme() == "https" && !self.place.insecure;
        match auth::token(client, &self.http.tokens, &self.host, &grant, renew, secure).await {
            Ok(value) => Ok(Some(value)),
            Err(error) => match auth::basic(&self.credentials).filter(|_| basic) {
                Some(value) => Ok(Some(value)),
                None => Err(Failure::Final(error)),
            },
        }
    }

    pub(super) fn broken(&self, url: &Url, attempts: u32, cause: String) -> Error {
        Error::Broken {
            host: self.host.clone(),
            path: url.path().to_owned(),
            attempts,
            cause,
        }
    }

    pub(super) fn protocol(&self, url: &Url, reason: impl Into<String>) -> Error {
        Error::Protocol {
            host: self.host.clone(),
            path: url.path().to_owned(),
            reason: reason.into(),
        }
    }

    /// The error for an answer that is no success.
    pub(super) async fn refusal(&self, url: &Url, response: Response) -> Error {
        let status = response.status();
        let body = limited(response, MAX_ERROR_BYTES).await.unwrap_or_default();
        let detail = describe(&body).unwrap_or_else(|| {
            status
                .canonical_reason()
                .map_or_else(|| format!("status {}", status.as_u16()), str::to_lowercase)
        });
        let (host, path) = (self.host.clone(), url.path().to_owned());
        match status {
            StatusCode::UNAUTHORIZED => Error::Unauthorized { host, path, detail },
            StatusCode::FORBIDDEN => Error::Denied { host, path, detail },
            StatusCode::NOT_FOUND => Error::NotFound { host, path, detail },
            _ => Error::Status {
                host,
                path,
                status: status.as_u16(),
                detail,
            },
        }
    }
}

/// Why one attempt failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The connection; another attempt may do better.
    Transport(String),
    /// Anything that will be the same next time.
    Final(Error),
}

/// The text of a header.
pub(super) fn header<'a>(response: &'a Response, name: &reqwest::header::HeaderName) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// Why a bounded body could not be read.
#[derive(Debug)]
pub(super) enum BodyError {
    TooLarge,
    Transport(String),
}

/// A whole body of at most `limit` bytes.
pub(super) async fn limited(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = next_chunk(&mut response).await.map_err(BodyError::Transport)? {
        if bytes.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The next bytes of a body, `None` at its end; an error after too long a silence.
pub(super) async fn next_chunk(response: &mut Response) -> Result<Option<Bytes>, String> {
    match tokio::time::timeout(IDLE, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err(format!("no data for {} s", IDLE.as_secs())),
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    headers
        .filter_map(|value| value.to_str().ok())
        .flat_map(challenge::parse)
        .collect()
}

/// `base` ends with a slash and `tail` is made of checked names: joining cannot leave the base.
fn join(base: &Url, tail: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{tail}", base.path()));
    url
}

/// The errors in a registry's or token service's error body, on one line of bounded length.
pub(super) fn describe(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let text = |value: &serde_json::Value, key: &str| {
        value.get(key).and_then(|text| text.as_str()).map(str::to_owned)
    };
    let entries = value.get("errors").and_then(|errors| errors.as_array());
    let entries = entries.map(|errors| {
        let lines = errors
            .iter()
            .map(|entry| match (text(entry, "code"), text(entry, "message")) {
                (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {message}"),
                (code, message) => code.or(message).unwrap_or_default(),
            });
        let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        lines.dedup();
        lines.join("; ")
    });
    let found = entries
        .or_else(|| text(&value, "details"))
        .or_else(|| text(&value, "message"));
    let found = found
        .or_else(|| text(&value, "error_description"))
        .or_else(|| text(&value, "error"))?;
    let line: String = found
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(500)
        .collect();
    (!line.is_empty()).then_some(line)
}
