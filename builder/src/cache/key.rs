//! Keys.

use cooper_registry::digest::Algorithm;

/// The description in a record stops here.
const MAX_DESCRIPTION: usize = 64 << 10;

/// Collects what a result depends on.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    parts: Vec<(&'static str, Vec<u8>)>,
}

impl Key {
    /// A key for one kind of step.
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            parts: vec![("step", kind.into())],
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

    /// The name of the record.
    pub(crate) fn name(&self) -> String {
        let mut hasher = Algorithm::Sha256.hasher();
        for (name, value) in &self.parts {
            for part in [name.as_bytes(), value] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        format!("step/v1/{}", hasher.finish().hex())
    }

    /// The parts for people, `title` first.
    pub(crate) fn describe(&self, title: &str) -> String {
        let mut text = title.replace('\n', " ");
        for (name, value) in &self.parts {
            let line = format!("\n{name} {:?}", String::from_utf8_lossy(value));
            if text.len() + line.len() > MAX_DESCRIPTION {
                text.push_str("\n…");
                break;
            }
            text.push_str(&line);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let key = |parts: &[(&'static str, &str)]| {
            let mut key = Key::new("x");
            parts.iter().for_each(|(name, value)| key.add(name, value));
            key.name()
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
