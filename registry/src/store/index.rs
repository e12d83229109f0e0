//! The SQLite index: schema, connections, transactions.
//!
//! Tables (schema version 3, in `PRAGMA user_version`; an older index gets what it lacks when it is opened):
//! - `repos(id, name)`: id 0 with the empty name stands for "no repository" (unnamed images).
//! - `manifests(digest, media_type, size, kind, subject, stored_at)`: one row per manifest or index in `blobs/`.
//! - `edges(manifest, role, target, pos, present)`: what a manifest names; `present` if it was there when it was stored.
//! - `image_layers(manifest, pos, diff_id)`: the DiffIDs of its config.
//! - `repo_manifests(repo, digest)`, `repo_blobs(repo, digest)`: what is visible where.
//! - `tags(repo, tag, digest)`.
//! - `fresh(kind, digest, at)`: blobs and layers that nothing refers to yet; they live for [`FRESH_SECONDS`], and unless they
//!   are uploads only while the handle that made them lives (`lease_items` of kind `fresh`).
//! - `cache(key, description, value, created_at, used_at, uses)`, `cache_layers(key, pos, diff_id)`; `uses` since version 3.
//! - `leases(id, named)`, `lease_items(lease, kind, target)`.
//! - `compressed(diff_id, coding, digest, size)`: blobs that are compressed layers; since version 2.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::error::{Error, Result};

/// How long something that nothing refers to is kept for the request that will refer to it.
pub(super) const FRESH_SECONDS: i64 = 3600;

/// Pages (4 KiB) in the write-ahead log that start a checkpoint: the log outlives its processes, and the first one to open
/// the index reads all of it.
const LOG_PAGES: i64 = 256;

