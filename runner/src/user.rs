//! Who a container's process runs as: Docker's `user[:group]` against the image's `passwd` and `group`.
//!
//! Takes file contents, does no IO. The rules are those of moby's `user.GetExecUser`: a number is always an id, never a
//! name; a number without an entry is fine; the first matching line wins. Two things are stricter, because the files
//! come from an image: a line whose ids are not plain numbers is skipped (moby reads such an id as 0, which is root),
//! and a spec with more than one colon is refused.

/// Ids above this are refused as Docker does; `u32::MAX` would mean "leave unchanged" to the kernel.
const MAX_ID: u32 = i32::MAX as u32;
/// Longest line looked at; longer ones are skipped. Groups with tens of thousands of members fit.
const MAX_LINE: usize = 1 << 20;
/// `NGROUPS_MAX` of Linux.
const MAX_GROUPS: usize = 65_536;

/// The identity of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserIds {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups for `setgroups(2)`: the primary one first (CVE-2022-36109), without duplicates.
    pub groups: Vec<u32>,
    /// Home directory; `/` when passwd tells none.
    pub home: String,
    /// Name of the matching passwd entry.
    pub name: Option<String>,
}

/// A user or group that cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Not a number and not in passwd.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// Not a number and not in group.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number that is negative or above 2147483647.
    #[error("uids and gids must be in range 0-2147483647, got {0}")]
    OutOfRange(String),
    /// More than one colon, or a control character.
    #[error("invalid user spec {0:?}: expected user[:group]")]
    InvalidSpec(String),
    /// More supplementary groups than the kernel takes.
    #[error("too many supplementary groups: {0}, at most 65536")]
    TooManyGroups(usize),
}

/// Resolves `user` (`user`, `uid`, `user:group`, ... or empty for root) and the groups to add, by name or number.
///
/// `passwd` and `group` are file contents, `None` if there is no such file. Groups that list the user as a member count
/// only when no group is given in `user`.
///
/// # Errors
/// A name without an entry, a number out of range, a malformed spec.
pub fn resolve(
    user: &str,
    group_add: &[String],
    passwd: Option<&[u8]>,
    group: Option<&[u8]>,
) -> Result<UserIds, UserError> {
    if user.chars().any(char::is_control) {
        return Err(UserError::InvalidSpec(user.to_owned()));
    }
    let (user_arg, group_arg) = match user.split_once(':') {
        Some((_, rest)) if rest.contains(':') => return Err(UserError::InvalidSpec(user.to_owned())),
        Some((name, group)) => (name, group),
        None => (user, ""),
    };

    let passwd = passwd.unwrap_or_default();
    let group = group.unwrap_or_default();
    let entry = match parse_id(user_arg)? {
        Some(uid) => passwd_entries(passwd)
            .find(|entry| entry.uid == uid)
            .unwrap_or(Passwd::unlisted(uid)),
        None if user_arg.is_empty() => passwd_entries(passwd)
            .find(|entry| entry.uid == 0)
            .unwrap_or(Passwd::unlisted(0)),
        None => passwd_entries(passwd)
            .find(|entry| entry.name == user_arg.as_bytes())
            .ok_or_else(|| UserError::UnknownUser(user_arg.to_owned()))?,
    };

    let mut gid = entry.gid;
    let mut groups = Vec::new();
    if group_arg.is_empty() {
        if !entry.name.is_empty() {
            groups.extend(
                group_entries(group)
                    .filter(|g| g.has_member(entry.name))
                    .map(|g| g.gid),
            );
        }
    } else {
        gid = match parse_id(group_arg)? {
            Some(gid) => gid,
            None => find_group(group, group_arg)?,
        };
    }
    for wanted in group_add {
        groups.push(match group_entries(group).find(|g| g.answers_to(wanted)) {
            Some(found) => found.gid,
            None => parse_id(wanted)?.ok_or_else(|| UserError::UnknownGroup(wanted.clone()))?,
        });
    }

    let mut seen = std::collections::HashSet::new();
    let groups: Vec<u32> = std::iter::once(gid)
        .chain(groups)
        .filter(|gid| seen.insert(*gid))
        .collect();
    if groups.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups(groups.len()));
    }
    let name = (!entry.name.is_empty()).then(|| String::from_utf8_lossy(entry.name).into_owned());
    let home = if entry.home.is_empty() {
        "/".into()
    } else {
        String::from_utf8_lossy(entry.home).into_owned()
    };
    Ok(UserIds {
        uid: entry.uid,
        gid,
        groups,
        home,
        name,
    })
}

