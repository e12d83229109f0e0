//! The engine's view: runnable images by name or id.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Transaction};

use super::error::{Error, Result};
use super::handle::Store;
use super::index::{Durability, Fail};
use super::layout::LayerKey;
use super::manifest::is_index;
use super::repos::{
    Link, MAX_CONFIG, MAX_MANIFEST, find_repo, link_blob, link_manifest, move_tag, repo_id, stored_digest,
};
use super::types::{GcOptions, GcReport, Image, ManifestForm};
use crate::digest::{DiffId, Digest};
use crate::oci::{Descriptor, ImageConfig, Index, Manifest, Platform, media_type};
use crate::reference::{ImageRef, RepoName, Tag};

/// Indexes may nest; deeper ones than this are not followed.
const MAX_NESTING: usize = 4;

impl Store {
    /// By name, `name@digest`, or unique id prefix (with or without `sha256:`), as `docker inspect` takes them; platform: the
    /// host's. A name wins over an id prefix; with a digest the tag is ignored (Docker 28, `daemon/containerd` and
    /// `daemon/images` agree on this).
    ///
    /// # Errors
    /// [`Error::Reference`], [`Error::NoSuchImage`], [`Error::Ambiguous`], [`Error::NotRunnable`].
    pub fn image(&self, text: &str) -> Result<Image> {
        let id = self.resolve_image(text)?;
        self.load_image(&id)
    }

    /// The digest that a text means; what it points to need not be runnable here.
    ///
    /// # Errors
    /// As [`Store::image`], without [`Error::NotRunnable`].
    pub fn resolve_image(&self, text: &str) -> Result<Digest> {
        let missing = || Error::NoSuchImage(text.to_owned());
        // A full id, with or without algorithm, is never a name.
        for candidate in [text.to_owned(), format!("sha256:{text}")] {
            if let Ok(digest) = candidate.parse::<Digest>() {
                let linked = self.inner.index.read(|tx| is_linked(tx, &digest))?;
                return if linked { Ok(digest) } else { Err(missing()) };
            }
        }
        let reference = text.parse::<ImageRef>();
        if let Ok(reference) = &reference {
            let found = self.inner.index.read(|tx| find_reference(tx, reference))?;
            if let Some(digest) = found {
                return Ok(digest);
            }
        }
        if let Some(prefix) = id_prefix(text) {
            let matches = self.inner.index.read(|tx| find_prefix(tx, &prefix))?;
            match matches.as_slice() {
                [] => {}
                [one] => return Ok(one.clone()),
                _ => return Err(Error::Ambiguous(text.to_owned())),
            }
        }
        match reference {
            Ok(_) => Err(missing()),
            Err(error) => Err(error.into()),
        }
    }

    /// All runnable images: what tags point to, and unnamed ones that nothing else contains; newest first. What this host
    /// cannot run (other platforms, artifacts, partial copies) is left out.
    pub fn images(&self) -> Result<Vec<Image>> {
        let ids = self.inner.index.read(top_level)?;
        let mut images = Vec::new();
        for id in ids {
            match self.load_image(&id) {
                Ok(image) => images.push(image),
                Err(Error::NotRunnable { .. } | Error::NoSuchBlob(_) | Error::NoSuchImage(_)) => {}
                Err(error @ (Error::InvalidManifest(_) | Error::TooLarge { .. })) => {
                    tracing::warn!(%id, %error, "skipping an image that cannot be read");
                }
                Err(error) => return Err(error),
            }
        }
        images.sort_by(|a, b| (b.stored_at, &a.id).cmp(&(a.stored_at, &b.id)));
        Ok(images)
    }

    /// The image that a manifest or index in the store is, for this host.
    pub(super) fn load_image(&self, id: &Digest) -> Result<Image> {
        self.load_image_for(id, &Platform::host())
    }

