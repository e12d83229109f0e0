//! `--filter` of du and prune.

use super::item::CacheItem;

/// Why a filter cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No such field.
    #[error("invalid filter '{0}'")]
    Field(String),
    /// The value is none for this field.
    #[error("invalid filter '{0}={1}'")]
    Value(String, String),
}

/// One condition on an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// The id begins so.
    Id(String),
    /// One of the parents' ids begins so.
    Parent(String),
    /// [`CacheKind::as_str`](super::CacheKind::as_str) is this.
    Type(String),
    /// The description contains this.
    Description(String),
    /// In use, or not.
    InUse(bool),
    /// Shared with an image, or not.
    Shared(bool),
}

impl Filter {
    /// Reads `field` with its value; yes-or-no fields need none. Fields are dockerd's and buildx's: `id`, `parents` (or
    /// `parent`), `type`, `description`, `inuse`, `shared`, `private`, `mutable`, `immutable`.
    ///
    /// # Errors
    /// See [`FilterError`].
    pub fn new(field: &str, value: &str) -> Result<Self, FilterError> {
        let flag = || match value {
            "" | "1" | "true" | "t" | "T" | "TRUE" | "True" => Ok(true),
            "0" | "false" | "f" | "F" | "FALSE" | "False" => Ok(false),
            _ => Err(FilterError::Value(field.to_owned(), value.to_owned())),
        };
        let value_of = || value.trim_start_matches('~').to_owned();
        Ok(match field.trim_end_matches('~') {
            "id" => Self::Id(value_of()),
            "parent" | "parents" => Self::Parent(value_of()),
            "type" => Self::Type(value_of()),
            "description" => Self::Description(value_of()),
            "inuse" => Self::InUse(flag()?),
            "shared" => Self::Shared(flag()?),
            "private" => Self::Shared(!flag()?),
            // Only cache mounts are ever written to again.
            "mutable" | "immutable" => {
                let mounts = (field == "mutable") == flag()?;
                Self::Type(
                    if mounts {
                        "exec.cachemount"
                    } else {
                        "!exec.cachemount"
                    }
                    .to_owned(),
                )
            }
            _ => return Err(FilterError::Field(field.to_owned())),
        })
    }

    /// Whether the entry meets it.
    pub fn matches(&self, item: &CacheItem) -> bool {
        match self {
            Self::Id(id) => item.id.starts_with(id.as_str()),
            Self::Parent(id) => item.parents.iter().any(|parent| parent.starts_with(id.as_str())),
            Self::Type(kind) => match kind.strip_prefix('!') {
                Some(other) => item.kind.as_str() != other,
                None => item.kind.as_str() == kind,
            },
            Self::Description(text) => item.description.contains(text.as_str()),
            Self::InUse(wanted) => item.in_use == *wanted,
            Self::Shared(wanted) => item.shared == *wanted,
        }
    }
}
