//! Tests that need the private parts of the parser; `builder/tests/dockerfile.rs` holds those of its public face.

mod goldens;