const SCHEMA_VERSION: i64 = 3;
const SCHEMA: &str = "
CREATE TABLE repos(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT INTO repos(id, name) VALUES (0, '');
CREATE TABLE manifests(digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, size INTEGER NOT NULL, kind TEXT NOT NULL,
  subject TEXT, stored_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX manifests_subject ON manifests(subject) WHERE subject IS NOT NULL;
CREATE TABLE edges(manifest TEXT NOT NULL, role TEXT NOT NULL, pos INTEGER NOT NULL, target TEXT NOT NULL,
  present INTEGER NOT NULL, PRIMARY KEY(manifest, role, pos)) WITHOUT ROWID;
CREATE INDEX edges_target ON edges(target);
CREATE TABLE image_layers(manifest TEXT NOT NULL, pos INTEGER NOT NULL, diff_id TEXT NOT NULL,
  PRIMARY KEY(manifest, pos)) WITHOUT ROWID;
CREATE TABLE repo_manifests(repo INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(repo, digest)) WITHOUT ROWID;
CREATE INDEX repo_manifests_digest ON repo_manifests(digest);
CREATE TABLE repo_blobs(repo INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(repo, digest)) WITHOUT ROWID;
CREATE INDEX repo_blobs_digest ON repo_blobs(digest);
CREATE TABLE tags(repo INTEGER NOT NULL, tag TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY(repo, tag)) WITHOUT ROWID;
CREATE INDEX tags_digest ON tags(digest);
CREATE TABLE fresh(kind TEXT NOT NULL, digest TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY(kind, digest)) WITHOUT ROWID;
CREATE TABLE cache(key TEXT PRIMARY KEY, description TEXT NOT NULL, value BLOB NOT NULL, created_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE cache_layers(key TEXT NOT NULL, pos INTEGER NOT NULL, diff_id TEXT NOT NULL, PRIMARY KEY(key, pos)) WITHOUT ROWID;
CREATE TABLE leases(id TEXT PRIMARY KEY, named INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease_items(lease TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
  PRIMARY KEY(lease, kind, target)) WITHOUT ROWID;
PRAGMA user_version = 1;
";
/// `MIGRATIONS[n]` leads from version `n + 1` to the next one.
const MIGRATIONS: [&str; 2] = [
    "
CREATE TABLE compressed(diff_id TEXT NOT NULL, coding TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
  PRIMARY KEY(diff_id, coding)) WITHOUT ROWID;
CREATE INDEX compressed_digest ON compressed(digest);
PRAGMA user_version = 2;
",
    "
ALTER TABLE cache ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 3;
",
];

/// How sure a commit must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Survives a crash of any process; a power cut may take the last moments.
    Normal,
    /// Survives a power cut: for what a client was told is stored.
    Full,
}

/// A pool of connections; the first one is made at first use.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Index {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            idle: Mutex::new(Vec::new()),
        }
    }

    fn fail(&self, source: rusqlite::Error) -> Error {
        if is_full(&source) {
            return Error::io(&self.path, rustix::io::Errno::NOSPC);
        }
        Error::Index {
            path: self.path.clone(),
            source,
        }
    }

    fn take(&self) -> Result<Connection> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => connect(&self.path).map_err(|error| match error {
                Connect::Sqlite(source) => self.fail(source),
                Connect::Version(found) => Error::Format {
                    root: self.path.clone(),
                    found: format!("index schema {found}"),
                    expected: "index schema 3",
                },
            }),
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self
            .idle
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if idle.len() < 8 {
            idle.push(connection);
        }
    }

    /// Runs a read; several statements see one state.
    pub(super) fn read<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T, Fail>) -> Result<T> {
        let mut connection = self.take()?;
        let result = (|| {
            let transaction = connection.transaction().map_err(Fail::from)?;
            f(&transaction)
        })();
        self.give_back(connection);
        result.map_err(|fail| fail.told(self))
    }

    /// Runs a write transaction and rolls it back.
    pub(super) fn rehearse<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T, Fail>) -> Result<T> {
        let mut connection = self.take()?;
        let result = (|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            f(&transaction)
        })();
        self.give_back(connection);
        result.map_err(|fail: Fail| fail.told(self))
    }

    /// Runs a write transaction; rolled back on error.
    pub(super) fn write<T>(
        &self,
        durability: Durability,
        f: impl FnOnce(&Transaction<'_>) -> Result<T, Fail>,
    ) -> Result<T> {
        let mut connection = self.take()?;
        let result = (|| {
            let mode = if durability == Durability::Full {
                "FULL"
            } else {
                "NORMAL"
            };
            connection.pragma_update(None, "synchronous", mode)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = f(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })();
        self.give_back(connection);
        result.map_err(|fail: Fail| fail.told(self))
    }
}

/// Whether SQLite found no room for its log, or for the table that its processes share.
fn is_full(error: &rusqlite::Error) -> bool {
    let Some(error) = error.sqlite_error() else {
        return false;
    };
    error.code == rusqlite::ErrorCode::DiskFull || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum Fail {
    Sqlite(rusqlite::Error),
    Store(Box<Error>),
}

impl Fail {
    fn told(self, index: &Index) -> Error {
        match self {
            Self::Sqlite(source) => index.fail(source),
            Self::Store(error) => *error,
        }
    }
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Store(Box::new(error))
    }
}

enum Connect {
    Sqlite(rusqlite::Error),
    Version(i64),
}

impl From<rusqlite::Error> for Connect {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn connect(path: &Path) -> Result<Connection, Connect> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(60))?;
    // Otherwise every short-lived process that closes the last connection syncs and deletes the log, and the next one
    // syncs a new one. What was committed as durable is durable in the log.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
    connection.set_prepared_statement_cache_capacity(64);
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        set_wal(&connection)?;
    }
    if (0..SCHEMA_VERSION).contains(&version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version == 0 {
            transaction.execute_batch(SCHEMA)?;
        }
        let done = usize::try_from(version.max(1) - 1).unwrap_or(MIGRATIONS.len());
        for migration in MIGRATIONS.iter().skip(done) {
            transaction.execute_batch(migration)?;
        }
        transaction.commit()?;
    } else if version != SCHEMA_VERSION {
        return Err(Connect::Version(version));
    }
    Ok(connection)
}

/// Switching to WAL needs the file alone and does not wait for it by itself.
fn set_wal(connection: &Connection) -> Result<(), rusqlite::Error> {
    let start = std::time::Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.code == rusqlite::ErrorCode::DatabaseBusy
                    && start.elapsed() < Duration::from_secs(60) =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

/// SQLite's integers are signed.
pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
