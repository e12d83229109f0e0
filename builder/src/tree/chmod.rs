//! `--chmod`: modes as numbers and as changes.

use rustix::fs::RawMode;

/// A mode to set or changes to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// `0755`
    Octal(RawMode),
    /// `u=rwX,go=rX`, in order.
    Symbolic(Vec<Change>),
}

/// One operator with what it applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change {
    /// `rwx` bits of the users named; all where none is.
    who: RawMode,
    /// `t` counts: nobody or `a` was named.
    sticky: bool,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Bits {
        /// As one digit.
        rwx: RawMode,
        /// `X`: execute for directories and where anyone may execute already.
        conditional: bool,
        /// `s`
        set_id: bool,
        /// `t`
        sticky: bool,
    },
    /// `g=u`: the bits of this user, at this shift.
    Copy(u32),
}

impl Chmod {
    /// Reads an octal number of at most 7777, or the symbolic form of chmod(1): clauses of any of `ugoa`, then any number
    /// of operators `+-=`, each with either any of `rwxXst` or one of `ugo`. There is no umask, as in BuildKit.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let octal = text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            let mode = RawMode::from_str_radix(text, 8).ok()?;
            return (octal && mode <= 0o7777).then_some(Self::Octal(mode));
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut changes)?;
        }
        Some(Self::Symbolic(changes))
    }

    /// The mode of a file that had `mode`.
    pub(crate) fn apply(&self, mode: RawMode, is_dir: bool) -> RawMode {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(changes) => changes
                .iter()
                .fold(mode, |mode, change| change.apply(mode, is_dir)),
        }
    }

    /// The mode of a directory that is made on the way to the destination. BuildKit gives it an octal mode, too (so that
    /// `--chmod=644` makes directories nobody can enter), but no symbolic one.
    pub(crate) fn made_dir(&self) -> RawMode {
        match self {
            Self::Octal(mode) => *mode,
            Self::Symbolic(_) => 0o755,
        }
    }
}

fn parse_clause(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let at = clause.find(['+', '-', '='])?;
    let (users, mut rest) = clause.split_at(at);
    let mut who = 0;
    let mut sticky = users.is_empty();
    for user in users.chars() {
        who |= match user {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => {
                sticky = true;
                0o777
            }
            _ => return None,
        };
    }
    if users.is_empty() {
        who = 0o777;
    }
    while !rest.is_empty() {
        let operator = match rest.as_bytes()[0] {
            b'+' => Operator::Add,
            b'-' => Operator::Remove,
            b'=' => Operator::Set,
            _ => return None,
        };
        rest = &rest[1..];
        let end = rest.find(['+', '-', '=']).unwrap_or(rest.len());
        let (letters, next) = rest.split_at(end);
        let what = parse_what(letters)?;
        rest = next;
        changes.push(Change {
            who,
            sticky,
            operator,
            what,
        });
    }
    Some(())
}

fn parse_what(letters: &str) -> Option<What> {
    match letters {
        "u" => return Some(What::Copy(6)),
        "g" => return Some(What::Copy(3)),
        "o" => return Some(What::Copy(0)),
        _ => {}
    }
    let (mut rwx, mut conditional, mut set_id, mut sticky) = (0, false, false, false);
    for letter in letters.chars() {
        match letter {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => conditional = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(What::Bits {
        rwx,
        conditional,
        set_id,
        sticky,
    })
}

impl Change {
    fn apply(self, mode: RawMode, is_dir: bool) -> RawMode {
        // The special bits of those who are named: set-uid goes with u, set-gid with g.
        let id_bits = (self.who & 0o100) << 5 | (self.who & 0o010) << 7;
        let (rwx, special) = match self.what {
            What::Copy(shift) => ((mode >> shift) & 7, 0),
            What::Bits {
                rwx,
                conditional,
                set_id,
                sticky,
            } => {
                let execute = conditional && (is_dir || mode & 0o111 != 0);
                let special =
                    if set_id { id_bits } else { 0 } | if sticky && self.sticky { 0o1000 } else { 0 };
                (rwx | RawMode::from(execute), special)
            }
        };
        let bits = (rwx * 0o111) & self.who | special;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Set => {
                let cleared = self.who | id_bits | if self.sticky { 0o1000 } else { 0 };
                mode & !cleared | bits
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those with a file are what BuildKit 0.25 makes of it.
    #[test]
    fn modes() {
        for (text, mode, is_dir, expected) in [
            ("755", 0o600, false, 0o755),
            ("07777", 0o600, false, 0o7777),
            ("u=rwX,go=rX", 0o700, true, 0o755),
            ("u=rwX,go=rX", 0o644, false, 0o644),
            ("u=rwX,go=rX", 0o750, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o600, false, 0o622),
            ("+X,g=w", 0o600, false, 0o620),
            ("g=u", 0o600, false, 0o660),
            ("o+t,a+s", 0o600, false, 0o6600),
            ("+t", 0o600, false, 0o1600),
            ("ug+rw-x,o+x", 0o700, false, 0o661),
            ("u=rw,g=u,o-rwx,+t", 0o755, true, 0o1660),
            ("u+s,o=", 0o644, false, 0o4640),
            ("g+w", 0o700, true, 0o720),
            ("a=", 0o7777, false, 0),
            ("go-rwx", 0o6777, false, 0o6700),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(chmod.apply(mode, is_dir), expected, "{text} {mode:o}");
        }
        for text in [
            "", "99", "10000", "0o755", "a+q", "u", "x+r", "u=r,", "+ug", "u+gr", "7x", "-1",
        ] {
            assert_eq!(Chmod::parse(text), None, "{text}");
        }
    }
}
