//! Keys.

use cooper_registry::digest::Algorithm;

use super::files::FileList;

/// Bytes of lists kept for explanations of one key.
const MAX_LISTED: usize = 24 << 20;

/// Collects what a result depends on.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    parts: Vec<(&'static str, Vec<u8>)>,
    files: Vec<FileList>,
    listed: usize,
}

impl Key {
    /// A key for one kind of step.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            parts: vec![("step", kind.into())],
            files: Vec::new(),
            listed: 0,
        }
    }

    /// Adds a part. Order and repetition matter.
    pub(crate) fn add(&mut self, name: &'static str, value: impl AsRef<[u8]>) {
        self.parts.push((name, value.as_ref().to_owned()));
    }

    /// Adds a part only if there is a value.
    pub(crate) fn add_some(&mut self, name: &'static str, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Says file by file what a digest among the parts stands for. Not hashed: explains, and nothing else.
    pub(crate) fn explain(&mut self, list: FileList) {
        self.listed += list.len();
        if self.listed <= MAX_LISTED {
            self.files.push(list);
        }
    }

    /// The key without the parts of these names, of another kind so that it is never taken for a whole one.
    pub(crate) fn without(&self, kind: &'static str, names: &[&str]) -> Self {
        let mut key = Self::new(kind);
        let parts = self.parts.iter().filter(|(name, _)| !names.contains(name));
        key.parts.extend(parts.cloned());
        key
    }

    /// The hash of all parts, in hex.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Algorithm::Sha256.hasher();
        for (name, value) in &self.parts {
            for part in [name.as_bytes(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        hasher.finish().hex().to_owned()
    }

    /// What a list of the cache says of its record: the step's name in the first line, then a line for each result that it
    /// began with.
    pub(crate) fn describe(&self, title: &str) -> String {
        let mut text = title.replace('\n', " ");
        for (name, value) in &self.parts {
            if matches!(*name, "rootfs" | "from") {
                text.push_str(&format!("\n{name} {:?}", String::from_utf8_lossy(value)));
            }
        }
        text
    }

    /// What was added, in order.
    pub(super) fn parts(&self) -> &[(&'static str, Vec<u8>)] {
        &self.parts
    }

    pub(super) fn files(&self) -> &[FileList] {
        &self.files
    }
}

/// Name of the record of a key's hash.
pub(in crate::cache) fn record_name(hash: &str) -> String {
    format!("step/v1/{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[(&'static str, &str)]| {
            let mut key = Key::new("x");
            parts.iter().for_each(|(name, value)| key.add(name, value));
            key.hash()
        };
        let all = [
            key(&[("a", "bc")]),
            key(&[("ab", "c")]),
            key(&[("a", "b"), ("a", "c")]),
            key(&[("a", "bc"), ("a", "")]),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all.iter().skip(i + 1).all(|other| other != one), "{i}");
        }
    }
}
