//! Opening, and running blocking work beside the sockets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use cooper_registry::client::{Client, ClientConfig};
use cooper_registry::store::{self, Store};
use cooper_runner::container::{self, Containers};

use super::builds::Builds;
use crate::error::{ApiError, ApiResult};

/// Where the engine keeps its state.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images, layers and containers; `/var/lib/cooper` by default.
    pub data_root: PathBuf,
    /// Sockets and pid files of running containers, gone after a reboot; `/run/cooper` by default.
    pub exec_root: PathBuf,
    /// Settings in the form of dockerd's `daemon.json`, of which `builder.gc` is read; none if there is no file.
    pub config_file: Option<PathBuf>,
}

/// The engine: a library over the data root.
///
/// Cheap to clone; opens its store on first use, so making one costs nothing. Keeps nothing in memory that is not on
/// disk or in a supervisor.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: EngineConfig,
    client_config: ClientConfig,
    store: OnceLock<Store>,
    containers: OnceLock<Containers>,
    opening: Mutex<()>,
    builds: Arc<Builds>,
}

/// Why an engine's state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A root is relative: two processes would mean different directories by it.
    #[error("{0} is not an absolute path")]
    RelativeRoot(PathBuf),
    /// The store cannot be opened.
    #[error("failed to open the store: {0}")]
    Store(#[from] store::Error),
    /// The containers cannot be opened.
    #[error("failed to open the containers: {0}")]
    Containers(#[from] container::Error),
}

impl Engine {
    /// An engine over `config`'s directories, which are created on first use.
    ///
    /// # Errors
    /// When one of the paths is not absolute.
    pub fn open(config: EngineConfig) -> Result<Self, EngineError> {
        Self::with_client(config, ClientConfig::default())
    }

    /// Like [`Engine::open`], with settings for reaching other registries.
    ///
    /// # Errors
    /// When one of the paths is not absolute.
    pub fn with_client(config: EngineConfig, client_config: ClientConfig) -> Result<Self, EngineError> {
        for root in [&config.data_root, &config.exec_root] {
            if !root.is_absolute() {
                return Err(EngineError::RelativeRoot(root.clone()));
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                client_config,
                store: OnceLock::new(),
                containers: OnceLock::new(),
                opening: Mutex::new(()),
                builds: Arc::default(),
            }),
        })
    }

    /// The directories.
    pub fn config(&self) -> &EngineConfig {
        &self.inner.config
    }

    /// The store, opened if it is not yet; blocks on disk the first time. The registry server works on the same one.
    ///
    /// # Errors
    /// When the store cannot be opened.
    pub fn store(&self) -> Result<&Store, EngineError> {
        if let Some(store) = self.inner.store.get() {
            return Ok(store);
        }
        let _one_at_a_time = self
            .inner
            .opening
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(store) = self.inner.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.inner.config.data_root)?;
        Ok(self.inner.store.get_or_init(|| store))
    }

    /// The containers.
    pub(crate) fn containers(&self) -> Result<&Containers, EngineError> {
        if let Some(containers) = self.inner.containers.get() {
            return Ok(containers);
        }
        let containers = Containers::open(
            &self.inner.config.data_root.join("containers"),
            &self.inner.config.exec_root,
        )?;
        Ok(self.inner.containers.get_or_init(|| containers))
    }

    pub(crate) fn client(&self) -> Result<Client, EngineError> {
        Ok(Client::new(
            self.store()?.clone(),
            self.inner.client_config.clone(),
        ))
    }

    pub(crate) fn exec_root(&self) -> &Path {
        &self.inner.config.exec_root
    }

    /// The builds that this engine runs now.
    pub(crate) fn builds(&self) -> &Arc<Builds> {
        &self.inner.builds
    }

    /// Cancels every build that this engine runs, and waits until each has undone its unfinished steps.
    pub async fn cancel_builds(&self) {
        self.inner.builds.cancel(None);
        self.inner.builds.ended().await;
    }

    /// Runs short blocking work on the pool; it completes even when the client has gone.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let engine = self.clone();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            Err(error) => Err(ApiError::internal(format!("request handler failed: {error}"))),
        }
    }

    /// Runs work that may block for as long as a container lives, on a thread of its own so that waiters never use up
    /// the pool.
    pub(crate) async fn waiting<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> ApiResult<T> + Send + 'static,
    ) -> ApiResult<T> {
        let (send, receive) = tokio::sync::oneshot::channel();
        let engine = self.clone();
        let started = std::thread::Builder::new()
            .name("waiter".to_owned())
            .spawn(move || {
                // Nobody receives when the client has gone.
                let _ = send.send(work(&engine));
            });
        if let Err(error) = started {
            return Err(ApiError::internal(format!("failed to start a thread: {error}")));
        }
        receive
            .await
            .unwrap_or_else(|_| Err(ApiError::internal("request handler failed")))
    }
}
