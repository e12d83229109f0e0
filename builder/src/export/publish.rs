//! From finished root file systems to manifests with names, here and in registries.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, ImageConfig, Platform};
use cooper_registry::reference::ImageRef;
use cooper_registry::store::{Lease, ManifestForm, Store};

use super::annotate::annotations;
use super::attest::{self, Facts};
use super::index::{describe, put_index};
use super::{layers, squash};
use crate::build::{AnnotationPlace, Compression, Error, Event, Registries, Request};
use crate::exec::Events;
use crate::plan::is_multi_platform;

/// One platform's result.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) platform: Platform,
    pub(crate) config: ImageConfig,
    /// Bottom first, one for each DiffID of the config.
    pub(crate) layers: Vec<Descriptor>,
    /// How many of them are the base image's.
    pub(crate) base_layers: usize,
    /// Unpacked trees, top first.
    pub(crate) lowers: Vec<PathBuf>,
    /// What provenance tells of it.
    pub(crate) facts: Facts,
}

/// Makes and pushes the documents of a build.
pub(crate) struct Publisher<'a> {
    pub(crate) store: &'a Store,
    pub(crate) lease: &'a Lease,
    pub(crate) request: &'a Request,
    pub(crate) registries: &'a dyn Registries,
    /// An empty directory.
    pub(crate) empty: &'a Path,
    /// Set when the build is given up.
    pub(crate) cancelled: &'a AtomicBool,
    pub(crate) events: Events<'a>,
}

/// Refuses options that contradict each other or the build, before anything runs.
pub(crate) fn check(request: &Request) -> Result<(), Error> {
    let compression = request.compression.unwrap_or_default();
    compression.coding()?;
    let fail = |text: &str| Err(Error::Source(text.to_owned()));
    if request.docker_types
        && request.compression.is_some()
        && compression.kind == crate::build::CompressionKind::Zstd
    {
        return fail("compression=zstd needs OCI media types: leave oci-mediatypes=false out");
    }
    if request.docker_types && (request.provenance.is_some() || request.sbom.is_some()) {
        return fail("attestations need OCI media types: leave oci-mediatypes=false out");
    }
    let is_index = is_index(request);
    for annotation in &request.annotations {
        match annotation.place {
            AnnotationPlace::Index if !is_index => {
                return fail("index annotations not supported for single platform export");
            }
            AnnotationPlace::ManifestDescriptor if !is_index => {
                return fail("manifest-descriptor annotations not supported for single platform export");
            }
            _ if request.docker_types => return fail("annotations need OCI media types"),
            _ => {}
        }
        let known = annotation.platform.as_ref().is_none_or(|wanted| {
            let host = [Platform::host()];
            let platforms = if request.platforms.is_empty() {
                &host[..]
            } else {
                &request.platforms
            };
            platforms
                .iter()
                .any(|platform| super::annotate::same(platform, wanted))
        });
        if !known {
            return Err(Error::Source(format!(
                "annotation {:?} is for a platform that is not built",
                annotation.key
            )));
        }
    }
    if request.push && request.targets.iter().any(|target| target.names.is_empty()) {
        return fail("an image that is pushed needs a name");
    }
    Ok(())
}

/// An image with attestations is an index even for one platform.
fn is_index(request: &Request) -> bool {
    is_multi_platform(request) || request.provenance.is_some() || request.sbom.is_some()
}

impl Publisher<'_> {
    /// Stores the image and gives it its names. The id of what the names then point to:
    /// a manifest, or an index if there are several platforms or attestations.
    pub(crate) fn publish(&self, finished: Vec<Finished>, names: &[ImageRef]) -> Result<Digest, Error> {
        check(self.request)?;
        let is_index = is_index(self.request) || finished.len() > 1;
        if is_index {
            self.index(finished, names)
        } else {
            let one = finished.into_iter().next();
            let one = one.ok_or_else(|| Error::internal("a build without a result"))?;
            self.manifest(&self.prepared(one)?, names)
        }
    }

    /// Pushes an image that was published, under all of its names, if the request says so.
    ///
    /// # Errors
    /// What was pushed before a failure stays pushed.
    pub(crate) fn push(&self, image: &Digest, names: &[ImageRef]) -> Result<(), Error> {
        for name in names.iter().filter(|_| self.request.push) {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let name = if self.request.push_by_digest {
                ImageRef {
                    repo: name.repo.clone(),
                    tag: None,
                    digest: Some(image.clone()),
                }
            } else {
                name.clone()
            };
            self.task(&format!("pushing {}", name.familiar()), |tell| {
                let pushed = self.registries.push(&name, image, tell);
                pushed.map_err(Error::Push)
            })?;
        }
        Ok(())
    }

    /// Does something that is told beside the steps; each line that it tells is about a part that is done.
    pub(super) fn task<T>(
        &self,
        task: &str,
        run: impl FnOnce(&(dyn Fn(String) + Sync)) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let report = |item: &str, status: &str| {
            (self.events)(Event::Progress {
                task: task.to_owned(),
                item: item.to_owned(),
                status: status.to_owned(),
                current: 0,
                total: 0,
            });
        };
        report("", "started");
        let result = run(&|line| report(line.trim_end(), "done"))?;
        report("", "done");
        Ok(result)
    }

    /// Squashes and compresses.
    fn prepared(&self, mut finished: Finished) -> Result<Finished, Error> {
        if self.request.squash {
            squash::squash(self.store, self.lease, self.request, &mut finished)?;
        }
        let compression = match self.request.compression {
            // What leaves this host is compressed unless it was said how.
            None if self.request.push => Some(Compression::default()),
            compression => compression,
        };
        if let Some(compression) = compression {
            finished.layers = self.task("exporting layers", |tell| {
                layers::recode(
                    self.store,
                    self.lease,
                    &finished.config.rootfs.diff_ids,
                    &finished.layers,
                    &compression,
                    self.cancelled,
                    tell,
                )
            })?;
        }
        finished.layers = if self.request.docker_types {
            layers::typed(finished.layers, true)?
        } else {
            finished.layers
        };
        Ok(finished)
    }

    fn manifest(&self, finished: &Finished, names: &[ImageRef]) -> Result<Digest, Error> {
        let form = ManifestForm {
            docker_types: self.request.docker_types,
            annotations: annotations(
                &self.request.annotations,
                AnnotationPlace::Manifest,
                Some(&finished.platform),
            ),
        };
        let image = self
            .store
            .put_image_as(&finished.config, &finished.layers, names, &form)?;
        self.lease.manifest(&image)?;
        Ok(image)
    }

    fn index(&self, finished: Vec<Finished>, names: &[ImageRef]) -> Result<Digest, Error> {
        let mut images = Vec::new();
        let mut attestations = Vec::new();
        for one in finished {
            let one = self.prepared(one)?;
            let digest = self.manifest(&one, &[])?;
            let mut descriptor = describe(self.store, &digest, one.platform.clone())?;
            descriptor.annotations = annotations(
                &self.request.annotations,
                AnnotationPlace::ManifestDescriptor,
                Some(&one.platform),
            );
            images.push(descriptor);
            if let Some(attestation) = attest::attest(self, &one, &digest, names)? {
                attestations.push(attestation);
            }
        }
        images.extend(attestations);
        let annotations = annotations(&self.request.annotations, AnnotationPlace::Index, None);
        put_index(self.store, images, annotations, self.request.docker_types, names)
    }
}
