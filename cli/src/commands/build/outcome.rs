//! What was built, and the files that tell of it.

use std::io::Write;
use std::path::Path;

use cooper_daemon::api::ImageResult;
use cooper_daemon::build::Verification;
use serde_json::{Map, Value, json};

use crate::client::{Client, query};
use crate::commands::inspect::pretty;
use crate::failure::{Failure, Result};

/// What was built.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::commands) struct Built {
    /// One for each target.
    pub(in crate::commands) images: Vec<ImageResult>,
    /// What `--verify` found, in place of an image.
    pub(super) verified: Option<Verification>,
    /// What the build warned of.
    pub(super) warnings: Vec<String>,
}

impl Built {
    /// Id of the first image.
    pub(in crate::commands) fn id(&self) -> &str {
        self.images.first().map_or("", |image| &image.id)
    }
}

/// What `--metadata-file` gets, with buildx's keys; several images are a list.
pub(super) async fn metadata(client: &Client, built: &Built) -> Result<Value> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::new(format!("get random bytes: {error}")))?;
    // BUILDER/NODE/BUILD, as buildx writes it.
    let build = format!("cooper/cooper/{:032x}", u128::from_le_bytes(random));
    let warnings: Vec<Value> = built
        .warnings
        .iter()
        .map(|text| json!({ "short": text }))
        .collect();
    let mut all = Vec::new();
    for image in &built.images {
        let mut pairs = vec![("image", image.id.as_str()), ("ref", build.as_str())];
        pairs.extend(image.names.iter().map(|name| ("name", name.as_str())));
        let mut map: Map<String, Value> = client.get(&query("/cooper/metadata", &pairs)).await?;
        if !warnings.is_empty() {
            map.insert("buildx.build.warnings".to_owned(), warnings.clone().into());
        }
        all.push(Value::Object(map));
    }
    match <[Value; 1]>::try_from(all) {
        Ok([one]) => Ok(one),
        Err(all) => Ok(all.into()),
    }
}

/// Writes `--iidfile`, an id a line when there are several.
pub(super) fn write_ids(path: &Path, built: &Built) -> Result {
    let ids: Vec<&str> = built.images.iter().map(|image| image.id.as_str()).collect();
    replace(path, &ids.join("\n"))
}

/// Writes `--metadata-file`.
pub(super) fn write_metadata(path: &Path, metadata: &Value) -> Result {
    replace(path, &pretty(metadata)?)
}

/// Writes a file whole or not at all. What is no regular file (a pipe, `/dev/stdout`) is written to in place.
fn replace(path: &Path, text: &str) -> Result {
    let fail = |error: std::io::Error| Failure::new(format!("cannot write {}: {error}", path.display()));
    // Where a link leads, so that the link stays.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if std::fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
        return std::fs::write(&target, text).map_err(fail);
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = target.with_file_name(name);
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|error| {
        // Nothing half-written stays; if even that fails, the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
        fail(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let (ids, metadata) = (directory.path().join("ids"), directory.path().join("metadata"));
        let image = |id: &str, names: &[&str]| ImageResult {
            id: id.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
        };
        let mut built = Built {
            images: vec![image("sha256:1", &["a", "b"])],
            verified: None,
            warnings: Vec::new(),
        };
        write_ids(&ids, &built).unwrap();
        assert_eq!(std::fs::read_to_string(&ids).unwrap(), "sha256:1");
        built.images.push(image("sha256:2", &[]));
        write_ids(&ids, &built).unwrap();
        assert_eq!(std::fs::read_to_string(&ids).unwrap(), "sha256:1\nsha256:2");
        let value = json!({"image.name": "a,b"});
        write_metadata(&metadata, &value).unwrap();
        let read = std::fs::read_to_string(&metadata).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), value);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let nowhere = directory.path().join("none/ids");
        assert!(write_ids(&nowhere, &built).is_err());
    }
}
