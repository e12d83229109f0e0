//! Device rules: Docker's defaults and the v1 text form.

use super::{CgroupError, DeviceRule};

/// What every container may do: make any node, use null, zero, full, random, urandom, tty, console, ptmx and ptys, nothing
/// else (moby's `oci.DefaultLinuxSpec` plus what runc adds). They hold after an implied "deny everything".
pub fn docker_default_devices() -> Vec<DeviceRule> {
    let rule = |kind, major, minor, access: &str| DeviceRule {
        allow: true,
        kind,
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![rule('c', None, None, "m"), rule('b', None, None, "m")];
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(rule('c', Some(major), Some(minor), "rwm"));
    }
    rules.push(rule('c', Some(136), None, "rwm"));
    rules
}

/// The largest minor number Linux has; majors are smaller still.
const MAX_NUMBER: u32 = (1 << 20) - 1;

/// # Errors
/// A kind other than `a`, `b`, `c`, an access that is not a non-empty subset of `rwm`, a number no device has.
pub(super) fn validate(rule: &DeviceRule) -> Result<(), CgroupError> {
    let invalid = |text: String| Err(CgroupError::InvalidDevice(text));
    match rule.kind {
        'a' => return Ok(()),
        'b' | 'c' => {}
        other => return invalid(format!("device type {other:?} is not a, b or c")),
    }
    if rule.access.is_empty() || !rule.access.chars().all(|c| "rwm".contains(c)) {
        return invalid(format!("access {:?} is not made of r, w and m", rule.access));
    }
    match rule
        .major
        .into_iter()
        .chain(rule.minor)
        .find(|number| *number > MAX_NUMBER)
    {
        Some(number) => invalid(format!("device number {number} is too large")),
        None => Ok(()),
    }
}

/// `c 1:3 rwm`, as `devices.allow` and `devices.deny` take it.
pub(super) fn v1_line(rule: &DeviceRule) -> String {
    if rule.kind == 'a' {
        return "a".to_owned();
    }
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |n| n.to_string());
    format!(
        "{} {}:{} {}",
        rule.kind,
        number(rule.major),
        number(rule.minor),
        rule.access
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_what_the_kernel_takes() {
        let lines: Vec<String> = docker_default_devices().iter().map(v1_line).collect();
        assert_eq!(
            lines,
            [
                "c *:* m",
                "b *:* m",
                "c 1:3 rwm",
                "c 1:5 rwm",
                "c 1:7 rwm",
                "c 1:8 rwm",
                "c 1:9 rwm",
                "c 5:0 rwm",
                "c 5:1 rwm",
                "c 5:2 rwm",
                "c 136:* rwm"
            ]
        );
    }

    #[test]
    fn bad_rules_are_refused() {
        let check = |kind: char, major: Option<u32>, access: &str, ok: bool| {
            let rule = DeviceRule {
                allow: true,
                kind,
                major,
                minor: None,
                access: access.into(),
            };
            assert_eq!(validate(&rule).is_ok(), ok, "{rule:?}");
        };
        check('c', Some(1), "r", true);
        check('b', None, "mrw", true);
        check('a', None, "", true);
        check('p', None, "r", false);
        check('c', None, "", false);
        check('c', None, "rx", false);
        check('c', None, "r\nc 1:1 w", false);
        check('c', Some(1 << 20), "r", false);
    }
}
