//! The file form of remembered digests.
//!
//! All numbers little-endian: `"cooper stat 1\n"`, the number of rows (u32), the rows in the order of device and inode, then
//! 32 bytes for each row that has extended attributes. A row: device, inode, size (u64), time of modification and of change
//! in nanoseconds (i64), SHA-256 of the content, and 8 bytes that are 0, or the number from 1 of its attributes' SHA-256.

const MAGIC: &[u8] = b"cooper stat 1\n";
const HEADER: usize = MAGIC.len() + 4;
const ROW: usize = 80;

/// A state of a file that was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
}

/// A file with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) version: Version,
    content: [u8; 32],
    attributes: Option<[u8; 32]>,
}

impl Row {
    /// `digest` is the content's in hex, and after a `+` that of the attributes.
    pub(super) fn new(version: Version, digest: &str) -> Option<Self> {
        let (content, attributes) = match digest.split_once('+') {
            Some((content, attributes)) => (content, Some(from_hex(attributes)?)),
            None => (digest, None),
        };
        Some(Self {
            version,
            content: from_hex(content)?,
            attributes,
        })
    }

    /// The same text.
    pub(super) fn digest(&self) -> String {
        let mut text = cooper_registry::digest::to_hex(&self.content);
        if let Some(attributes) = &self.attributes {
            text.push('+');
            text.push_str(&cooper_registry::digest::to_hex(attributes));
        }
        text
    }
}

/// Rows as they are in the file.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    rows: usize,
}

impl Table {
    /// Takes a file; none if it is not of this form.
    pub(super) fn decode(bytes: Vec<u8>) -> Option<Self> {
        let rows = bytes.strip_prefix(MAGIC)?.first_chunk::<4>()?;
        let rows = usize::try_from(u32::from_le_bytes(*rows)).ok()?;
        let rest = bytes
            .len()
            .checked_sub(HEADER)?
            .checked_sub(rows.checked_mul(ROW)?)?;
        (rest % 32 == 0).then_some(Self { bytes, rows })
    }

    /// The file for these rows; of those of one file the first is taken.
    pub(super) fn encode(mut rows: Vec<Row>) -> Vec<u8> {
        rows.sort_by_key(|row| (row.version.device, row.version.inode));
        rows.dedup_by_key(|row| (row.version.device, row.version.inode));
        let mut bytes = Vec::with_capacity(HEADER + rows.len() * ROW);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&u32::try_from(rows.len()).unwrap_or(0).to_le_bytes());
        let mut attributes: Vec<u8> = Vec::new();
        for row in &rows {
            for number in [row.version.device, row.version.inode, row.version.size] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [row.version.modified, row.version.changed] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&row.content);
            let number = row.attributes.map_or(0, |digest| {
                attributes.extend_from_slice(&digest);
                attributes.len() as u64 / 32
            });
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&attributes);
        bytes
    }

    pub(super) fn len(&self) -> usize {
        self.rows
    }

    /// Where the row of this state is; looks at `guess` first.
    pub(super) fn find(&self, asked: &Version, guess: usize) -> Option<usize> {
        let key = (asked.device, asked.inode);
        let at = |at: usize| (self.number(at, 0), self.number(at, 1));
        let found = if guess < self.rows && at(guess) == key {
            guess
        } else {
            let (mut low, mut high) = (0, self.rows);
            while low < high {
                let middle = low + (high - low) / 2;
                if at(middle) < key {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        (found < self.rows && self.version(found) == *asked).then_some(found)
    }

    /// The digest of a row as text.
    pub(super) fn digest(&self, at: usize) -> String {
        self.row(at).digest()
    }

    pub(super) fn row(&self, at: usize) -> Row {
        let start = HEADER + at * ROW + 40;
        let mut content = [0; 32];
        content.copy_from_slice(&self.bytes[start..start + 32]);
        let attributes = usize::try_from(self.number(at, 9)).ok().and_then(|number| {
            let start = HEADER + self.rows * ROW + number.checked_sub(1)?.checked_mul(32)?;
            self.bytes.get(start..start.checked_add(32)?)?.try_into().ok()
        });
        Row {
            version: self.version(at),
            content,
            attributes,
        }
    }

    fn version(&self, at: usize) -> Version {
        Version {
            device: self.number(at, 0),
            inode: self.number(at, 1),
            size: self.number(at, 2),
            modified: self.number(at, 3).cast_signed(),
            changed: self.number(at, 4).cast_signed(),
        }
    }

    /// The eight bytes of row `at` that begin with its eight bytes number `index`.
    fn number(&self, at: usize, index: usize) -> u64 {
        let start = HEADER + at * ROW + index * 8;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[start..start + 8]);
        u64::from_le_bytes(bytes)
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: u8| {
            char::from(c)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let hex = |c: char| c.to_string().repeat(64);
        let version = |inode: u64| Version {
            device: 7,
            inode,
            size: 1,
            modified: -5,
            changed: i64::MAX,
        };
        let texts = [
            hex('a'),
            format!("{}+{}", hex('b'), hex('1')),
            format!("{}+{}", hex('c'), hex('2')),
        ];
        let mut rows: Vec<Row> = texts
            .iter()
            .zip([30, 10, 20])
            .map(|(text, inode)| Row::new(version(inode), text).unwrap())
            .collect();
        // An older row of a file that is there already.
        rows.push(
            Row::new(
                Version {
                    size: 2,
                    ..version(10)
                },
                &hex('d'),
            )
            .unwrap(),
        );
        let bytes = Table::encode(rows);
        let table = Table::decode(bytes.clone()).unwrap();
        assert_eq!(table.len(), 3);
        for (inode, text) in [30, 10, 20].into_iter().zip(&texts) {
            for guess in 0..5 {
                let at = table.find(&version(inode), guess).unwrap();
                assert_eq!(table.digest(at), *text);
            }
        }
        assert_eq!(table.find(&version(15), 0), None);
        assert_eq!(
            table.find(
                &Version {
                    changed: 0,
                    ..version(20)
                },
                1
            ),
            None
        );
        for damaged in [
            &bytes[1..],
            &bytes[..bytes.len() - 1],
            &bytes[..20],
            b"",
            b"v1\n1 2 3 4 5 abc\n",
        ] {
            assert!(Table::decode(damaged.to_vec()).is_none());
        }
        assert!(Row::new(version(1), "abc").is_none());
    }
}
