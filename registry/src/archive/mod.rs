//! `docker save` and `docker load` archives.
//!
//! What [`save`] writes is one tar that is both formats that exist, as Docker writes it since version 25:
//!
//! ```text
//! blobs/sha256/<hex>   manifests, configs and layers, byte-exact
//! index.json           OCI layout: one descriptor per name, with the name as annotation
//! manifest.json        docker-archive: config, names and layers of each image
//! oci-layout           {"imageLayoutVersion":"1.0.0"}
//! repositories         docker-archive of old: name -> tag -> top layer
//! ```
//!
//! Entries are sorted and carry no times or owners: the same images give the same bytes. [`load`] takes both formats,
//! also those of older Dockers (`<id>/layer.tar`, links between layers) and of other tools, with entries in any order
//! and without ever holding more than the small JSON files in memory. Everything goes into the store as blobs under a
//! lease first; a name is given only when all parts of its image are there and verified.

mod compression;
mod layout;
mod load;
mod reader;
mod save;
mod tree;

pub use load::{Loaded, load};
pub use save::{save, save_layout};
pub use tree::TreeArchive;
