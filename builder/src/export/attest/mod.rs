//! Attestations: how an image was made and what is in it.
//!
//! Each is an in-toto statement about the image's manifest; those of one image are the layers of a manifest beside it in
//! the index, of platform `unknown/unknown`, as BuildKit stores them (`docs/attestations/attestation-storage.md`).

mod provenance;
mod sbom;
mod secret;
mod statement;

use std::collections::BTreeMap;

use cooper_registry::digest::Digest;
use cooper_registry::oci::{Descriptor, Platform, media_type};
use cooper_registry::reference::ImageRef;

use super::index::{ATTESTATION, REFERENCE_DIGEST, REFERENCE_TYPE};
use super::publish::{Finished, Publisher};
use crate::build::Error;

pub(crate) use provenance::{Facts, Material, StepFact};
pub(super) use statement::{PREDICATE_TYPE, rebind, store_statements};

/// Makes and stores the attestations that the request asks for; the descriptor for the index.
pub(super) fn attest(
    publisher: &Publisher<'_>,
    finished: &Finished,
    image: &Digest,
    names: &[ImageRef],
) -> Result<Option<Descriptor>, Error> {
    let request = publisher.request;
    let subjects = statement::subjects(names, &finished.platform, image);
    let mut statements = Vec::new();
    if let Some(options) = &request.sbom {
        if let Some(generator) = &options.generator {
            return Err(Error::Source(format!(
                "the SBOM generator {} cannot be run: only the built-in scanner is available, leave generator out",
                generator.familiar()
            )));
        }
        let title = names
            .first()
            .map_or_else(|| "image".to_owned(), ToString::to_string);
        let document = publisher.task("generating sbom", |_| sbom::scan(publisher, finished, &title))?;
        statements.push(statement::statement(&subjects, sbom::PREDICATE, &document)?);
    }
    if let Some(options) = &request.provenance {
        let predicate = provenance::predicate(request, options, finished)?;
        statements.push(statement::statement(
            &subjects,
            provenance::PREDICATE,
            &predicate,
        )?);
    }
    if statements.is_empty() {
        return Ok(None);
    }
    let (digest, size) = store_statements(publisher.store, publisher.lease, &statements, true)?;
    let unknown = Platform {
        architecture: "unknown".to_owned(),
        os: "unknown".to_owned(),
        os_version: None,
        variant: None,
    };
    Ok(Some(Descriptor {
        platform: Some(unknown),
        annotations: BTreeMap::from([
            (REFERENCE_TYPE.to_owned(), ATTESTATION.to_owned()),
            (REFERENCE_DIGEST.to_owned(), image.to_string()),
        ]),
        ..Descriptor::new(media_type::OCI_MANIFEST, digest, size)
    }))
}

/// RFC 3339 in whole seconds: the epoch where there is one, `time` otherwise.
fn stamp(epoch: Option<i64>, time: jiff::Timestamp) -> Result<String, Error> {
    let time = match epoch {
        Some(epoch) => jiff::Timestamp::from_second(epoch)
            .map_err(|error| Error::Source(format!("invalid SOURCE_DATE_EPOCH: {error}")))?,
        None => time,
    };
    Ok(format!("{time:.0}"))
}
