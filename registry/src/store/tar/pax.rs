//! PAX extended header records (POSIX pax, "pax Extended Header").

use std::collections::BTreeMap;

use super::number::decimal;

/// The records of one extended header that concern layers; unknown keys are ignored.
#[derive(Debug, Default, Clone)]
pub(super) struct Pax {
    pub(super) values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// `GNU.sparse.offset` and `GNU.sparse.numbytes` of the 0.0 format repeat, so their order matters.
    pub(super) sparse_pairs: Vec<(u64, u64)>,
    pending_offset: Option<u64>,
}

impl Pax {
    /// Parses the data of an `x` header.
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, &'static str> {
        const MALFORMED: &str = "malformed PAX record";
        let mut pax = Self::default();
        // Some writers fill the last block with NULs that they count in the size.
        while !data.is_empty() && !data.iter().all(|&b| b == 0) {
            let space = data
                .iter()
                .position(|&b| b == b' ')
                .filter(|&at| at <= 20)
                .ok_or(MALFORMED)?;
            let length = decimal(&data[..space])
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(MALFORMED)?;
            if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
                return Err(MALFORMED);
            }
            let body = &data[space + 1..length - 1];
            let equals = body
                .iter()
                .position(|&b| b == b'=')
                .filter(|&at| at > 0)
                .ok_or(MALFORMED)?;
            pax.insert(&body[..equals], &body[equals + 1..])?;
            data = &data[length..];
        }
        if pax.pending_offset.is_some() {
            return Err("malformed PAX sparse map");
        }
        Ok(pax)
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let text = matches!(
            key,
            b"path" | b"linkpath" | b"uname" | b"gname" | b"GNU.sparse.name"
        );
        if text && value.contains(&0) || key.contains(&0) {
            return Err("NUL in a PAX record");
        }
        const SPARSE: &str = "malformed PAX sparse map";
        match key {
            b"GNU.sparse.offset" => {
                if self
                    .pending_offset
                    .replace(decimal(value).ok_or(SPARSE)?)
                    .is_some()
                {
                    return Err(SPARSE);
                }
            }
            b"GNU.sparse.numbytes" => {
                let offset = self.pending_offset.take().ok_or(SPARSE)?;
                self.sparse_pairs.push((offset, decimal(value).ok_or(SPARSE)?));
            }
            // An empty value takes back an earlier record.
            _ if value.is_empty() && !key.starts_with(b"SCHILY.xattr.") => {
                self.values.remove(key);
            }
            _ => {
                self.values.insert(key.to_vec(), value.to_vec());
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// Extended attributes by name.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let prefix = b"SCHILY.xattr.";
        let named = self
            .values
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, value)));
        named
            .map(|(name, value)| (name.to_vec(), value.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (data, expected) in [
            (&b"9 path=a\n"[..], Ok(Some(&b"a"[..]))),
            (b"9 path=a\n9 path=b\n", Ok(Some(b"b"))),
            (b"9 path=a\n8 path=\n", Ok(None)),
            (b"9 path=\xff\n\0\0", Ok(Some(b"\xff"))),
            (b"11 path=a\n", Err(())),
            (b"99999999999999999999999 path=a\n", Err(())),
            (b"9 path=\0\n", Err(())),
            (b"3 =\n", Err(())),
            (b"0 path=a\n", Err(())),
            (b"x", Err(())),
        ] {
            let got = Pax::parse(data);
            let got = got.as_ref().map(|pax| pax.get("path")).map_err(|_| ());
            assert_eq!(got, expected, "{data:?}");
        }
    }
}
