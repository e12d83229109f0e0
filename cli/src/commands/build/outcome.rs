//! What was built, and the files that tell of it.

use std::io::Write;
use std::path::Path;

use cooper_daemon::api::ImageResult;
use serde_json::{Value, json};

use crate::commands::inspect::pretty;
use crate::failure::{Failure, Result};

/// What was built.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::commands) struct Built {
    /// One for each target.
    pub(in crate::commands) images: Vec<ImageResult>,
}

impl Built {
    /// Id of the first image.
    pub(in crate::commands) fn id(&self) -> &str {
        self.images.first().map_or("", |image| &image.id)
    }

    /// `--metadata-file`, with buildx's keys; several images are a list.
    fn metadata(&self) -> Value {
        let image = |image: &ImageResult| {
            json!({
                "containerimage.digest": image.id,
                "image.name": image.names.join(","),
            })
        };
        match self.images.as_slice() {
            [one] => image(one),
            all => all.iter().map(image).collect(),
        }
    }
}

/// Writes `--iidfile`, an id a line when there are several, and `--metadata-file`.
pub(super) fn write_files(built: &Built, iidfile: Option<&Path>, metadata: Option<&Path>) -> Result {
    if let Some(path) = iidfile {
        let ids: Vec<&str> = built.images.iter().map(|image| image.id.as_str()).collect();
        replace(path, &ids.join("\n"))?;
    }
    if let Some(path) = metadata {
        replace(path, &pretty(&built.metadata())?)?;
    }
    Ok(())
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
        let check = |images: Vec<ImageResult>, expected: (&str, Value)| {
            write_files(&Built { images }, Some(&ids), Some(&metadata)).unwrap();
            assert_eq!(std::fs::read_to_string(&ids).unwrap(), expected.0);
            let read = std::fs::read_to_string(&metadata).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&read).unwrap(), expected.1);
        };
        let one = json!({"containerimage.digest": "sha256:1", "image.name": "a,b"});
        check(vec![image("sha256:1", &["a", "b"])], ("sha256:1", one.clone()));
        let two = json!({"containerimage.digest": "sha256:2", "image.name": ""});
        check(
            vec![image("sha256:1", &["a", "b"]), image("sha256:2", &[])],
            ("sha256:1\nsha256:2", json!([one, two])),
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let nowhere = directory.path().join("none/ids");
        assert!(write_files(&Built::default(), Some(&nowhere), None).is_err());
    }
}
