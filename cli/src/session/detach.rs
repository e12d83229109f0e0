//! The keys that leave a terminal session without ending the process.

/// Understands `ctrl-p,ctrl-q`, `a`, `ctrl-@`: a comma-separated list of characters and control characters. An empty
/// text means no keys.
pub(crate) fn parse_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|key| {
            let byte = match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => letter - b'a' + 1,
                Some([b'@']) => 0,
                Some([symbol @ (b'[' | b'\\' | b']' | b'^' | b'_')]) => symbol - b'@',
                None if key.len() == 1 => key.as_bytes()[0],
                _ => {
                    return Err(format!(
                        "invalid detach keys `{text}`: expected for example ctrl-p,ctrl-q"
                    ));
                }
            };
            Ok(byte)
        })
        .collect()
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Watcher {
    keys: Vec<u8>,
    matched: usize,
}

impl Watcher {
    /// Watches for these keys, one after the other.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Gives what is to be sent on, and whether the keys were complete. A prefix of the keys is held back until the
    /// next byte decides.
    pub(crate) fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len());
        if self.keys.is_empty() {
            passed.extend_from_slice(typed);
            return (passed, false);
        }
        for &byte in typed {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.keys[..self.matched]);
            self.matched = 0;
            if byte == self.keys[0] {
                self.matched = 1;
            } else {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let check = |text: &str, expected: Option<&[u8]>| {
            assert_eq!(parse_keys(text).ok().as_deref(), expected, "{text}");
        };
        check("ctrl-p,ctrl-q", Some(&[16, 17]));
        check("ctrl-@,a", Some(&[0, b'a']));
        check("ctrl-[", Some(&[27]));
        check("", Some(&[]));
        check("ctrl-P", None);
        check("ab", None);
        check("a,", None);
    }

    #[test]
    fn watching() {
        let check = |typed: &[&[u8]], passed: &[u8], detached: bool| {
            let mut watcher = Watcher::new(vec![16, 17]);
            let (mut all, mut found) = (Vec::new(), false);
            for part in typed {
                let (bytes, end) = watcher.filter(part);
                all.extend(bytes);
                found |= end;
            }
            assert_eq!((&all[..], found), (passed, detached), "{typed:?}");
        };
        check(&[b"ls\n"], b"ls\n", false);
        check(&[b"a\x10\x11b"], b"a", true);
        check(&[b"\x10", b"\x11"], b"", true);
        check(&[b"\x10", b"x"], b"\x10x", false);
        check(&[b"\x10\x10\x11"], b"\x10", true);
    }
}
