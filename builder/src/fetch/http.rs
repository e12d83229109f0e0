//! Files behind URLs.
//!
//! What a URL gave is remembered in the store's build cache under `http/v1/<sha256 of the URL>`: JSON with the version, the
//! validators (`etag`, `lastModified`), the body's sha256 and the layer that holds it. The next fetch asks with these
//! validators, and the body does not come again if it is the same. A file with a checksum is found by that alone, and
//! nobody is asked at all.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use cooper_registry::digest::{Algorithm as Sha, DiffId, Digest, to_hex};
use rustix::fs::{Mode, Timespec, fchmod, futimens};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::fetcher::{FILE, Fetched, Fetcher, basic, has_room};
use super::source::{Algorithm, Checksum, Http, Url, redact};
use crate::build::{Error, IoContext as _, WebRequest, WebResponse};
use crate::cache::{Key, Made, look_up, remember};
use crate::tree::only_modified;

const VERSION: u32 = 1;
/// As many redirects as Go's client follows.
const MAX_REDIRECTS: usize = 10;
/// A longer body is refused.
const MAX_BODY: u64 = 64 << 30;
/// The free space is looked at this often.
const ROOM_INTERVAL: u64 = 32 << 20;

/// What a URL gave last time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    etag: Option<String>,
    last_modified: Option<String>,
    sha256: String,
    diff_id: DiffId,
    created: String,
}

/// A body on its way into a file.
struct Download {
    file: File,
    sha256: cooper_registry::digest::Hasher,
    checksum: Option<Sum>,
    length: u64,
    limit: u64,
    until_check: u64,
    failure: Option<String>,
}

/// The algorithm that `--checksum` asks for.
enum Sum {
    Sha256(sha2::Sha256),
    Sha384(sha2::Sha384),
    Sha512(sha2::Sha512),
}

