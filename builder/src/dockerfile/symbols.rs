//! Which stage a name or number means.

use super::ast::Stage;
use super::suggest::nearest;

/// Why a reference to a stage is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StageError {
    /// A number without a stage.
    #[error("invalid stage index {index}, there are {stages} stages")]
    NoSuchIndex {
        /// The number asked for.
        index: usize,
        /// How many stages there are.
        stages: usize,
    },
    /// The stage the reference stands in.
    #[error("circular dependency detected on stage: {name}")]
    Circular {
        /// The reference.
        name: String,
    },
    /// A later stage.
    #[error("cannot copy from stage {name:?}, it needs to be defined before the current stage")]
    NotEarlier {
        /// The reference.
        name: String,
    },
}

/// What FROM means with the expanded `name` in stage number `current`: an earlier stage, or none for an image.
///
/// Names match in any case; of several earlier stages with one name the last counts; numbers mean nothing here.
#[must_use]
pub fn resolve_base(stages: &[Stage], name: &str, current: usize) -> Option<usize> {
    find_name(&stages[..current.min(stages.len())], name)
}

/// What `COPY --from` or a mount's `from` means in stage number `current`: a stage by name or by number from 0, or none for
/// an image or named context. `scratch` is never a stage.
///
/// # Errors
/// A number without a stage, or a stage that is not earlier than `current`.
pub fn resolve_stage(stages: &[Stage], name: &str, current: usize) -> Result<Option<usize>, StageError> {
    let found = match name.parse::<usize>() {
        Ok(index) if index >= stages.len() => {
            return Err(StageError::NoSuchIndex {
                index,
                stages: stages.len(),
            });
        }
        Ok(index) => Some(index),
        Err(_) => resolve_base(stages, name, current).or_else(|| find_name(stages, name)),
    };
    match found {
        Some(index) if index == current => Err(StageError::Circular {
            name: name.to_owned(),
        }),
        Some(index) if index > current => Err(StageError::NotEarlier {
            name: name.to_owned(),
        }),
        found => Ok(found),
    }
}

/// The stage name most like `name`, for messages about an image that does not exist.
#[must_use]
pub fn suggest_stage<'a>(stages: &'a [Stage], name: &str) -> Option<&'a str> {
    nearest(name, stages.iter().filter_map(|stage| stage.name.as_deref()))
}

/// The stage a target names: by name in any case (the last of several) or by number; none if there is no such stage.
#[must_use]
pub fn resolve_target(stages: &[Stage], target: &str) -> Option<usize> {
    find_name(stages, target).or_else(|| target.parse().ok().filter(|&index: &usize| index < stages.len()))
}

fn find_name(stages: &[Stage], name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    stages
        .iter()
        .rposition(|stage| stage.name.as_ref() == Some(&name))
}
