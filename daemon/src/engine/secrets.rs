//! Secrets of a build: what came with its request, in memory for as long as it runs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooper_builder::build::Secrets;

use crate::api::Bytes;

/// The secrets and agents that one client offers to one build. Values are wiped when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct OfferedSecrets {
    /// By id.
    pub(crate) values: BTreeMap<String, Bytes>,
    /// Sockets on this host, by id.
    pub(crate) agents: BTreeMap<String, PathBuf>,
}

impl Secrets for OfferedSecrets {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.values.get(id).map(|value| value.0.to_vec()))
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.agents.get(id).cloned())
    }
}