    /// The same for any platform.
    pub(super) fn load_image_for(&self, id: &Digest, platform: &Platform) -> Result<Image> {
        let not_runnable = |reason: String| Error::NotRunnable {
            id: id.clone(),
            reason,
        };
        let row = self.inner.index.read(|tx| manifest_row(tx, id))?;
        let (mut media_type, stored_at) = row.ok_or_else(|| Error::NoSuchImage(id.to_string()))?;
        let mut manifest_digest = id.clone();
        let mut bytes = self.read_blob(id, MAX_MANIFEST)?;
        for _ in 0..MAX_NESTING {
            if !is_index(&media_type) {
                break;
            }
            let index: Index = parse_json(&bytes)?;
            let child = self
                .choose(&index, platform)?
                .ok_or_else(|| not_runnable("no manifest for this platform".into()))?;
            bytes = self.read_blob(&child.digest, MAX_MANIFEST)?;
            manifest_digest = child.digest;
            media_type = child.media_type;
        }
        if is_index(&media_type) {
            return Err(not_runnable("indexes are nested too deeply".into()));
        }
        let manifest: Manifest = parse_json(&bytes)?;
        if !matches!(
            manifest.config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        ) {
            return Err(not_runnable(format!(
                "its config is {}",
                manifest.config.media_type
            )));
        }
        let config_bytes = self.read_blob(&manifest.config.digest, MAX_CONFIG)?;
        let config: ImageConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| not_runnable(format!("its config: {error}")))?;
        let names = self.inner.index.read(|tx| names_of(tx, id))?;
        Ok(Image {
            id: id.clone(),
            manifest_digest,
            manifest,
            config,
            config_bytes,
            names,
            stored_at,
        })
    }

    /// The child for a platform that is in the store; an exact variant before none before any.
    fn choose(&self, index: &Index, wanted: &Platform) -> Result<Option<Descriptor>> {
        let wanted = wanted.normalized();
        let mut best: Option<(u32, &Descriptor)> = None;
        for child in &index.manifests {
            let platform = child.platform.as_ref().map(Platform::normalized);
            let rank = match &platform {
                None if is_index(&child.media_type) => 3,
                None => 4,
                Some(p) if p.os != wanted.os || p.architecture != wanted.architecture => continue,
                Some(p) if p.variant == wanted.variant => 0,
                // x86-64-v2 and later may need what a plain CPU lacks.
                Some(p) if p.architecture == "amd64" && p.variant.is_some() => 2,
                Some(_) => 1,
            };
            if best.is_none_or(|(other, _)| rank < other) && self.has_blob(&child.digest)? {
                best = Some((rank, child));
            }
        }
        Ok(best.map(|(_, child)| child.clone()))
    }

    /// Writes config and OCI manifest for `layers` (bottom first; blob descriptors of base layers kept as they came) and
    /// names it; a name without a tag means `latest`. Layers made here become durable first. Gives the image id.
    ///
    /// # Errors
    /// [`Error::InvalidManifest`] if `layers` and the config's DiffIDs differ in number.
    pub fn put_image(
        &self,
        config: &ImageConfig,
        layers: &[Descriptor],
        names: &[ImageRef],
    ) -> Result<Digest> {
        self.put_image_as(config, layers, names, &ManifestForm::default())
    }

    /// [`Store::put_image`] with annotations, or with Docker's media types.
    ///
    /// # Errors
    /// As [`Store::put_image`].
    pub fn put_image_as(
        &self,
        config: &ImageConfig,
        layers: &[Descriptor],
        names: &[ImageRef],
        form: &ManifestForm,
    ) -> Result<Digest> {
        if config.rootfs.diff_ids.len() != layers.len() {
            return Err(Error::InvalidManifest(format!(
                "{} layers, but the config has {} diff ids",
                layers.len(),
                config.rootfs.diff_ids.len()
            )));
        }
        let keys: Vec<LayerKey> = config
            .rootfs
            .diff_ids
            .iter()
            .cloned()
            .map(LayerKey::Diff)
            .collect();
        self.sync()?;
        self.make_durable(&keys)?;
        let json = |value: Result<Vec<u8>, serde_json::Error>| {
            value.map_err(|error| Error::InvalidManifest(error.to_string()))
        };
        let config_bytes = json(serde_json::to_vec(config))?;
        let config_digest = self.put_blob(&config_bytes)?;
        let (manifest_type, config_type) = if form.docker_types {
            (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
        } else {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
        };
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(manifest_type.to_owned()),
            artifact_type: None,
            config: Descriptor::new(config_type, config_digest, config_bytes.len() as u64),
            layers: layers.to_vec(),
            subject: None,
            annotations: form.annotations.clone(),
        };
        let mut by_repo: BTreeMap<&RepoName, Vec<Tag>> = BTreeMap::new();
        for name in names {
            by_repo
                .entry(&name.repo)
                .or_default()
                .extend(name.tag_or_latest());
        }
        let links: Vec<Link<'_>> = match by_repo.len() {
            0 => vec![(None, Vec::new())],
            _ => by_repo
                .into_iter()
                .map(|(repo, tags)| (Some(repo), tags))
                .collect(),
        };
        let bytes = json(serde_json::to_vec(&manifest))?;
        Ok(self.store_manifest(manifest_type, &bytes, None, &links)?.digest)
    }

    /// New name for an image; whatever the name meant before becomes unnamed.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub fn tag_image(&self, id: &Digest, name: &ImageRef) -> Result<()> {
        let tag = name.tag_or_latest();
        self.inner.index.write(Durability::Full, |tx| {
            if !is_linked(tx, id)? {
                return Err(Error::NoSuchImage(id.to_string()).into());
            }
            let repo = repo_id(tx, Some(&name.repo))?;
            for manifest in closure(tx, id)? {
                link_manifest(tx, repo, &manifest)?;
                for target in edges(tx, &manifest, "role <> 'child' AND present")? {
                    link_blob(tx, repo, &target)?;
                }
            }
            tag.iter().try_for_each(|tag| move_tag(tx, repo, tag, id))
        })
    }

    /// Removes one name; the image stays, unnamed if it was the last one, until [`Store::delete_image`] or a collection of
    /// dangling images. False if the name did not exist.
    pub fn untag_image(&self, name: &ImageRef) -> Result<bool> {
        let Some(tag) = name.tag_or_latest() else {
            return Ok(false);
        };
        self.delete_tag(&name.repo, &tag)
    }

    /// Removes all names and the image itself with what refers to it, then sweeps; layers that a lease, another image or
    /// the build cache needs stay.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`].
    pub fn delete_image(&self, id: &Digest) -> Result<GcReport> {
        let delete = |tx: &Transaction<'_>| {
            if !is_linked(tx, id)? {
                return Err(Error::NoSuchImage(id.to_string()).into());
            }
            drop_image(tx, id)
        };
        let untagged = self.freeing(|| self.inner.index.write(Durability::Full, delete))?;
        let mut report = self.gc(&GcOptions::default(), &|_| true)?;
        report.untagged.splice(0..0, untagged);
        Ok(report)
    }
}

