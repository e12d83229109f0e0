//! Content digests and the newtypes that say what a digest is a digest *of*.
//!
//! Grammar: OCI image-spec `descriptor.md`, "Digests". Registered algorithms here: `sha256` (64 hex digits) and
//! `sha512` (128 hex digits), lower case only.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm that the store can verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, the default everywhere.
    Sha256,
    /// SHA-512, accepted from registries and clients that use it.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hex digits a digest of this algorithm has.
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// A hasher that yields a [`Digest`] of this algorithm.
    pub fn hasher(self) -> Hasher {
        match self {
            Self::Sha256 => Hasher(HasherState::Sha256(Sha256::new())),
            Self::Sha512 => Hasher(HasherState::Sha512(Box::new(Sha512::new()))),
        }
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` part.
    #[error("invalid digest {0:?}: expected algorithm:hex")]
    Format(String),
    /// The algorithm is none of [`Algorithm`].
    #[error("unsupported digest algorithm {0:?}: expected sha256 or sha512")]
    Algorithm(String),
    /// The part after the colon is not lower-case hex of the right length.
    #[error("invalid digest {0:?}: expected {1} lower-case hex digits")]
    Hex(String, usize),
}

/// A verified-form content digest, `sha256:…` or `sha512:…`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// SHA-256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Algorithm::Sha256.hasher();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, as Docker prints ids.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let (name, hex) = text
            .split_once(':')
            .ok_or_else(|| DigestError::Format(text.to_owned()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => return Err(DigestError::Algorithm(other.to_owned())),
        };
        let well_formed =
            hex.len() == algorithm.hex_len() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(DigestError::Hex(text.to_owned(), algorithm.hex_len()));
        }
        Ok(Self {
            algorithm,
            hex: hex.to_owned(),
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An incremental hasher; see [`Algorithm::hasher`].
#[derive(Clone)]
pub struct Hasher(HasherState);

#[derive(Clone)]
enum HasherState {
    Sha256(Sha256),
    Sha512(Box<Sha512>),
}

impl Hasher {
    /// Feeds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            HasherState::Sha256(state) => state.update(bytes),
            HasherState::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything fed so far.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes) = match self.0 {
            HasherState::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            HasherState::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        Digest {
            algorithm,
            hex: to_hex(&bytes),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// Lower-case hex of `bytes`.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The digest itself.
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_newtype! {
    /// Digest of a layer's *uncompressed* tar (OCI image-spec `config.md`, "Layer DiffID").
    DiffId
}

digest_newtype! {
    /// Digest of a stack of layers (OCI image-spec `config.md`, "Layer ChainID").
    ChainId
}

impl ChainId {
    /// The chain of the bottom layer alone.
    pub fn bottom(diff_id: &DiffId) -> Self {
        Self(diff_id.0.clone())
    }

    /// The chain of `self` with `diff_id` on top.
    #[must_use]
    pub fn push(&self, diff_id: &DiffId) -> Self {
        Self(Digest::sha256(format!("{} {}", self.0, diff_id.0).as_bytes()))
    }

    /// The chain of a whole stack, bottom first; `None` for no layers.
    pub fn of(diff_ids: &[DiffId]) -> Option<Self> {
        let (first, rest) = diff_ids.split_first()?;
        Some(
            rest.iter()
                .fold(Self::bottom(first), |chain, diff_id| chain.push(diff_id)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let (sha256, sha512) = ("a".repeat(64), "0".repeat(128));
        for (text, valid) in [
            (format!("sha256:{sha256}"), true),
            (format!("sha512:{sha512}"), true),
            (format!("sha256:{sha512}"), false),
            (format!("sha256:{}", sha256.to_uppercase()), false),
            (format!("sha256:{}", &sha256[1..]), false),
            (format!("SHA256:{sha256}"), false),
            (format!("md5:{sha256}"), false),
            (sha256.clone(), false),
            (String::new(), false),
            (format!("sha256:{}../", &sha256[3..]), false),
        ] {
            assert_eq!(
                text.parse::<Digest>().map(|digest| digest.to_string()).ok(),
                valid.then_some(text)
            );
        }
    }

    #[test]
    fn chains_as_the_image_spec_says() {
        let [a, b] = [b"a", b"b"].map(|bytes| DiffId(Digest::sha256(bytes)));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(
            ChainId::of(std::slice::from_ref(&a)).map(|chain| chain.0),
            Some(a.0.clone())
        );
        let both = Digest::sha256(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]).map(|chain| chain.0), Some(both));
    }
}