impl Fetcher<'_> {
    /// Fetches a URL, unless it is known to be what it was.
    pub(super) fn http(&self, source: &Http) -> Result<Fetched, Error> {
        self.http_limited(source, MAX_BODY)
    }

    fn http_limited(&self, source: &Http, limit: u64) -> Result<Fetched, Error> {
        let failed =
            |message: String| Error::Source(format!("failed to fetch {}: {message}", redact(&source.url)));
        let checksum_key = source.checksum.as_ref().map(|checksum| {
            let mut key = Key::new("HTTP");
            key.add("checksum", checksum.to_string());
            key
        });
        if let Some(key) = &checksum_key
            && let Some(found) = look_up(self.store, self.lease, &key.hash())?
        {
            return Ok(Fetched {
                layer: found.layer,
                created: found.created,
                cached: true,
            });
        }
        let record_key = format!("http/v1/{}", Digest::sha256(source.url.as_bytes()).hex());
        // A file with a checksum that is not known must come whole.
        let known = match source.checksum {
            None => self.known(&record_key)?,
            Some(_) => None,
        };
        let snapshot = self.store.new_snapshot()?;
        let path = snapshot.upper().join(FILE);
        let file = File::create_new(&path).map_err(|error| Error::io(&path, &error))?;
        let mut download = Download {
            file,
            sha256: Sha::Sha256.hasher(),
            checksum: source.checksum.as_ref().map(Sum::new),
            length: 0,
            limit,
            until_check: ROOM_INTERVAL,
            failure: None,
        };
        let response = self.follow(source, known.as_ref().map(|(record, _)| record), &mut download);
        self.check_cancelled()?;
        let response = response.map_err(failed)?;
        if response.status == 304
            && let Some((record, layer)) = known
        {
            return Ok(Fetched {
                layer,
                created: record.created,
                cached: true,
            });
        }
        if let Some(expected) = response.header("content-length")
            && expected.parse() != Ok(download.length)
        {
            return Err(failed(format!(
                "{} bytes came of {expected} announced",
                download.length
            )));
        }
        let Download {
            file,
            sha256,
            checksum,
            ..
        } = download;
        if let (Some(expected), Some(sum)) = (&source.checksum, checksum) {
            let got = Checksum {
                algorithm: expected.algorithm,
                hex: sum.hex(),
            };
            if got != *expected {
                return Err(failed(format!("digest mismatch: expected {expected}, got {got}")));
            }
        }
        let modified = response.header("last-modified").and_then(http_date);
        let times = only_modified(Timespec {
            tv_sec: modified.unwrap_or(0),
            tv_nsec: 0,
        });
        fchmod(file.as_fd(), Mode::RUSR | Mode::WUSR).at(&path)?;
        futimens(file.as_fd(), &times).at(&path)?;
        drop(file);
        let layer = self.store.commit_snapshot(snapshot, None)?;
        self.lease.layer(&layer.diff_id)?;
        let record = Record {
            version: VERSION,
            etag: response.header("etag").map(str::to_owned),
            last_modified: response.header("last-modified").map(str::to_owned),
            sha256: sha256.finish().hex().to_owned(),
            diff_id: layer.diff_id.clone(),
            created: jiff::Timestamp::now().to_string(),
        };
        let title = format!("fetched {}", redact(&source.url));
        let value = serde_json::to_vec(&record).map_err(|error| Error::internal(error.to_string()))?;
        self.store
            .cache_put(&record_key, &title, &value, std::slice::from_ref(&layer.diff_id))?;
        if let Some(key) = checksum_key {
            let made = Made {
                diff_id: &layer.diff_id,
                created: &record.created,
            };
            remember(self.store, &key.hash(), &title, made, None)?;
        }
        // The same bytes again, only without a validator: the layer is the same, too.
        let cached = known.is_some_and(|(known, _)| known.diff_id == layer.diff_id);
        Ok(Fetched {
            layer,
            created: record.created,
            cached,
        })
    }

    /// What is remembered, if its layer is still there; leased.
    fn known(&self, key: &str) -> Result<Option<(Record, cooper_registry::store::Layer)>, Error> {
        let Some(found) = self.store.cache_get(key)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice::<Record>(&found.value).ok();
        let Some(record) = record.filter(|record| record.version == VERSION) else {
            return Ok(None);
        };
        self.lease.layer(&record.diff_id)?;
        Ok(self.store.layer(&record.diff_id)?.map(|layer| (record, layer)))
    }

    /// Asks, goes where redirects lead, and has `download` take the body. Gives the last answer: 200, or 304 where a
    /// record was given.
    fn follow(
        &self,
        source: &Http,
        known: Option<&Record>,
        download: &mut Download,
    ) -> Result<WebResponse, String> {
        let text = |error: Error| error.to_string();
        let mut at = source.url.clone();
        let origin = Url::parse(&source.url)?;
        let mut authorization = self.authorization(&origin).map_err(text)?;
        let origin = (at.starts_with("https:"), origin.authority.to_owned());
        for _ in 0..=MAX_REDIRECTS {
            let url = Url::parse(&at)?;
            if (at.starts_with("https:"), url.authority) != (origin.0, origin.1.as_str()) {
                authorization = None;
            }
            let mut headers = Vec::new();
            if let Some(value) = &authorization {
                headers.push(("authorization".to_owned(), value.clone()));
            }
            for (name, value) in [
                ("if-none-match", known.and_then(|known| known.etag.as_ref())),
                (
                    "if-modified-since",
                    known.and_then(|known| known.last_modified.as_ref()),
                ),
            ] {
                headers.extend(value.map(|value| (name.to_owned(), value.clone())));
            }
            let plain = url.without_credentials(&at);
            let request = WebRequest {
                url: &plain,
                headers: &headers,
                stop: self.stop,
            };
            let mut answer = None;
            let sent = self.services.web.get(
                &request,
                &mut |head| {
                    answer = Some(head.clone());
                    head.status == 200
                },
                &mut |bytes| download.take(bytes),
            );
            if let Some(failure) = download.failure.take() {
                return Err(failure);
            }
            sent?;
            let response = answer.ok_or("the server did not answer")?;
            match response.status {
                200 => return Ok(response),
                304 if known.is_some() => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response
                        .header("location")
                        .ok_or("a redirect without a location")?;
                    at = join(&plain, location)?;
                }
                status => return Err(format!("invalid response status {status}")),
            }
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }

    /// From the URL itself, or the secrets `HTTP_AUTH_HEADER_<host>` and `HTTP_AUTH_TOKEN_<host>`, with and without port.
    fn authorization(&self, url: &Url<'_>) -> Result<Option<String>, Error> {
        if let Some(basic) = basic(url) {
            return Ok(Some(basic));
        }
        let names = |host: &str| {
            [
                format!("HTTP_AUTH_HEADER_{host}"),
                format!("HTTP_AUTH_TOKEN_{host}"),
            ]
        };
        let names = [names(url.authority), names(url.host)].concat();
        let found = self.secret(&names)?;
        Ok(found.map(|(at, value)| {
            if at % 2 == 0 {
                value
            } else {
                format!("Bearer {value}")
            }
        }))
    }
}

