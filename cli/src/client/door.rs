//! Which engine to talk to, and how to reach it.

use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cooper_daemon::rootless::User;
use cooper_daemon::{Engine, EngineConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::error::ClientError;
use crate::args::root::Global;

/// Settings of the engine, as dockerd's `daemon.json`.
const DEFAULT_CONFIG_FILE: &str = "/etc/cooper/daemon.json";

/// What is used when nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Socket of a daemon started without `--host`.
    pub(crate) socket: PathBuf,
    /// The store.
    pub(crate) data_root: PathBuf,
    /// Run-time directory of that store.
    pub(crate) exec_root: PathBuf,
    /// The unprivileged user whose they are.
    pub(crate) user: Option<u32>,
}

impl Default for Places {
    /// Those of root.
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/cooper/cooper.sock"),
            data_root: PathBuf::from("/var/lib/cooper"),
            exec_root: PathBuf::from("/run/cooper"),
            user: None,
        }
    }
}

impl Places {
    /// Those of an unprivileged user.
    pub(crate) fn of_user(user: &User) -> Self {
        Self {
            socket: user.socket(),
            data_root: user.data_root(),
            exec_root: user.exec_root(),
            user: Some(user.uid()),
        }
    }
}

/// A byte stream to an engine.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the engine is.
#[derive(Debug)]
pub(crate) enum Door {
    /// Unix socket.
    Unix(PathBuf),
    /// Plain TCP, `address:port`.
    Tcp(String),
    /// In this process, opened at the first request.
    InProcess {
        /// Its directories.
        config: EngineConfig,
        /// The engine once it is open.
        engine: OnceLock<Engine>,
    },
}

/// Picks the door: `--host`, else `--data-root` in process, else the default socket if a daemon answers there,
/// else the default store in process.
pub(crate) fn choose(global: &Global) -> Result<Door, String> {
    if let Some(host) = &global.host {
        return parse_host(host, &global.places);
    }
    let socket = &global.places.socket;
    if global.data_root.is_none() && StdUnixStream::connect(socket).is_ok() {
        return Ok(Door::Unix(socket.clone()));
    }
    Ok(Door::InProcess {
        config: directories(global),
        engine: OnceLock::new(),
    })
}

/// The directories of an engine in this process. Absolute: containers and their supervisors outlive our working directory.
pub(crate) fn directories(global: &Global) -> EngineConfig {
    let places = &global.places;
    let data_root = absolute(global.data_root.as_deref().unwrap_or(&places.data_root));
    let exec_root = match &global.exec_root {
        Some(path) => absolute(path),
        None if data_root == places.data_root => places.exec_root.clone(),
        None => data_root.join("run"),
    };
    EngineConfig {
        data_root,
        exec_root,
        config_file: Some(
            global
                .config_file
                .as_deref()
                .map_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE), absolute),
        ),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Understands `unix://PATH`, `tcp://ADDRESS:PORT`, and a bare absolute path.
fn parse_host(host: &str, places: &Places) -> Result<Door, String> {
    if let Some(path) = host.strip_prefix("unix://") {
        if path.is_empty() {
            return Ok(Door::Unix(places.socket.clone()));
        }
        return Ok(Door::Unix(PathBuf::from(path)));
    }
    if host.starts_with('/') {
        return Ok(Door::Unix(PathBuf::from(host)));
    }
    if let Some(address) = host.strip_prefix("tcp://") {
        let address = address.trim_end_matches('/');
        if address.is_empty() || address.contains('/') {
            return Err(format!("invalid host `{host}`: expected tcp://address:port"));
        }
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        return Ok(Door::Tcp(if has_port {
            address.to_owned()
        } else {
            format!("{address}:2375")
        }));
    }
    Err(format!(
        "invalid host `{host}`: expected unix:///path or tcp://address:port"
    ))
}

