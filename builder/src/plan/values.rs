//! Arguments of instructions taken apart.

/// Signals by the names Docker knows, without `SIG`.
const SIGNALS: [&str; 37] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX", "UNUSED",
];

/// Whether STOPSIGNAL accepts it.
pub(super) fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, max: u32| {
        name.strip_prefix(prefix)
            .and_then(|n| n.parse().ok())
            .is_some_and(|n: u32| (1..=max).contains(&n))
    };
    SIGNALS.contains(&name) || offset("RTMIN+", 15) || offset("RTMAX-", 14)
}

/// Ports of one EXPOSE argument as `80/tcp`.
///
/// `[[ip:]host:]port[-end][/protocol]`; what is in front of the container's port is accepted and has no meaning.
pub(super) fn ports(text: &str) -> Result<Vec<String>, String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = if protocol.is_empty() {
        "tcp".to_owned()
    } else {
        protocol.to_lowercase()
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let range = range.rsplit(':').next().unwrap_or(range);
    let invalid = || format!("invalid containerPort: {range}");
    let (start, end) = range.split_once('-').unwrap_or((range, range));
    let start: u16 = start.parse().map_err(|_| invalid())?;
    let end: u16 = end.parse().map_err(|_| invalid())?;
    if start > end {
        return Err(invalid());
    }
    Ok((start..=end).map(|port| format!("{port}/{protocol}")).collect())
}

/// Go's `path.Clean` of an absolute path.
pub(super) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Go's `path.Clean` of any path.
pub(super) fn clean_relative(path: &str) -> String {
    if path.starts_with('/') {
        return clean_path(path);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

/// `path` made absolute in `cwd` and cleaned; a slash at its end stays, and `.` gets one.
pub(super) fn destination(cwd: &str, path: &str) -> String {
    let joined = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{cwd}/{path}")
    };
    let mut clean = clean_path(&joined);
    let dir = path.ends_with('/') || path == "." || path.ends_with("/.");
    if dir && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_ports() {
        for (text, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("80/UDP", Ok(vec!["80/udp"])),
            ("1-3/sctp", Ok(vec!["1/sctp", "2/sctp", "3/sctp"])),
            ("127.0.0.1:80:8080", Ok(vec!["8080/tcp"])),
            ("x", Err("invalid containerPort: x")),
            ("70000", Err("invalid containerPort: 70000")),
            ("3-1", Err("invalid containerPort: 3-1")),
            ("80/x", Err("invalid proto: x")),
        ] {
            let expected = expected
                .map(|list| list.into_iter().map(str::to_owned).collect())
                .map_err(str::to_owned);
            assert_eq!(ports(text), expected, "{text}");
        }
    }

    #[test]
    fn destinations() {
        for (cwd, path, expected) in [
            ("/", "a", "/a"),
            ("/w", "a/", "/w/a/"),
            ("/w", ".", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "", "/w"),
            ("/w", "../../..", "/"),
            ("/w", "/a//b/../c/", "/a/c/"),
            ("/", "/", "/"),
        ] {
            assert_eq!(destination(cwd, path), expected, "{cwd} {path}");
        }
    }

    #[test]
    fn relative_paths() {
        for (path, expected) in [
            ("", "."),
            ("a//b/../c/", "a/c"),
            ("../../a", "../../a"),
            ("a/../..", ".."),
            ("/../a/", "/a"),
        ] {
            assert_eq!(clean_relative(path), expected, "{path}");
        }
    }

    #[test]
    fn signals() {
        for (text, expected) in [
            ("SIGTERM", true),
            ("term", true),
            ("9", true),
            ("SIGRTMIN+3", true),
            ("0", false),
            ("SIGX", false),
            ("", false),
        ] {
            assert_eq!(is_signal(text), expected, "{text}");
        }
    }
}
