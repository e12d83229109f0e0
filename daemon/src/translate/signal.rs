//! Signal names and numbers.

/// Numbers shared by x86_64 and aarch64 (`asm-generic/signal.h`).
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// First and last real-time signal as libc counts them (it keeps two for itself).
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// `SIGTERM`, `term`, `15`, `RTMIN+3`; `None` for anything that is no signal.
pub(crate) fn parse_signal(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |base: i32, rest: &str| match rest {
        "" => Some(base),
        _ => rest
            .parse::<i32>()
            .ok()
            .and_then(|offset| base.checked_add(offset)),
    };
    let number = match name {
        "IOT" => Some(6),
        "CLD" => Some(17),
        "POLL" => Some(29),
        _ => match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
            (Some(rest), _) => real_time(RTMIN, rest),
            (_, Some(rest)) => real_time(RTMAX, rest),
            _ => {
                return SIGNALS
                    .iter()
                    .position(|known| *known == name)
                    .and_then(|at| i32::try_from(at + 1).ok());
            }
        },
    };
    number.filter(|number| (1..=RTMAX).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("kill", Some(9)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SYS", Some(31)),
            ("0", None),
            ("65", None),
            ("RTMAX+1", None),
            ("FOO", None),
            ("", None),
        ] {
            assert_eq!(parse_signal(text), expected, "{text}");
        }
    }
}
