//! The OCI distribution API (`/v2/…`) over a [`Store`](crate::store::Store).
//!
//! Follows distribution-spec 1.1 and the additions of its development head that clients already use: multi-tag push
//! (`?tag=`), upload cancellation, single-POST uploads and `digest-algorithm`. A repository in a URL and an image name
//! are the same thing: `/v2/demo/…` is `docker.io/library/demo` (see [`crate::reference`]).
//!
//! Nothing is kept in memory that another process would need: an upload session *is* a suspended ingest of the store,
//! its offset the bytes really stored, its lock the ingest's lock. Bodies stream in both directions through buffers of
//! fixed size; file work happens on blocking threads, and only while a buffer is being read or written, so slow peers
//! hold no thread. Responses are never compressed: clients rely on `Content-Length`.

mod blob;
mod body;
mod dispatch;
mod error;
mod listing;
mod manifest;
mod query;
mod range;
mod route;
mod serve;
mod session;
mod upload;

pub use dispatch::{Options, router, router_with};
pub use serve::serve;