fn parse_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::InvalidManifest(error.to_string()))
}

/// The stored form of an id prefix; `None` if `text` cannot be one.
fn id_prefix(text: &str) -> Option<String> {
    let (algorithm, hex) = text.split_once(':').unwrap_or(("sha256", text));
    let known = matches!((algorithm, hex.len()), ("sha256", 1..=64) | ("sha512", 1..=128));
    let hexadecimal = hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (known && hexadecimal).then(|| format!("{algorithm}:{hex}"))
}

fn digests(tx: &Transaction<'_>, sql: &str, parameters: impl rusqlite::Params) -> Result<Vec<Digest>, Fail> {
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query_map(parameters, |row| row.get::<_, String>(0))?;
    let mut found = Vec::new();
    for row in rows {
        found.push(stored_digest(&row?)?);
    }
    Ok(found)
}

fn is_linked(tx: &Transaction<'_>, digest: &Digest) -> Result<bool, Fail> {
    Ok(tx
        .prepare_cached("SELECT 1 FROM repo_manifests WHERE digest = ?1")?
        .exists([digest.to_string()])?)
}

fn manifest_row(tx: &Transaction<'_>, digest: &Digest) -> Result<Option<(String, i64)>, Fail> {
    let mut statement = tx.prepare_cached("SELECT media_type, stored_at FROM manifests WHERE digest = ?1")?;
    Ok(statement
        .query_row([digest.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?)
}

fn find_reference(tx: &Transaction<'_>, reference: &ImageRef) -> Result<Option<Digest>, Fail> {
    let Some(repo) = find_repo(tx, &reference.repo)? else {
        return Ok(None);
    };
    if let Some(digest) = &reference.digest {
        let linked = tx
            .prepare_cached("SELECT 1 FROM repo_manifests WHERE repo = ?1 AND digest = ?2")?
            .exists((repo, digest.to_string()))?;
        return Ok(linked.then(|| digest.clone()));
    }
    let tag = reference.tag_or_latest().unwrap_or_else(Tag::latest);
    let found = digests(
        tx,
        "SELECT digest FROM tags WHERE repo = ?1 AND tag = ?2",
        (repo, tag.as_str()),
    )?;
    Ok(found.into_iter().next())
}

fn find_prefix(tx: &Transaction<'_>, prefix: &str) -> Result<Vec<Digest>, Fail> {
    // `g` is the first character after the hex digits, so this is a range scan.
    digests(
        tx,
        "SELECT DISTINCT digest FROM repo_manifests WHERE digest >= ?1 AND digest < ?1 || 'g' LIMIT 2",
        [prefix],
    )
}

/// Tagged manifests and those that nothing names or contains.
pub(super) fn top_level(tx: &Transaction<'_>) -> Result<Vec<Digest>, Fail> {
    let mut ids = digests(tx, "SELECT DISTINCT digest FROM tags", ())?;
    ids.extend(dangling(tx)?);
    Ok(ids)
}

/// Manifests without a tag that no index contains and that refer to no subject.
pub(super) fn dangling(tx: &Transaction<'_>) -> Result<Vec<Digest>, Fail> {
    digests(
        tx,
        "SELECT digest FROM manifests m WHERE subject IS NULL
         AND EXISTS (SELECT 1 FROM repo_manifests r WHERE r.digest = m.digest)
         AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest)
         AND NOT EXISTS (SELECT 1 FROM edges e JOIN repo_manifests r ON r.digest = e.manifest
                         WHERE e.target = m.digest AND e.role = 'child')",
        (),
    )
}

pub(super) fn names_of(tx: &Transaction<'_>, id: &Digest) -> Result<Vec<ImageRef>, Fail> {
    let mut statement = tx.prepare_cached(
        "SELECT name, tag FROM tags JOIN repos ON repos.id = repo WHERE digest = ?1 ORDER BY 1, 2",
    )?;
    let rows = statement.query_map([id.to_string()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    let mut names = Vec::new();
    for row in rows {
        let (repo, tag) = row?;
        let repo = repo.parse().map_err(Error::from)?;
        names.push(ImageRef {
            repo,
            tag: Some(tag.parse().map_err(Error::from)?),
            digest: None,
        });
    }
    Ok(names)
}

/// Targets of a manifest's edges that satisfy an SQL condition.
pub(super) fn edges(tx: &Transaction<'_>, manifest: &Digest, condition: &str) -> Result<Vec<Digest>, Fail> {
    let sql = format!("SELECT target FROM edges WHERE manifest = ?1 AND {condition} ORDER BY pos");
    digests(tx, &sql, [manifest.to_string()])
}

/// `id` and everything that it contains and the store has a row of.
pub(super) fn closure(tx: &Transaction<'_>, id: &Digest) -> Result<Vec<Digest>, Fail> {
    let mut found = vec![id.clone()];
    let mut next = 0;
    while let Some(digest) = found.get(next).cloned() {
        next += 1;
        for child in edges(
            tx,
            &digest,
            "role = 'child' AND target IN (SELECT digest FROM manifests)",
        )? {
            if !found.contains(&child) {
                found.push(child);
            }
        }
    }
    Ok(found)
}

/// Takes an image out of every repository, with its tags, its children that nothing else needs, and what refers to it.
pub(super) fn drop_image(tx: &Transaction<'_>, id: &Digest) -> Result<Vec<ImageRef>, Fail> {
    let names = names_of(tx, id)?;
    let mut queue = vec![id.clone()];
    tx.prepare_cached("DELETE FROM tags WHERE digest = ?1")?
        .execute([id.to_string()])?;
    while let Some(digest) = queue.pop() {
        let key = digest.to_string();
        let unlinked = tx
            .prepare_cached("DELETE FROM repo_manifests WHERE digest = ?1")?
            .execute([&key])?;
        if unlinked == 0 {
            continue;
        }
        queue.extend(digests(
            tx,
            "SELECT target FROM edges e WHERE manifest = ?1 AND role = 'child'
             AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.digest = e.target)
             AND NOT EXISTS (SELECT 1 FROM edges o JOIN repo_manifests r ON r.digest = o.manifest
                             WHERE o.target = e.target AND o.role = 'child')",
            [&key],
        )?);
        queue.extend(digests(
            tx,
            "SELECT digest FROM manifests m WHERE subject = ?1
             AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.digest = m.digest)",
            [&key],
        )?);
    }
    Ok(names)
}

/// The layers of an image by both of their possible keys.
pub(super) fn layer_keys(diff_ids: &[DiffId]) -> Vec<LayerKey> {
    let mut keys = Vec::with_capacity(diff_ids.len() * 2);
    let mut chain: Option<crate::digest::ChainId> = None;
    for diff_id in diff_ids {
        let next = chain.map_or_else(
            || crate::digest::ChainId::bottom(diff_id),
            |chain| chain.push(diff_id),
        );
        keys.push(LayerKey::Diff(diff_id.clone()));
        keys.push(LayerKey::Chain(next.clone()));
        chain = Some(next);
    }
    keys
}
