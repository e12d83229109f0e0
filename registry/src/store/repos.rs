//! The registry's view: repositories, tags, manifests as they were pushed.

use rusqlite::{OptionalExtension, Transaction};

use super::error::{Error, Result};
use super::handle::Store;
use super::index::{Durability, Fail, to_i64};
use super::layout::now;
use super::manifest::{Kind, Parsed, parse};
use super::types::StoredManifest;
use crate::digest::{DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig};
use crate::reference::{RepoName, Tag};

/// Largest manifest that the store reads back into memory.
pub(super) const MAX_MANIFEST: u64 = 32 << 20;
/// Largest image config.
pub(super) const MAX_CONFIG: u64 = 32 << 20;

/// A repository with the tags to move there; `None`: unnamed.
pub(super) type Link<'a> = (Option<&'a RepoName>, Vec<Tag>);

impl Store {
    /// Makes a blob visible in `repo`.
    ///
    /// # Errors
    /// [`Error::NoSuchBlob`] if the store does not have it.
    pub fn link_blob(&self, repo: &RepoName, digest: &Digest) -> Result<()> {
        let _publishing = self.publishing()?;
        if !self.has_blob(digest)? {
            return Err(Error::NoSuchBlob(digest.clone()));
        }
        self.inner.index.write(Durability::Full, |tx| {
            let repo = repo_id(tx, Some(repo))?;
            link_blob(tx, repo, digest)?;
            tx.prepare_cached("INSERT OR REPLACE INTO fresh(kind, digest, at) VALUES ('blob', ?1, ?2)")?
                .execute((digest.to_string(), now()))?;
            Ok(())
        })
    }

    /// Hides a blob from `repo`; false if it was not visible there. Manifests that name it are not asked.
    pub fn unlink_blob(&self, repo: &RepoName, digest: &Digest) -> Result<bool> {
        self.inner.index.write(Durability::Normal, |tx| {
            let Some(repo) = find_repo(tx, repo)? else {
                return Ok(false);
            };
            let gone = tx
                .prepare_cached("DELETE FROM repo_blobs WHERE repo = ?1 AND digest = ?2")?
                .execute((repo, digest.to_string()))?;
            Ok(gone > 0)
        })
    }

    /// Whether a blob is visible in `repo`.
    pub fn repo_has_blob(&self, repo: &RepoName, digest: &Digest) -> Result<bool> {
        let linked = self.inner.index.read(|tx| {
            let found = tx
                .prepare_cached(
                    "SELECT 1 FROM repo_blobs JOIN repos ON repos.id = repo WHERE repos.name = ?1 AND digest = ?2",
                )?
                .exists((repo.to_string(), digest.to_string()))?;
            Ok(found)
        })?;
        Ok(linked && self.has_blob(digest)?)
    }

    /// Stores a manifest or index byte-exact, records config, layers, children and subject, links those blobs that are
    /// there to the repo, and moves `tags` in the same transaction. Whether the caller may see the blobs that it names, and
    /// whether missing ones are an error, is for the caller to decide beforehand.
    ///
    /// `repo`: `None` stores an unnamed image. `digest`: what the bytes must hash to; `None`: sha256 is used.
    ///
    /// # Errors
    /// [`Error::InvalidManifest`], [`Error::DigestMismatch`].
    pub fn put_manifest(
        &self,
        repo: Option<&RepoName>,
        media_type: &str,
        bytes: &[u8],
        digest: Option<&Digest>,
        tags: &[Tag],
    ) -> Result<Descriptor> {
        self.store_manifest(media_type, bytes, digest, &[(repo, tags.to_vec())])
    }

