//! What a client gave its build to keep.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooper_builder::build::Secrets;

/// Secrets and SSH agents of one build; in memory only.
#[derive(Default)]
pub(crate) struct GivenSecrets {
    /// By id.
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// Sockets on this host, by id.
    pub(crate) agents: BTreeMap<String, PathBuf>,
}

impl std::fmt::Debug for GivenSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenSecrets")
            .field("secrets", &self.secrets.keys())
            .field("agents", &self.agents)
            .finish()
    }
}

impl Secrets for GivenSecrets {
    fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, String> {
        Ok(self.secrets.get(id).cloned())
    }

    fn ssh_agent(&self, id: &str) -> Result<Option<PathBuf>, String> {
        Ok(self.agents.get(id).cloned())
    }
}
