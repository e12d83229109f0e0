//! One build from request to image.
//!
//! [`build`] reads the Dockerfile, plans the stages that the target needs, finds their base images, runs the steps on a
//! few threads as their inputs become ready, and puts the image into the store. Blocking throughout.

mod error;
mod options;
mod request;
mod run;
mod services;

pub use error::Error;
pub(crate) use error::{IoContext, reason};
pub use options::{
    Annotation, AnnotationPlace, CacheExport, CacheImport, CacheLocation, CacheMode, Compression,
    CompressionKind, Provenance, ProvenanceMode, Sbom,
};
pub use request::{Built, BuiltImage, Context, Entitlement, Event, NamedContext, Request, StepInfo, Target};
pub use run::build;
pub use services::{BaseImages, Registries, Services};
