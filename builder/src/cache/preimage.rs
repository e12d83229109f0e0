//! What a key was made of, kept as a note of the store beside the record: `key-<hash of the key>`, a zstd frame with the
//! length of a JSON document ([`PreImage`], `version` 1), the document, and the lists of its files. A note that does not
//! read like this is taken for missing.

use std::io::Write as _;

use cooper_registry::digest::Algorithm;
use cooper_registry::store::Store;
use serde::{Deserialize, Serialize};

use super::files::{FileList, cut, put, take};
use super::key::Key;
use crate::build::Error;

const VERSION: u32 = 1;
/// Longer values are kept as their beginning and their digest.
const MAX_VALUE: usize = 4 << 10;
/// More parts are not kept.
const MAX_PARTS: usize = 10_000;
/// A note that unpacks to more is not read.
const MAX_BYTES: u64 = 128 << 20;

/// Another step or an image as the input of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Input {
    /// Number of the step in its build.
    pub(crate) step: usize,
    /// The step's name.
    pub(crate) name: String,
    /// Name and manifest digest if it is an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
}

/// What is known about a step that is not in its key but helps to explain it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    /// The instruction.
    pub(crate) text: String,
    /// What it begins from.
    pub(crate) parent: Option<Input>,
    /// What it copies from, if not the context.
    pub(crate) source: Option<Input>,
    /// The named context that it copies from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<String>,
    /// Variables that were expanded in the instruction.
    pub(crate) variables: Vec<(String, String)>,
    /// Names of arguments that the Dockerfile declares.
    pub(crate) arguments: Vec<String>,
}

/// A key with all that it was made of.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PreImage {
    version: u32,
    pub(super) about: About,
    pub(super) parts: Vec<(String, Value)>,
    #[serde(skip)]
    pub(super) files: Vec<FileList>,
}

/// The value of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Value {
    pub(super) text: String,
    /// Digest of the whole value where the text is not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

impl Value {
    fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= MAX_VALUE => Self {
                text: text.to_owned(),
                digest: None,
            },
            _ => {
                let mut hasher = Algorithm::Sha256.hasher();
                hasher.update(bytes);
                Self {
                    text: String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE)]).into_owned(),
                    digest: Some(hasher.finish().to_string()),
                }
            }
        }
    }
}

impl PreImage {
    pub(super) fn new(key: &Key, about: About) -> Self {
        let parts = key.parts().iter().take(MAX_PARTS);
        Self {
            version: VERSION,
            about,
            parts: parts
                .map(|(name, value)| ((*name).to_owned(), Value::new(value)))
                .collect(),
            files: key.files().to_vec(),
        }
    }

    /// Reads what was kept of the key with this hash.
    pub(super) fn load(store: &Store, hash: &str) -> Result<Option<Self>, Error> {
        Ok(store
            .note(&note_name(hash))?
            .and_then(|bytes| Self::decode(&bytes)))
    }

    /// Keeps it.
    pub(super) fn save(&self, store: &Store, hash: &str) -> Result<(), Error> {
        let bytes = self.encode()?;
        store.put_note(&note_name(hash), &bytes)?;
        Ok(())
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let json = serde_json::to_vec(self).map_err(|error| Error::internal(error.to_string()))?;
        let mut frame = zstd::stream::write::Encoder::new(Vec::new(), 1)
            .map_err(|error| Error::internal(error.to_string()))?;
        let mut write = || -> std::io::Result<()> {
            let mut part = Vec::new();
            put(&mut part, json.len() as u64);
            frame.write_all(&part)?;
            frame.write_all(&json)?;
            for list in &self.files {
                part.clear();
                list.encode(&mut part);
                frame.write_all(&part)?;
            }
            Ok(())
        };
        write()
            .and_then(|()| frame.finish())
            .map_err(|error| Error::internal(error.to_string()))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        use std::io::Read as _;
        let mut plain = Vec::new();
        zstd::stream::read::Decoder::new(bytes)
            .ok()?
            .take(MAX_BYTES)
            .read_to_end(&mut plain)
            .ok()?;
        let mut rest = plain.as_slice();
        let length = take(&mut rest)?;
        let mut image: Self = serde_json::from_slice(cut(&mut rest, length)?).ok()?;
        if image.version != VERSION {
            return None;
        }
        while !rest.is_empty() {
            image.files.push(FileList::decode(&mut rest)?);
        }
        Some(image)
    }

    /// Values of all parts of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parts
            .iter()
            .filter(move |(part, _)| part == name)
            .map(|(_, value)| value.text.as_str())
    }
}

fn note_name(hash: &str) -> String {
    format!("key-{hash}")
}

/// Whether something is kept of the key with this hash.
pub(super) fn is_known(store: &Store, hash: &str) -> Result<bool, Error> {
    Ok(store.note(&note_name(hash))?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let mut key = Key::new("COPY");
        key.add("long", vec![b'x'; MAX_VALUE + 1]);
        key.add("binary", [0xff, b'a']);
        key.explain(FileList::new("top".as_ref()));
        let about = About {
            text: "COPY a b".to_owned(),
            ..About::default()
        };
        let image = PreImage::new(&key, about);
        let bytes = image.encode().unwrap();
        let read = PreImage::decode(&bytes).unwrap();
        assert_eq!(
            (&read.about, &read.parts, &read.files),
            (&image.about, &image.parts, &image.files)
        );
        assert!(read.parts[1].1.digest.is_some() && read.parts[2].1.digest.is_some());
        for end in 0..bytes.len() {
            assert!(PreImage::decode(&bytes[..end]).is_none());
        }
    }
}
