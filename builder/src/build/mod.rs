//! One build from request to image.
//!
//! [`build`] reads the Dockerfile, plans the stages that the targets need, runs the steps on a few threads as their inputs
//! become ready, and puts the images into the store. Base images are found by steps of their own: what they say (their
//! variables, their ONBUILD triggers) is planned in when it is known, while other stages run already. Blocking throughout.

mod checks;
mod course;
mod error;
mod options;
mod request;
mod result;
mod run;
mod services;
mod verify;

pub use error::Error;
pub(crate) use error::{IoContext, reason};
pub use options::{
    Annotation, AnnotationPlace, CacheExport, CacheImport, CacheLocation, CacheMode, Compression,
    CompressionKind, Provenance, ProvenanceMode, Sbom,
};
pub use request::{Built, BuiltImage, Context, Entitlement, Event, NamedContext, Request, StepInfo, Target};
pub use run::build;
pub use services::{BaseImages, Registries, Secrets, Services, Web, WebRequest, WebResponse};
pub use verify::{Difference, Verification, verify};

pub use crate::cache::{Cause, FileChange, render_causes};
