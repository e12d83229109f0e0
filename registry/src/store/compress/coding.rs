//! Formats and levels.

use crate::oci::media_type;

/// Level of gzip when none is asked for: zlib's default.
const GZIP_DEFAULT: u8 = 6;
/// Level of zstd when none is asked for: the library's default.
const ZSTD_DEFAULT: u8 = 3;
const GZIP_MAX: u8 = 9;
const ZSTD_MAX: u8 = 22;

/// Format and level of a compressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coding {
    pub(super) format: Format,
    pub(super) level: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Gzip,
    Zstd,
}

/// A level that the format does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{format} has no compression level {level}: expected 0 to {max}")]
pub struct LevelError {
    format: &'static str,
    level: u8,
    max: u8,
}

impl Coding {
    /// gzip; levels 0 (stored) to 9, 6 by default.
    ///
    /// # Errors
    /// A level beyond 9.
    pub fn gzip(level: Option<u8>) -> Result<Self, LevelError> {
        let level = level.unwrap_or(GZIP_DEFAULT);
        if level > GZIP_MAX {
            return Err(LevelError {
                format: "gzip",
                level,
                max: GZIP_MAX,
            });
        }
        Ok(Self {
            format: Format::Gzip,
            level,
        })
    }

    /// zstd; levels 1 to 22, 3 by default and for 0.
    ///
    /// # Errors
    /// A level beyond 22.
    pub fn zstd(level: Option<u8>) -> Result<Self, LevelError> {
        let level = level.filter(|level| *level > 0).unwrap_or(ZSTD_DEFAULT);
        if level > ZSTD_MAX {
            return Err(LevelError {
                format: "zstd",
                level,
                max: ZSTD_MAX,
            });
        }
        Ok(Self {
            format: Format::Zstd,
            level,
        })
    }

    /// Media type of a layer in this form (image-spec `layer.md`).
    pub fn media_type(self) -> &'static str {
        match self.format {
            Format::Gzip => media_type::OCI_LAYER_GZIP,
            Format::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }

    /// `gzip-6`: the coding's name in the index and in file names.
    pub(super) fn name(self) -> String {
        let format = match self.format {
            Format::Gzip => "gzip",
            Format::Zstd => "zstd",
        };
        format!("{format}-{}", self.level)
    }

    /// Whether a layer of this media type is compressed by this format, whatever its level.
    pub fn is_format_of(self, media_type: &str) -> bool {
        match self.format {
            Format::Gzip => media_type.ends_with("+gzip") || media_type.ends_with(".gzip"),
            Format::Zstd => media_type.ends_with("+zstd"),
        }
    }
}
