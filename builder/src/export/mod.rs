//! Results leaving the builder.
//!
//! [`publish`] turns finished root file systems into stored, named and pushed manifests: layers are compressed where
//! they will leave this host ([`layers`]), manifests and indexes get their annotations ([`annotate`]), attestations are put
//! beside the images ([`attest`]). [`write`](write()) sends an image that is in the store to somebody as an archive.
//!
//! What is made here is a function of what goes in: the same images give the same bytes, and no document has a time of its own
//! when there is an epoch.

mod annotate;
mod attest;
mod convert;
mod index;
mod layers;
mod metadata;
mod publish;
mod squash;
mod write;

pub(crate) use attest::{Facts, Material, StepFact};
pub use convert::convert;
pub use metadata::{Metadata, metadata};
pub(crate) use publish::{Finished, Publisher, check as check_options};
pub use write::{Format, WriteOptions, write};