impl Door {
    /// Whether the engine lives in this process.
    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self, Self::InProcess { .. })
    }

    /// Cancels the builds of the engine in this process and waits for them to be cleaned up. A daemon does so by itself
    /// when its client hangs up.
    pub(crate) async fn cancel_builds(&self) {
        if let Self::InProcess { engine, .. } = self
            && let Some(engine) = engine.get()
        {
            engine.cancel_builds().await;
        }
    }

    /// Opens one more connection.
    pub(crate) async fn open(&self) -> Result<Box<dyn Stream>, ClientError> {
        match self {
            Self::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(source) => Err(ClientError::Connect {
                    host: format!("unix://{}", path.display()),
                    source,
                }),
            },
            Self::Tcp(address) => {
                let connected = TcpStream::connect(address).await.and_then(|stream| {
                    stream.set_nodelay(true)?;
                    Ok(stream)
                });
                match connected {
                    Ok(stream) => Ok(Box::new(stream)),
                    Err(source) => Err(ClientError::Connect {
                        host: format!("tcp://{address}"),
                        source,
                    }),
                }
            }
            Self::InProcess { config, engine } => {
                let engine = match engine.get() {
                    Some(engine) => engine.clone(),
                    None => {
                        let opened = Engine::open(config.clone()).map_err(|error| ClientError::Open {
                            path: config.data_root.clone(),
                            message: chain(&error),
                        })?;
                        engine.get_or_init(|| opened).clone()
                    }
                };
                Ok(Box::new(cooper_daemon::in_process(engine)))
            }
        }
    }

    /// A warning the user should see before the first request.
    pub(crate) fn warning(&self) -> Option<String> {
        match self {
            Self::Tcp(address) if !is_loopback(address) => Some(format!(
                "talking to tcp://{address} in plain text: whoever can listen or connect there controls that machine"
            )),
            _ => None,
        }
    }
}

fn is_loopback(address: &str) -> bool {
    let host = address
        .rsplit_once(':')
        .map_or(address, |(host, _)| host)
        .trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An error with its causes, joined by `: `, without saying the same twice.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |host: &str, expected: &str| {
            let got = match parse_host(host, &Places::default()) {
                Ok(Door::Unix(path)) => format!("unix {}", path.display()),
                Ok(Door::Tcp(address)) => format!("tcp {address}"),
                Ok(Door::InProcess { .. }) => "in process".to_owned(),
                Err(_) => "error".to_owned(),
            };
            assert_eq!(got, expected, "{host}");
        };
        check("unix:///tmp/x.sock", "unix /tmp/x.sock");
        check("unix://", "unix /run/cooper/cooper.sock");
        check("/tmp/x.sock", "unix /tmp/x.sock");
        check("tcp://127.0.0.1:2375", "tcp 127.0.0.1:2375");
        check("tcp://127.0.0.1", "tcp 127.0.0.1:2375");
        check("tcp://[::1]:99/", "tcp [::1]:99");
        check("tcp://a/b", "error");
        check("ssh://a", "error");
    }

    #[test]
    fn exec_root_follows_data_root() {
        let check = |data: Option<&str>, exec: Option<&str>, expected: (&str, &str)| {
            let global = Global {
                data_root: data.map(PathBuf::from),
                exec_root: exec.map(PathBuf::from),
                ..Global::default()
            };
            let config = directories(&global);
            assert_eq!(
                (
                    config.data_root.to_str().unwrap(),
                    config.exec_root.to_str().unwrap()
                ),
                expected
            );
        };
        check(None, None, ("/var/lib/cooper", "/run/cooper"));
        check(Some("/d"), None, ("/d", "/d/run"));
        check(Some("/d"), Some("/e"), ("/d", "/e"));
    }

    #[test]
    fn loopback() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("[::1]:1", true),
            ("localhost:1", true),
            ("10.0.0.1:1", false),
            ("example.org:1", false),
        ] {
            assert_eq!(is_loopback(address), expected, "{address}");
        }
    }
}
