//! `--compression`, `--compression-level` and `--force-compression`, and the same in csv values.

use cooper_daemon::build::{Compression, CompressionKind};

use super::csv::unknown;

/// The compression that was asked for; none when nothing was.
pub(crate) fn compression(
    kind: Option<&str>,
    level: Option<&str>,
    force: bool,
) -> Result<Option<Compression>, String> {
    if kind.is_none() && level.is_none() && !force {
        return Ok(None);
    }
    let kind = match kind {
        None | Some("gzip") => CompressionKind::Gzip,
        Some("zstd") => CompressionKind::Zstd,
        Some("none" | "uncompressed") => CompressionKind::None,
        Some("estargz") => {
            return Err("invalid --compression: estargz is not available: use gzip, zstd or none".to_owned());
        }
        Some(other) => return Err(unknown("compression", "format", other, &["none", "gzip", "zstd"])),
    };
    let highest = match kind {
        CompressionKind::None => 0,
        CompressionKind::Gzip => 9,
        CompressionKind::Zstd => 22,
    };
    let level = match level {
        None => None,
        Some(text) => match text.parse::<u8>() {
            Ok(level) if level <= highest => Some(level),
            _ => {
                return Err(format!(
                    "invalid --compression-level `{text}`: expected a number from 0 to {highest}"
                ));
            }
        },
    };
    Ok(Some(Compression { kind, level, force }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_levels() {
        let check = |kind: Option<&str>, level: Option<&str>, expected: Option<Option<Compression>>| {
            assert_eq!(
                compression(kind, level, false).ok(),
                expected,
                "{kind:?} {level:?}"
            );
        };
        let with = |kind, level| {
            Some(Some(Compression {
                kind,
                level,
                force: false,
            }))
        };
        check(None, None, Some(None));
        check(Some("zstd"), Some("22"), with(CompressionKind::Zstd, Some(22)));
        check(None, Some("9"), with(CompressionKind::Gzip, Some(9)));
        check(Some("uncompressed"), None, with(CompressionKind::None, None));
        check(Some("gzip"), Some("10"), None);
        check(Some("none"), Some("1"), None);
        check(Some("lz4"), None, None);
        check(Some("zstd"), Some("-1"), None);
    }
}