impl Download {
    /// Takes a piece of the body; false when there shall be no more.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let result = self.write(bytes);
        self.failure = result.err();
        self.failure.is_none()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let count = bytes.len() as u64;
        self.length += count;
        if self.length > self.limit {
            return Err(format!("the body has more than {} bytes", self.limit));
        }
        self.until_check = self.until_check.saturating_sub(count);
        if self.until_check == 0 {
            self.until_check = ROOM_INTERVAL;
            if !has_room(&self.file) {
                return Err("not enough free space".to_owned());
            }
        }
        self.sha256.update(bytes);
        match &mut self.checksum {
            None => {}
            Some(Sum::Sha256(sum)) => sum.update(bytes),
            Some(Sum::Sha384(sum)) => sum.update(bytes),
            Some(Sum::Sha512(sum)) => sum.update(bytes),
        }
        self.file.write_all(bytes).map_err(|error| error.to_string())
    }
}

impl Sum {
    fn new(checksum: &Checksum) -> Self {
        match checksum.algorithm {
            Algorithm::Sha256 => Self::Sha256(sha2::Sha256::new()),
            Algorithm::Sha384 => Self::Sha384(sha2::Sha384::new()),
            Algorithm::Sha512 => Self::Sha512(sha2::Sha512::new()),
        }
    }

    fn hex(self) -> String {
        match self {
            Self::Sha256(sum) => to_hex(&sum.finalize()),
            Self::Sha384(sum) => to_hex(&sum.finalize()),
            Self::Sha512(sum) => to_hex(&sum.finalize()),
        }
    }
}

/// Where a redirect from `url` to `location` leads.
fn join(url: &str, location: &str) -> Result<String, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('?').next().unwrap_or(path);
    let location = location.split('#').next().unwrap_or(location);
    let joined = if location.contains("://")
        || location
            .split(['/', '?'])
            .next()
            .is_some_and(|first| first.contains(':'))
    {
        location.to_owned()
    } else if let Some(other) = location.strip_prefix("//") {
        format!("{scheme}://{other}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{authority}{path}{location}")
    } else {
        let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        format!("{scheme}://{authority}{dir}/{location}")
    };
    let lower = joined.to_lowercase();
    if !lower.starts_with("http://") && !lower.starts_with("https://") {
        return Err("a redirect to a URL that is neither http nor https".to_owned());
    }
    Ok(joined)
}

/// Unix seconds of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<i64> {
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new()
        .parse_timestamp(text)
        .ok()?;
    Some(zoned.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        for (url, location, expected) in [
            ("http://h/a/b?q", "c", Ok("http://h/a/c")),
            ("http://h/a/b?q", "/c", Ok("http://h/c")),
            ("http://h/a/b?q", "?r", Ok("http://h/a/b?r")),
            ("https://h", "c", Ok("https://h/c")),
            ("https://h/x", "//i/c#f", Ok("https://i/c")),
            ("https://h/x", "http://i/c", Ok("http://i/c")),
            ("https://h/x", "file:///etc/passwd", Err("neither http nor https")),
            ("https://h/x", "gopher:x", Err("neither http nor https")),
        ] {
            match (join(url, location), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{url} {location}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{url} {location}: {found:?}"),
            }
        }
    }

    #[test]
    fn dates() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("yesterday", None),
        ] {
            assert_eq!(http_date(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_are_bounded() {
        let mut download = Download {
            file: tempfile::tempfile().unwrap(),
            sha256: Sha::Sha256.hasher(),
            checksum: None,
            length: 0,
            limit: 10,
            until_check: ROOM_INTERVAL,
            failure: None,
        };
        assert!(download.take(b"1234567890"));
        assert!(!download.take(b"1"));
        assert_eq!(
            download.failure.as_deref(),
            Some("the body has more than 10 bytes")
        );
    }
}
