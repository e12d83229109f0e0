//! Secrets of builds.

use std::path::PathBuf;

use cooper_builder::build::Secrets;

/// A client that offers none.
#[derive(Debug)]
pub(crate) struct NoSecrets;

impl Secrets for NoSecrets {
    fn secret(&self, _id: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }

    fn ssh_agent(&self, _id: &str) -> Result<Option<PathBuf>, String> {
        Ok(None)
    }
}
