//! Layers in compressed form: made in parallel, the same bytes on any number of threads, and remembered.
//!
//! A layer is cut into blocks at fixed offsets; blocks are compressed side by side and joined in order, so neither the
//! number of threads nor the sizes of reads show in the result.
//! - gzip: one member of deflate blocks that end with a sync flush; each block starts with the 32 KiB before it as its
//!   dictionary (as pigz does), so the size is that of gzip within a percent. Header without time or name.
//! - zstd: one frame per block, as the format allows (RFC 8878, section 3); every frame names its content size.
//!
//! Memory is bounded by 64 MiB whatever the layer's size: fewer threads work where a level needs much.
//!
//! # What is remembered
//! The table `compressed` of the index maps (DiffID, coding) to digest and size of the blob, so compressing is paid once.
//! A row keeps nothing alive: the blob lives as long as a manifest or a lease names it, like any other, and a collection
//! that drops the blob drops the row. Who compresses names the blob in its lease before he looks at the row. Processes
//! that want the same blob at once wait for the first one (`locks/compress-*`). A crash leaves an ingest file, which the next
//! collection removes.

mod block;
mod coding;
mod layer;
mod pipeline;

pub use coding::{Coding, LevelError};
pub(super) use layer::forget_dead;
