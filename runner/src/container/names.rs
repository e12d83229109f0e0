//! Names and ids.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Context, Error};

/// The directory `names/` of a data root: one file a name, holding the id.
#[derive(Debug)]
pub(crate) struct Names {
    data: PathBuf,
}

impl Names {
    pub(crate) fn new(data: &Path) -> Self {
        Self {
            data: data.to_path_buf(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join("names").join(name)
    }

    /// Id behind a name, if such a container exists or is being created.
    pub(super) fn holder(&self, name: &str) -> Option<String> {
        if !is_name(name) {
            return None;
        }
        let id = fs::read_to_string(self.path(name)).ok()?;
        let exists = |dir: PathBuf| dir.symlink_metadata().is_ok();
        let alive = is_id(&id)
            && (exists(self.data.join(&id)) || exists(super::Layout::temporary_dir(&self.data, &id)));
        alive.then_some(id)
    }

    /// Takes a name. The directory of `id` (or its temporary one) must exist, since a name without one is free for all.
    pub(super) fn reserve(&self, name: &str, id: &str) -> Result<(), Error> {
        if !is_name(name) {
            return Err(Error::InvalidName(name.into()));
        }
        let path = self.path(name);
        // The file appears complete: a name that is still empty would look stale to others.
        let temporary = self.data.join("names").join(format!(".{id}"));
        let write = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(id.as_bytes())
        };
        write().context("write", &temporary)?;
        let mut result = fs::hard_link(&temporary, &path);
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists)
        {
            if let Some(holder) = self.holder(name) {
                let _ = fs::remove_file(&temporary);
                return Err(Error::NameInUse {
                    name: name.into(),
                    holder,
                });
            }
            // Stale: of a container that is gone.
            let _ = fs::remove_file(&path);
            result = fs::hard_link(&temporary, &path);
        }
        let _ = fs::remove_file(&temporary);
        result.context("reserve", &path)
    }

    /// Gives a name back if it is still `id`'s.
    pub(crate) fn release(&self, name: &str, id: &str) {
        if is_name(name) && fs::read_to_string(self.path(name)).is_ok_and(|holder| holder == id) {
            let _ = fs::remove_file(self.path(name));
        }
    }
}

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]+` (moby `daemon/names`), bounded by what a file name may have.
pub(super) fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphanumeric());
    first
        && (2..=255).contains(&name.len())
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// 64 lower-case hex digits.
pub(super) fn is_id(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_docker_s_rule() {
        let check = |name: &str, expected: bool| assert_eq!(is_name(name), expected, "{name:?}");
        check("web", true);
        check("a1_.-", true);
        check("a", false);
        check("", false);
        check("_a", false);
        check("../x", false);
        check("a/b", false);
        check("äb", false);
    }

    #[test]
    fn a_name_has_one_holder_and_stale_ones_are_reclaimed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        fs::create_dir(data.join("names")).unwrap();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        for id in [&a, &b] {
            fs::create_dir(data.join(id)).unwrap();
        }
        let names = Names::new(data);
        names.reserve("web", &a).unwrap();
        assert!(matches!(names.reserve("web", &b), Err(Error::NameInUse { holder, .. }) if holder == a));
        names.release("web", &b);
        assert_eq!(names.holder("web"), Some(a.clone()));
        fs::remove_dir(data.join(&a)).unwrap();
        names.reserve("web", &b).unwrap();
        assert_eq!(names.holder("web"), Some(b));
    }
}