fn find_group(group: &[u8], name: &str) -> Result<u32, UserError> {
    group_entries(group)
        .find(|entry| entry.name == name.as_bytes())
        .map(|entry| entry.gid)
        .ok_or_else(|| UserError::UnknownGroup(name.to_owned()))
}

/// `Ok(None)` if `text` is a name. Everything that reads as a decimal number is an id, so a huge one is out of range and
/// never a name.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::OutOfRange(text.to_owned())),
    }
}

struct Passwd<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

impl Passwd<'_> {
    /// A uid that no line tells about gets gid 0, as in Docker.
    const fn unlisted(uid: u32) -> Self {
        Self {
            name: b"",
            uid,
            gid: 0,
            home: b"",
        }
    }
}

struct Group<'a> {
    name: &'a [u8],
    gid: u32,
    members: &'a [u8],
}

impl Group<'_> {
    fn answers_to(&self, wanted: &str) -> bool {
        self.name == wanted.as_bytes() || self.gid.to_string() == wanted
    }

    fn has_member(&self, user: &[u8]) -> bool {
        self.members
            .split(|b| *b == b',')
            .any(|member| member.trim_ascii() == user)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|b| *b == b'\n')
        .filter(|line| line.len() <= MAX_LINE)
        .map(<[u8]>::trim_ascii)
}

/// `name:password:uid:gid:gecos:home:shell`; home and what follows may be missing.
fn passwd_entries(file: &[u8]) -> impl Iterator<Item = Passwd<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = file_id(fields.nth(1)?)?;
        let gid = file_id(fields.next()?)?;
        let home = fields.nth(1).unwrap_or_default();
        Some(Passwd { name, uid, gid, home })
    })
}

/// `name:password:gid:member,member`; the members may be missing.
fn group_entries(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).filter_map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = file_id(fields.nth(1)?)?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or_default(),
        })
    })
}

