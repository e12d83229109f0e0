//! Web servers for builds: what ADD of URLs reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cooper_builder::build::{Web, WebRequest, WebResponse};
use tokio::runtime::Handle;

/// For a connection, and between two pieces of an answer.
const CONNECT: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(60);
/// How soon a request that is not wanted any more ends.
const POLL: Duration = Duration::from_millis(50);

/// Reads with the engine's runtime; proxies are those of its environment.
#[derive(Debug)]
pub(crate) struct EngineWeb {
    /// The runtime that drives the sockets; the builder's threads are outside of it.
    pub(crate) runtime: Handle,
}

impl Web for EngineWeb {
    fn get(
        &self,
        request: &WebRequest<'_>,
        head: &mut dyn FnMut(&WebResponse) -> bool,
        body: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), String> {
        self.runtime.block_on(async {
            tokio::select! {
                result = get(request, head, body) => result,
                () = stopped(request.stop) => Err("cancelled".to_owned()),
            }
        })
    }
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(POLL).await;
    }
}

async fn get(
    request: &WebRequest<'_>,
    head: &mut dyn FnMut(&WebResponse) -> bool,
    body: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), String> {
    let mut sending = client()?.get(request.url);
    for (name, value) in request.headers {
        let mut value = reqwest::header::HeaderValue::from_str(value).map_err(|_| "a header is no text")?;
        value.set_sensitive(true);
        sending = sending.header(name, value);
    }
    let mut response = sending.send().await.map_err(|error| reason(&error))?;
    let headers = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let answer = WebResponse {
        status: response.status().as_u16(),
        headers: headers.collect(),
    };
    if !head(&answer) {
        return Ok(());
    }
    while let Some(piece) = response.chunk().await.map_err(|error| reason(&error))? {
        if !body(&piece) {
            break;
        }
    }
    Ok(())
}

/// Redirects are the builder's business, because it knows which hosts may have which credentials.
fn client() -> Result<&'static reqwest::Client, String> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    let client = CLIENT.get_or_init(|| {
        reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(concat!("cooper/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| reason(&error))
    });
    client.as_ref().map_err(Clone::clone)
}

/// The innermost cause; the URL, which the caller knows, is left out.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
