//! Consistency check.

use std::os::unix::fs::MetadataExt;

use super::blobs::open_dir;
use super::error::{Error, Result};
use super::gc::{list, texts};
use super::handle::Store;
use super::layers::read_record;
use super::layout::{ALGORITHMS, LAYER_KINDS, LayerKey};
use super::repos::stored_digest;
use super::tar::blob::hash_tree;
use crate::digest::{Algorithm, Digest};

impl Store {
    /// fsck: problems found, empty if consistent. `deep` re-hashes everything. Left-overs that a collection removes (dead
    /// uploads, scratch directories, unreferenced blobs) are no problem.
    pub fn check(&self, deep: bool) -> Result<Vec<String>> {
        let mut problems = self.check_index()?;
        for algorithm in ALGORITHMS {
            for (name, path) in list(&self.inner.layout.blob_dir(algorithm))? {
                match format!("{}:{name}", algorithm.as_str()).parse::<Digest>() {
                    Err(_) => problems.push(format!("{}: not named by a digest", path.display())),
                    Ok(digest) if deep => problems.extend(self.check_blob(&digest)?),
                    Ok(_) => {}
                }
            }
        }
        for kind in LAYER_KINDS {
            for (name, path) in list(&self.inner.layout.layer_kind(kind))? {
                let Some(key) = LayerKey::parse(kind, &name) else {
                    problems.push(format!("{}: not named by a digest", path.display()));
                    continue;
                };
                problems.extend(self.check_layer(&key, deep)?);
            }
        }
        Ok(problems)
    }

    fn check_index(&self) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let (integrity, manifests, targets, layers, stray) = self.inner.index.read(|tx| {
            let integrity = texts(tx, "PRAGMA integrity_check")?;
            let mut statement = tx.prepare("SELECT digest, size FROM manifests")?;
            let manifests = statement
                .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<(String, i64)>, _>>()?;
            let targets = texts(tx, "SELECT DISTINCT target FROM edges WHERE present")?;
            let layers = texts(tx, "SELECT DISTINCT diff_id FROM cache_layers")?;
            let stray = texts(
                tx,
                "SELECT 'tag ' || repo || ':' || tag || ' points to ' || digest || ', which is not in its repository'
                   FROM tags t WHERE NOT EXISTS
                   (SELECT 1 FROM repo_manifests r WHERE r.repo = t.repo AND r.digest = t.digest)
                 UNION ALL
                 SELECT 'repository ' || repo || ' lists ' || digest || ', which is unknown'
                   FROM repo_manifests r WHERE NOT EXISTS (SELECT 1 FROM manifests m WHERE m.digest = r.digest)",
            )?;
            Ok((integrity, manifests, targets, layers, stray))
        })?;
        problems.extend(
            integrity
                .into_iter()
                .filter(|line| line != "ok")
                .map(|line| format!("index: {line}")),
        );
        problems.extend(stray);
        for (digest, size) in manifests {
            match self.blob_info(&stored_digest(&digest)?)? {
                None => problems.push(format!("manifest {digest} is missing")),
                Some(info) if i64::try_from(info.size) != Ok(size) => {
                    problems.push(format!(
                        "manifest {digest} has {} bytes, {size} recorded",
                        info.size
                    ));
                }
                Some(_) => {}
            }
        }
        for target in targets {
            if self.blob_info(&stored_digest(&target)?)?.is_none() {
                problems.push(format!("blob {target} is missing"));
            }
        }
        for layer in layers {
            let key = LayerKey::Diff(crate::digest::DiffId(stored_digest(&layer)?));
            if self.load_layer(&key)?.is_none() {
                problems.push(format!("layer {layer} of the build cache is missing"));
            }
        }
        Ok(problems)
    }

    fn check_blob(&self, digest: &Digest) -> Result<Option<String>> {
        let mut reader = match self.open_blob(digest, 0) {
            // Collected meanwhile.
            Err(Error::NoSuchBlob(_)) => return Ok(None),
            other => other?,
        };
        let mut hasher = digest.algorithm().hasher();
        let mut buffer = vec![0u8; 256 << 10];
        loop {
            match std::io::Read::read(&mut reader, &mut buffer) {
                Ok(0) => break,
                Ok(got) => hasher.update(&buffer[..got]),
                Err(error) => return Ok(Some(format!("blob {digest}: {error}"))),
            }
        }
        let got = hasher.finish();
        Ok((got != *digest).then(|| format!("blob {digest} hashes to {got}")))
    }

    fn check_layer(&self, key: &LayerKey, deep: bool) -> Result<Option<String>> {
        let dir = self.inner.layout.layer(key);
        let record = match read_record(&dir)? {
            None => return Ok(None),
            Some(Err(reason)) => return Ok(Some(format!("{}: {reason}", dir.display()))),
            Some(Ok(record)) => record,
        };
        let right = match key {
            LayerKey::Diff(id) => record.diff_id == *id && record.chain_id.is_none(),
            LayerKey::Chain(id) => record.chain_id.as_ref() == Some(id),
        };
        if !right {
            return Ok(Some(format!("{}: layer.json is of another layer", dir.display())));
        }
        let tree = dir.join("tree");
        let is_dir = std::fs::symlink_metadata(&tree).is_ok_and(|m| m.is_dir() && m.nlink() > 0);
        if !is_dir {
            return Ok(Some(format!("{}: missing", tree.display())));
        }
        if deep && record.canonical {
            let algorithm: Algorithm = record.diff_id.0.algorithm();
            let (digest, size) = hash_tree(open_dir(&tree)?, algorithm, None)?;
            if digest != record.diff_id.0 || size != record.size {
                return Ok(Some(format!("layer {} hashes to {digest}", record.diff_id)));
            }
        }
        Ok(None)
    }
}
