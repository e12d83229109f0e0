//! An image of the store as an archive: an OCI layout, what `docker load` takes, or its files.
//!
//! Everything is streamed: memory does not grow with the image. The same image with the same options gives the same bytes.

mod archive;
mod files;

use std::io::Write;
use std::path::Path;

use cooper_registry::digest::Digest;
use cooper_registry::reference::ImageRef;
use cooper_registry::store::Store;
use serde::{Deserialize, Serialize};

use super::index::Contents;
use crate::build::{Annotation, Compression, Error};

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An OCI layout in a tar (image-spec `image-layout.md`), with the index if there is one.
    Oci,
    /// What `docker load` takes: docker-archive and OCI layout in one tar; one platform.
    Docker,
    /// The root file system; of several platforms each in a directory of its own.
    Tar,
}

/// How it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WriteOptions {
    /// Form of the layers; none leaves them as they are in the image.
    pub compression: Option<Compression>,
    /// Docker's media types in manifests (`oci-mediatypes=false`).
    pub docker_types: bool,
    /// Names that the archive gives the image.
    pub names: Vec<ImageRef>,
    /// Those for `index-descriptor` are put into `index.json`.
    pub annotations: Vec<Annotation>,
    /// Files: a directory for each platform, also for one; by default for several only.
    pub platform_split: Option<bool>,
    /// Files with later times get this one (unix seconds).
    pub source_date_epoch: Option<i64>,
}

/// Writes the image `id`, a manifest or an index of the store, to `out`. `exec_root` as for
/// [`build()`](crate::build::build()).
///
/// # Errors
/// When the image is not complete here, the format cannot hold it, or `out` takes no more.
pub fn write(
    store: &Store,
    exec_root: &Path,
    id: &Digest,
    format: Format,
    options: &WriteOptions,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let lease = store.lease()?;
    match format {
        Format::Oci | Format::Docker => {
            let id = super::convert(
                store,
                &lease,
                id,
                options.compression.as_ref(),
                options.docker_types,
            )?;
            let contents = Contents::read(store, &lease, &id)?;
            if format == Format::Oci {
                archive::oci(store, &id, &contents, options, out)
            } else {
                archive::docker(store, contents, options, out)
            }
        }
        Format::Tar => files::write(store, &lease, exec_root, id, options, out),
    }
}
