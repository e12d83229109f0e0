//! Caches outside of the store: in a registry, in a directory, in an image.
//!
//! # Form
//! A cache is an OCI image manifest, which every registry takes. Its config has the media type
//! `application/vnd.cooper.cache.config.v1+json` and is all that an import reads; its layers are those of the steps,
//! compressed, and the packs of cache mounts:
//! ```json
//! {"version": 1,
//!  "layers":  [{"diffId": "sha256:…", "size": 10240, "blob": 0}],
//!  "records": [{"key": "step/v1/…", "layer": 0, "title": "[2/2] RUN make", "value": {…}, "day": 20500}],
//!  "mounts":  [{"id": "…", "day": 20500, "index": 3, "packs": [4, 5]}]}
//! ```
//! `blob`, `index` and `packs` are positions in the manifest's layers, `layer` one in `layers`. A record is what the store
//! remembers for a key; its key says everything that its result depends on, so records hold wherever they go, refer to
//! nothing but a layer, and two caches are merged by uniting them. `day` (days since 1970) says when an export last had
//! the entry: entries that none had for [`format::MAX_AGE`] days go, the oldest first beyond [`format::MAX_RECORDS`].
//! BuildKit's caches (`application/vnd.buildkit.cacheconfig.v0`) are not read: their records are named by digests of
//! BuildKit's own definitions (LLB), which no build here ever computes, so none of them could ever be found.
//!
//! # Writers
//! An export reads what is there, adds its own, and writes the union. A directory is locked meanwhile. Registries have no
//! compare-and-swap, so there the writer looks again after it has written, waiting as long as another's reading and
//! writing may take, and begins anew if what it wrote was overwritten by somebody who had not seen it. What is there
//! already is neither read nor compressed nor sent again; an export that adds nothing sends nothing. An inline cache is
//! the `dev.cooper.cache.v1` field of the image's config and describes that image's layers alone.
//!
//! # Trust
//! Naming a cache is trusting its records, for this build: they are kept under `imported/v1/<cache>/…`, where only builds
//! that name the same cache look. Nothing else is trusted: sizes and numbers are bounded, a layer counts only if its bytes
//! have the digest that the manifest says and unpack to the DiffID that the record says, in the form in which layers are
//! made here. A cache that is missing, unreachable or broken costs a warning, and one that turns out to lie once layers
//! are needed is left aside while the build begins again, which finds all that was done so far in the store.
//!
//! # Laziness
//! An import reads manifest and config. The layer of a record that matches is fetched when a step is executed on top of it,
//! something is copied out of it, or the image has it; a build of which everything matches fetches the image's own layers.

mod compress;
mod export;
mod format;
mod import;
mod inline;
mod layout;
mod mounts;
mod place;

pub(crate) use export::export;
pub(crate) use import::RemoteCache;
pub(crate) use inline::embed;
