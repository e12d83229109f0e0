//! What fetching needs, and what it gives.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::store::{Layer, Lease, Store};

use super::source::{Remote, Url};
use crate::build::{Error, Services};
use crate::cache::{Key, Made, look_up, remember};
use crate::exec::{Failure, is_archive};

/// Fetching stops when less than this is free on the store's file system, or a hundredth of it, if that is less.
const RESERVE: u64 = 256 << 20;

/// Fetches into a store, with what a client offers.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) services: &'a Services<'a>,
    /// Keeps what was fetched as long as the build lasts.
    pub(crate) lease: &'a Lease,
    /// Set when the build ends early.
    pub(crate) stop: &'a AtomicBool,
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").finish_non_exhaustive()
    }
}

/// Something fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// A repository's files, or one file named [`FILE`].
    pub(crate) layer: Layer,
    /// When it was fetched, RFC 3339.
    pub(crate) created: String,
    /// It was there already, and still is the same.
    pub(crate) cached: bool,
}

/// Name of the file in the layer of a URL; also what a Dockerfile is called that is the whole context.
pub(crate) const FILE: &str = "context";

impl Fetcher<'_> {
    /// Fetches what is not there yet.
    ///
    /// # Errors
    /// Why it could not be had; no text has credentials in it.
    pub(crate) fn fetch(&self, remote: &Remote) -> Result<Fetched, Error> {
        match remote {
            Remote::Http(http) => self.http(http),
            Remote::Git(git) => self.git(git),
        }
    }

    /// The files of the archive that a URL gave, as a layer; none if it is no archive.
    ///
    /// # Errors
    /// An archive that is broken or hostile.
    pub(crate) fn unpack(&self, fetched: &Layer) -> Result<Option<Layer>, Error> {
        let mut key = Key::new("UNPACK");
        key.add("layer", fetched.diff_id.to_string());
        let hash = key.hash();
        if let Some(found) = look_up(self.store, self.lease, &hash)? {
            return Ok(Some(found.layer));
        }
        let path = fetched.tree.join(FILE);
        let open = || File::open(&path).map_err(|error| Error::io(&path, &error));
        let archive = is_archive(&open).map_err(|failure| match failure {
            Failure::Open(error) => error,
            Failure::Read(error) => Error::io(&path, &error),
        })?;
        if !archive {
            return Ok(None);
        }
        let scratch = self.store.unpack_scratch(&mut open()?)?;
        let layer = self.store.commit_snapshot(scratch, None)?;
        self.lease.layer(&layer.diff_id)?;
        let created = jiff::Timestamp::now().to_string();
        let made = Made {
            diff_id: &layer.diff_id,
            created: &created,
        };
        remember(self.store, &hash, "unpacked context", made, None)?;
        Ok(Some(layer))
    }

    pub(super) fn check_cancelled(&self) -> Result<(), Error> {
        if self.stop.load(Ordering::Relaxed) {
            Err(Error::Cancelled)
        } else {
            Ok(())
        }
    }

    /// The first of the client's secrets with one of these names, as text for a header.
    pub(super) fn secret(&self, names: &[String]) -> Result<Option<(usize, String)>, Error> {
        for (at, name) in names.iter().enumerate() {
            let found = self.services.secrets.secret(name).map_err(Error::Source)?;
            let Some(value) = found else { continue };
            let text = String::from_utf8(value).ok().map(|text| text.trim().to_owned());
            let valid = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
            let text = valid.ok_or_else(|| Error::Source(format!("the secret {name} is no line of text")))?;
            return Ok(Some((at, text)));
        }
        Ok(None)
    }
}

/// `Basic` credentials of a URL.
pub(super) fn basic(url: &Url<'_>) -> Option<String> {
    use base64::Engine as _;
    let user = super::source::decode(url.user?);
    let pair = if user.contains(':') {
        user
    } else {
        format!("{user}:")
    };
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    Some(format!("Basic {encoded}"))
}

/// Whether the file system of `dir` has room left.
pub(super) fn has_room(dir: impl AsFd) -> bool {
    rustix::fs::fstatvfs(dir).is_ok_and(|stat| {
        let reserve = RESERVE.min(stat.f_blocks.saturating_mul(stat.f_frsize) / 100);
        stat.f_bavail.saturating_mul(stat.f_frsize) >= reserve
    })
}