fn file_id(field: &[u8]) -> Option<u32> {
    parse_id(std::str::from_utf8(field).ok()?).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "\
# comment
root:x:0:0:root:/root:/bin/sh
broken
daemon:x:1:1:daemon:/usr/sbin
app:x:1000:1001:App,,,:/home/app:/bin/sh
nohome:x:1002:1002
evil:x:abc:0::/:
evil2:x:-1:0::/:
evil3:x:4294967296:0::/:
1000:x:77:77::/trap:
app:x:5:5::/second:
+::::::
dup:x:1000:3::/dup:
";
    const GROUP: &str = "\
root:x:0:
wheel:x:10:root,app
bad:x:zz:app
app:x:1001:
video:x:44: app ,other
42:x:420:
dup:x:44:app
";

    fn run(user: &str, add: &[&str]) -> Result<UserIds, UserError> {
        let add: Vec<String> = add.iter().map(|s| (*s).to_owned()).collect();
        resolve(user, &add, Some(PASSWD.as_bytes()), Some(GROUP.as_bytes()))
    }

    #[test]
    fn specs_resolve_as_in_docker() {
        let check = |user: &str, add: &[&str], uid, gid, groups: &[u32], home: &str, name: Option<&str>| {
            let expected = UserIds {
                uid,
                gid,
                groups: groups.to_vec(),
                home: home.into(),
                name: name.map(Into::into),
            };
            assert_eq!(run(user, add), Ok(expected), "user {user:?} add {add:?}");
        };
        check("", &[], 0, 0, &[0, 10], "/root", Some("root"));
        check("root", &[], 0, 0, &[0, 10], "/root", Some("root"));
        check("0", &[], 0, 0, &[0, 10], "/root", Some("root"));
        check("app", &[], 1000, 1001, &[1001, 10, 44], "/home/app", Some("app"));
        check("1000", &[], 1000, 1001, &[1001, 10, 44], "/home/app", Some("app"));
        check(
            "01000",
            &[],
            1000,
            1001,
            &[1001, 10, 44],
            "/home/app",
            Some("app"),
        );
        check("app:wheel", &[], 1000, 10, &[10], "/home/app", Some("app"));
        check("app:42", &[], 1000, 42, &[42], "/home/app", Some("app"));
        check("app:", &[], 1000, 1001, &[1001, 10, 44], "/home/app", Some("app"));
        check(":wheel", &[], 0, 10, &[10], "/root", Some("root"));
        check("12345", &[], 12345, 0, &[0], "/", None);
        check(
            "12345:54321",
            &["video", "9", "54321"],
            12345,
            54321,
            &[54321, 44, 9],
            "/",
            None,
        );
        check("2147483647", &[], 2_147_483_647, 0, &[0], "/", None);
        check("nohome", &[], 1002, 1002, &[1002], "/", Some("nohome"));
        check("daemon", &["42"], 1, 1, &[1, 420], "/usr/sbin", Some("daemon"));
    }

    #[test]
    fn bad_specs_are_refused() {
        let check = |user: &str, add: &[&str], expected: UserError| {
            assert_eq!(run(user, add), Err(expected), "user {user:?} add {add:?}");
        };
        let range = |text: &str| UserError::OutOfRange(text.into());
        let no_user = |text: &str| UserError::UnknownUser(text.into());
        let no_group = |text: &str| UserError::UnknownGroup(text.into());
        check("-1", &[], range("-1"));
        check("2147483648", &[], range("2147483648"));
        check("4294967295", &[], range("4294967295"));
        check("4294967296", &[], range("4294967296"));
        check("99999999999999999999999", &[], range("99999999999999999999999"));
        check("0:-5", &[], range("-5"));
        check("0:4294967296", &[], range("4294967296"));
        check("0", &["4294967295"], range("4294967295"));
        check("nobody", &[], no_user("nobody"));
        check("+5", &[], no_user("+5"));
        check("0x10", &[], no_user("0x10"));
        check("-", &[], no_user("-"));
        check("evil", &[], no_user("evil"));
        check("evil2", &[], no_user("evil2"));
        check("evil3", &[], no_user("evil3"));
        check("+", &[], no_user("+"));
        check("app:nogroup", &[], no_group("nogroup"));
        check("app:bad", &[], no_group("bad"));
        check("app", &["nogroup"], no_group("nogroup"));
        check("app:app:app", &[], UserError::InvalidSpec("app:app:app".into()));
        check("app\n", &[], UserError::InvalidSpec("app\n".into()));
    }

    #[test]
    fn images_without_files_know_only_numbers() {
        let ids = |uid, gid| UserIds {
            uid,
            gid,
            groups: vec![gid],
            home: "/".into(),
            name: None,
        };
        assert_eq!(resolve("", &[], None, None), Ok(ids(0, 0)));
        assert_eq!(resolve("7:8", &[], None, None), Ok(ids(7, 8)));
        assert_eq!(
            resolve("root", &[], None, None),
            Err(UserError::UnknownUser("root".into()))
        );
    }

    #[test]
    fn over_long_lines_are_skipped() {
        let passwd = format!("big:x:1:1:{}:/h:\nok:x:2:2::/ok:\n", "a".repeat(MAX_LINE));
        assert!(resolve("big", &[], Some(passwd.as_bytes()), None).is_err());
        assert_eq!(
            resolve("ok", &[], Some(passwd.as_bytes()), None).map(|ids| ids.uid),
            Ok(2)
        );
    }

    proptest! {
        #[test]
        fn hostile_files_never_give_an_id_out_of_range(
            user in "[a-c0-9:-]{0,12}", passwd in "[a-c0-9:\n-]{0,80}", group in "[a-c0-9:,\n-]{0,80}",
        ) {
            if let Ok(ids) = resolve(&user, &[], Some(passwd.as_bytes()), Some(group.as_bytes())) {
                prop_assert!(ids.uid <= MAX_ID && ids.gid <= MAX_ID);
                prop_assert_eq!(ids.groups.first(), Some(&ids.gid));
                prop_assert!(ids.groups.iter().all(|gid| *gid <= MAX_ID));
            }
        }
    }
}