    pub(super) fn store_manifest(
        &self,
        media_type: &str,
        bytes: &[u8],
        digest: Option<&Digest>,
        links: &[Link<'_>],
    ) -> Result<Descriptor> {
        let parsed = parse(media_type, bytes)?;
        let mut ingest = self.ingest()?;
        ingest.write(bytes)?;
        let (digest, size) = ingest.commit(digest)?;
        let descriptor = Descriptor::new(media_type, digest.clone(), size);
        let _publishing = self.publishing()?;
        let mut present = Vec::with_capacity(parsed.edges.len());
        for (_, target) in &parsed.edges {
            present.push(self.has_blob(target)?);
        }
        let diff_ids = self.config_diff_ids(&parsed);
        self.inner.index.write(Durability::Full, |tx| {
            record_manifest(tx, &descriptor, &parsed, &present)?;
            if let Some(diff_ids) = &diff_ids {
                record_layers(tx, &digest, diff_ids)?;
            }
            for (repo, tags) in links {
                let repo = repo_id(tx, *repo)?;
                link_manifest(tx, repo, &digest)?;
                for ((_, target), _) in parsed.edges.iter().zip(&present).filter(|(_, present)| **present) {
                    if parsed.kind == Kind::Image {
                        link_blob(tx, repo, target)?;
                    }
                }
                for tag in tags {
                    move_tag(tx, repo, tag, &digest)?;
                }
            }
            Ok(())
        })?;
        Ok(descriptor)
    }

    /// DiffIDs of the config, if it is here and readable; an image whose config comes later gets them when it is used.
    fn config_diff_ids(&self, parsed: &Parsed) -> Option<Vec<DiffId>> {
        let config = parsed.image_config.as_ref()?;
        let bytes = self.read_blob(&config.digest, MAX_CONFIG).ok()?;
        Some(
            serde_json::from_slice::<ImageConfig>(&bytes)
                .ok()?
                .rootfs
                .diff_ids,
        )
    }

    /// Remembers which layers an image has, so that a collection keeps them.
    pub(super) fn record_image_layers(&self, manifest: &Digest, diff_ids: &[DiffId]) -> Result<()> {
        let known = self.inner.index.read(|tx| image_layers(tx, manifest))?;
        if known == diff_ids {
            return Ok(());
        }
        self.inner
            .index
            .write(Durability::Normal, |tx| record_layers(tx, manifest, diff_ids))
    }

    /// A manifest that is visible in `repo`.
    pub fn manifest(&self, repo: &RepoName, digest: &Digest) -> Result<Option<StoredManifest>> {
        let row = self.inner.index.read(|tx| {
            let row = tx
                .prepare_cached(
                    "SELECT media_type, size FROM repos JOIN repo_manifests ON repo = id
                     JOIN manifests USING(digest) WHERE name = ?1 AND digest = ?2",
                )?
                .query_row((repo.to_string(), digest.to_string()), |row| {
                    Ok((row.get(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            Ok(row)
        })?;
        let Some((media_type, size)) = row else {
            return Ok(None);
        };
        let media_type: String = media_type;
        let bytes = self.read_blob(digest, MAX_MANIFEST)?;
        let size = u64::try_from(size).unwrap_or(0);
        Ok(Some(StoredManifest {
            descriptor: Descriptor::new(media_type, digest.clone(), size),
            bytes,
        }))
    }

    /// What a tag points to.
    pub fn resolve_tag(&self, repo: &RepoName, tag: &Tag) -> Result<Option<Descriptor>> {
        self.inner.index.read(|tx| {
            let row: Option<(String, String, i64)> = tx
                .prepare_cached(
                    "SELECT media_type, digest, size FROM repos JOIN tags ON repo = id
                     JOIN manifests USING(digest) WHERE name = ?1 AND tag = ?2",
                )?
                .query_row((repo.to_string(), tag.as_str()), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()?;
            row.map(|(media_type, digest, size)| {
                Ok(Descriptor::new(
                    media_type,
                    stored_digest(&digest)?,
                    u64::try_from(size).unwrap_or(0),
                ))
            })
            .transpose()
        })
    }

    /// Points `tag` to a manifest that is in `repo`.
    ///
    /// # Errors
    /// [`Error::NoSuchManifest`].
    pub fn set_tag(&self, repo: &RepoName, tag: &Tag, digest: &Digest) -> Result<()> {
        self.inner.index.write(Durability::Full, |tx| {
            let missing = || Fail::from(Error::NoSuchManifest(digest.clone()));
            let repo = find_repo(tx, repo)?.ok_or_else(missing)?;
            let linked = tx
                .prepare_cached("SELECT 1 FROM repo_manifests WHERE repo = ?1 AND digest = ?2")?
                .exists((repo, digest.to_string()))?;
            if !linked {
                return Err(missing());
            }
            move_tag(tx, repo, tag, digest)
        })
    }

    /// Removes a tag; the manifest stays. False if there was none.
    pub fn delete_tag(&self, repo: &RepoName, tag: &Tag) -> Result<bool> {
        self.inner.index.write(Durability::Full, |tx| {
            let Some(repo) = find_repo(tx, repo)? else {
                return Ok(false);
            };
            let gone = tx
                .prepare_cached("DELETE FROM tags WHERE repo = ?1 AND tag = ?2")?
                .execute((repo, tag.as_str()))?;
            Ok(gone > 0)
        })
    }

    /// Removes the manifest from the repo with every tag on it. False if it was not there.
    pub fn delete_manifest(&self, repo: &RepoName, digest: &Digest) -> Result<bool> {
        self.inner.index.write(Durability::Full, |tx| {
            let Some(repo) = find_repo(tx, repo)? else {
                return Ok(false);
            };
            let digest = digest.to_string();
            tx.prepare_cached("DELETE FROM tags WHERE repo = ?1 AND digest = ?2")?
                .execute((repo, &digest))?;
            let gone = tx
                .prepare_cached("DELETE FROM repo_manifests WHERE repo = ?1 AND digest = ?2")?
                .execute((repo, &digest))?;
            Ok(gone > 0)
        })
    }

    /// Byte-ordered page of at most `limit` tags after `last` (which need not exist); None if the repository is unknown.
    pub fn tags(
        &self,
        repo: &RepoName,
        last: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Option<Vec<Tag>>> {
        self.inner.index.read(|tx| {
            let Some(repo) = find_repo(tx, repo)? else {
                return Ok(None);
            };
            let mut statement =
                tx.prepare_cached("SELECT tag FROM tags WHERE repo = ?1 AND tag > ?2 ORDER BY tag LIMIT ?3")?;
            let rows = statement.query_map((repo, last.unwrap_or(""), sql_limit(limit)), |row| {
                row.get::<_, String>(0)
            })?;
            let mut tags = Vec::new();
            for tag in rows {
                tags.push(tag?.parse().map_err(Error::from)?);
            }
            Ok(Some(tags))
        })
    }

    /// Byte-ordered page of at most `limit` repositories that hold a manifest, by full name (`docker.io/library/demo`).
    pub fn repositories(&self, last: Option<&str>, limit: Option<usize>) -> Result<Vec<RepoName>> {
        self.inner.index.read(|tx| {
            let mut statement = tx.prepare_cached(
                "SELECT name FROM repos WHERE id > 0 AND name > ?1
                 AND EXISTS (SELECT 1 FROM repo_manifests WHERE repo = id) ORDER BY name LIMIT ?2",
            )?;
            let rows = statement.query_map((last.unwrap_or(""), sql_limit(limit)), |row| {
                row.get::<_, String>(0)
            })?;
            let mut repos = Vec::new();
            for name in rows {
                repos.push(name?.parse().map_err(Error::from)?);
            }
            Ok(repos)
        })
    }

    /// Manifests of `repo` whose subject is `digest`, with artifactType and annotations filled as the spec says
    /// (distribution-spec, "Listing Referrers"), in byte order of their digests.
    pub fn referrers(&self, repo: &RepoName, digest: &Digest) -> Result<Vec<Descriptor>> {
        let rows: Vec<(String, String)> = self.inner.index.read(|tx| {
            let mut statement = tx.prepare_cached(
                "SELECT digest, media_type FROM repos JOIN repo_manifests ON repo = id
                 JOIN manifests USING(digest) WHERE name = ?1 AND subject = ?2 ORDER BY digest",
            )?;
            let rows = statement.query_map((repo.to_string(), digest.to_string()), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let mut referrers = Vec::with_capacity(rows.len());
        for (digest, media_type) in rows {
            let digest = stored_digest(&digest)?;
            let bytes = self.read_blob(&digest, MAX_MANIFEST)?;
            let parsed = parse(&media_type, &bytes)?;
            let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
            descriptor.artifact_type = parsed.artifact_type;
            descriptor.annotations = parsed.annotations;
            referrers.push(descriptor);
        }
        Ok(referrers)
    }
}

fn sql_limit(limit: Option<usize>) -> i64 {
    limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(-1))
}

/// A digest that the index holds.
pub(super) fn stored_digest(text: &str) -> Result<Digest> {
    text.parse()
        .map_err(|error| Error::Damaged(format!("index: {error}")))
}

pub(super) fn find_repo(tx: &Transaction<'_>, repo: &RepoName) -> Result<Option<i64>, Fail> {
    let mut statement = tx.prepare_cached("SELECT id FROM repos WHERE name = ?1")?;
    Ok(statement
        .query_row([repo.to_string()], |row| row.get(0))
        .optional()?)
}

/// Finds or makes the row of a repository.
pub(super) fn repo_id(tx: &Transaction<'_>, repo: Option<&RepoName>) -> Result<i64, Fail> {
    let Some(repo) = repo else { return Ok(0) };
    if let Some(id) = find_repo(tx, repo)? {
        return Ok(id);
    }
    tx.prepare_cached("INSERT INTO repos(name) VALUES (?1)")?
        .execute([repo.to_string()])?;
    Ok(tx.last_insert_rowid())
}

pub(super) fn link_blob(tx: &Transaction<'_>, repo: i64, digest: &Digest) -> Result<(), Fail> {
    tx.prepare_cached("INSERT OR IGNORE INTO repo_blobs(repo, digest) VALUES (?1, ?2)")?
        .execute((repo, digest.to_string()))?;
    Ok(())
}

pub(super) fn link_manifest(tx: &Transaction<'_>, repo: i64, digest: &Digest) -> Result<(), Fail> {
    tx.prepare_cached("INSERT OR IGNORE INTO repo_manifests(repo, digest) VALUES (?1, ?2)")?
        .execute((repo, digest.to_string()))?;
    Ok(())
}

pub(super) fn move_tag(tx: &Transaction<'_>, repo: i64, tag: &Tag, digest: &Digest) -> Result<(), Fail> {
    tx.prepare_cached("INSERT OR REPLACE INTO tags(repo, tag, digest) VALUES (?1, ?2, ?3)")?
        .execute((repo, tag.as_str(), digest.to_string()))?;
    Ok(())
}

fn record_manifest(
    tx: &Transaction<'_>,
    descriptor: &Descriptor,
    parsed: &Parsed,
    present: &[bool],
) -> Result<(), Fail> {
    let digest = descriptor.digest.to_string();
    tx.prepare_cached(
        "INSERT INTO manifests(digest, media_type, size, kind, subject, stored_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT(digest) DO UPDATE SET media_type = excluded.media_type, kind = excluded.kind",
    )?
    .execute((
        &digest,
        &descriptor.media_type,
        to_i64(descriptor.size),
        parsed.kind.as_str(),
        parsed.subject.as_ref().map(ToString::to_string),
        now(),
    ))?;
    tx.prepare_cached("DELETE FROM edges WHERE manifest = ?1")?
        .execute([&digest])?;
    for (at, ((role, target), present)) in parsed.edges.iter().zip(present).enumerate() {
        let target = target.to_string();
        tx.prepare_cached(
            "INSERT INTO edges(manifest, role, pos, target, present) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((&digest, role.as_str(), to_i64(at as u64), &target, present))?;
        tx.prepare_cached("DELETE FROM fresh WHERE digest = ?1")?
            .execute([&target])?;
    }
    tx.prepare_cached("DELETE FROM fresh WHERE digest = ?1")?
        .execute([&digest])?;
    Ok(())
}

fn record_layers(tx: &Transaction<'_>, manifest: &Digest, diff_ids: &[DiffId]) -> Result<(), Fail> {
    let manifest = manifest.to_string();
    tx.prepare_cached("DELETE FROM image_layers WHERE manifest = ?1")?
        .execute([&manifest])?;
    for (at, diff_id) in diff_ids.iter().enumerate() {
        let diff_id = diff_id.to_string();
        tx.prepare_cached("INSERT INTO image_layers(manifest, pos, diff_id) VALUES (?1, ?2, ?3)")?
            .execute((&manifest, to_i64(at as u64), &diff_id))?;
        tx.prepare_cached("DELETE FROM fresh WHERE kind = 'layer' AND digest = ?1")?
            .execute([&diff_id])?;
    }
    Ok(())
}

/// The recorded DiffIDs of an image, bottom first.
pub(super) fn image_layers(tx: &Transaction<'_>, manifest: &Digest) -> Result<Vec<DiffId>, Fail> {
    let mut statement =
        tx.prepare_cached("SELECT diff_id FROM image_layers WHERE manifest = ?1 ORDER BY pos")?;
    let rows = statement.query_map([manifest.to_string()], |row| row.get::<_, String>(0))?;
    let mut layers = Vec::new();
    for row in rows {
        layers.push(DiffId(stored_digest(&row?)?));
    }
    Ok(layers)
}
