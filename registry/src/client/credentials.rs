//! Credentials and docker's config.json.

use std::fmt;

use docker_credential::{CredentialRetrievalError, DockerCredential};

use super::error::Error;
use crate::digest::Digest;
use crate::reference::DEFAULT_DOMAIN;

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// None.
    Anonymous,
    /// User and password (or access token).
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token, as `docker login` gets from some registries.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Credentials::Anonymous",
            Self::Basic { .. } => "Credentials::Basic(..)",
            Self::IdentityToken(_) => "Credentials::IdentityToken(..)",
        })
    }
}

impl Credentials {
    /// A name for these credentials that does not give them away, for cache keys.
    pub(super) fn fingerprint(&self) -> Digest {
        Digest::sha256(
            match self {
                Self::Anonymous => "anonymous".to_owned(),
                Self::Basic { username, password } => format!("basic\n{username}\n{password}"),
                Self::IdentityToken(token) => format!("token\n{token}"),
            }
            .as_bytes(),
        )
    }
}

/// The credentials that docker's config.json (`$DOCKER_CONFIG` or `~/.docker`) or its credential helpers hold for a
/// registry host; anonymous if there are none.
///
/// # Errors
/// If the file cannot be read or a helper fails for another reason than not knowing the host.
pub async fn credentials_for(domain: &str) -> Result<Credentials, Error> {
    let owned = domain.to_owned();
    // Blocking: reads files and runs helper programs.
    let found = tokio::task::spawn_blocking(move || lookup(&owned)).await;
    let fail = |reason: String| Error::Credentials {
        domain: domain.to_owned(),
        reason,
    };
    match found.map_err(|panic| fail(panic.to_string()))? {
        Ok(DockerCredential::IdentityToken(token)) => Ok(Credentials::IdentityToken(token)),
        Ok(DockerCredential::UsernamePassword(username, password))
            if username.is_empty() && password.is_empty() =>
        {
            Ok(Credentials::Anonymous)
        }
        Ok(DockerCredential::UsernamePassword(username, password)) => {
            Ok(Credentials::Basic { username, password })
        }
        Err(CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound) => {
            Ok(Credentials::Anonymous)
        }
        // docker-credential-helpers answer a host that they do not know with this text and a failure.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("credentials not found in native keychain") =>
        {
            Ok(Credentials::Anonymous)
        }
        // A helper's output may hold the secret itself: only its name is told.
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => Err(fail(format!("{helper} failed"))),
        Err(error) => Err(fail(error.to_string())),
    }
}

/// Docker writes `host`, older versions and other tools `https://host` or with an API path.
fn lookup(domain: &str) -> Result<DockerCredential, CredentialRetrievalError> {
    let keys = if domain == DEFAULT_DOMAIN {
        vec![
            "https://index.docker.io/v1/".to_owned(),
            DEFAULT_DOMAIN.to_owned(),
        ]
    } else {
        vec![
            domain.to_owned(),
            format!("https://{domain}"),
            format!("https://{domain}/v2/"),
        ]
    };
    let mut last = Err(CredentialRetrievalError::NoCredentialConfigured);
    for key in keys {
        last = docker_credential::get_credential(&key);
        if !matches!(last, Err(CredentialRetrievalError::NoCredentialConfigured)) {
            break;
        }
    }
    last
}
