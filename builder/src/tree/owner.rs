//! `--chown` and the USER that owns a WORKDIR.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use cooper_runner::rootless::{IdMap, in_user_namespace};
use rustix::io::Errno;

use super::resolve::{Look, resolve_in};
use crate::build::{Error, IoContext as _};

/// A longer passwd or group file is not read to its end.
const MAX_FILE: u64 = 16 << 20;

/// Who owns a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// Resolves `user[:group]` with the passwd and group files of `root`.
///
/// As BuildKit: a user by number alone has the group of the same number, one by name the group of its passwd entry.
/// Unlike it, a name that is not there is an error where the file exists, too.
pub(crate) fn lookup_owner(root: &impl Look, text: &str) -> Result<Owner, Error> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let mut owner = match user.parse::<u32>() {
        Ok(number) => Owner {
            user: number,
            group: number,
        },
        Err(_) if user.is_empty() => Owner::default(),
        Err(_) => {
            let fields = find(root, "etc/passwd", user)?
                .ok_or_else(|| Error::Source(format!("no user {user} in the image's /etc/passwd")))?;
            let number = |i: usize| fields.get(i).and_then(|field| field.parse().ok());
            let (Some(user), Some(group)) = (number(2), number(3)) else {
                return Err(Error::Source(format!(
                    "the entry of user {user} in /etc/passwd is malformed"
                )));
            };
            Owner { user, group }
        }
    };
    if let Some(group) = group {
        owner.group = match group.parse::<u32>() {
            Ok(number) => number,
            Err(_) => find(root, "etc/group", group)?
                .and_then(|fields| fields.get(2)?.parse().ok())
                .ok_or_else(|| Error::Source(format!("no group {group} in the image's /etc/group")))?,
        };
    }
    check_mapped(owner)?;
    Ok(owner)
}

/// chown(2) says only that its argument is invalid.
fn check_mapped(owner: Owner) -> Result<(), Error> {
    if !in_user_namespace() {
        return Ok(());
    }
    let check = |kind: &str, file: &str, id: u32, map: IdMap| {
        if map.contains(id) {
            return Ok(());
        }
        Err(Error::Source(format!(
            "{kind} {id} is not one of the ids of this user namespace, {map} ({file} gives more)"
        )))
    };
    check("user", "/etc/subuid", owner.user, IdMap::of_users())?;
    check("group", "/etc/subgid", owner.group, IdMap::of_groups())
}

/// Fields of the line whose first one is `name`.
fn find(root: &impl Look, path: &str, name: &str) -> Result<Option<Vec<String>>, Error> {
    let (real, _) = resolve_in(root, Path::new(path)).at(path)?;
    let file = match root.open_file(&real) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno).at(path),
    };
    for line in BufReader::new(file.take(MAX_FILE)).split(b'\n') {
        let line = line.map_err(|error| Error::io(Path::new(path), &error))?;
        let line = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = line.trim().split(':').collect();
        if fields.first() == Some(&name) {
            return Ok(Some(fields.into_iter().map(str::to_owned).collect()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tree::RootHandle;

    #[test]
    fn names_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:\nbad:x:y\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("etc/group"), "staff:x:50:\n").unwrap();
        let root = RootHandle::open_host(dir.path()).unwrap();
        for (text, expected) in [
            ("7", Ok((7, 7))),
            ("7:8", Ok((7, 8))),
            ("web", Ok((33, 34))),
            ("web:staff", Ok((33, 50))),
            ("7:staff", Ok((7, 50))),
            ("web:", Ok((33, 34))),
            (":staff", Ok((0, 50))),
            ("nosuch", Err("no user nosuch in the image's /etc/passwd")),
            ("1:nosuch", Err("no group nosuch in the image's /etc/group")),
            ("bad", Err("the entry of user bad in /etc/passwd is malformed")),
        ] {
            let found = lookup_owner(&root, text)
                .map(|owner| (owner.user, owner.group))
                .map_err(|e| e.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
