//! `--add-host NAME:ADDRESS`.

use std::net::IpAddr;

/// Name and address of each; `host-gateway` is left for the engine, which knows it.
pub(crate) fn hosts(flags: &[String]) -> Result<Vec<(String, String)>, String> {
    flags.iter().map(|flag| host(flag)).collect()
}

fn host(flag: &str) -> Result<(String, String), String> {
    let wrong = || format!("invalid --add-host `{flag}`: expected NAME:ADDRESS or NAME=ADDRESS");
    let (name, address) = flag
        .split_once('=')
        .or_else(|| flag.split_once(':'))
        .ok_or_else(wrong)?;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    let valid = bare == "host-gateway" || bare.parse::<IpAddr>().is_ok();
    if name.is_empty() || name.contains(char::is_whitespace) || !valid {
        return Err(wrong());
    }
    Ok((name.to_owned(), bare.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |flag: &str, expected: Option<&str>| {
            let got = host(flag).ok().map(|(name, address)| format!("{name} {address}"));
            assert_eq!(got.as_deref(), expected, "{flag}");
        };
        check("a:10.0.0.1", Some("a 10.0.0.1"));
        check("a=10.0.0.1", Some("a 10.0.0.1"));
        check("a:::1", Some("a ::1"));
        check("a=[::1]", Some("a ::1"));
        check("a:host-gateway", Some("a host-gateway"));
        for wrong in ["a", "a:", ":1.2.3.4", "a:b", "a b:1.2.3.4", "a:1.2.3.4\n"] {
            check(wrong, None);
        }
    }
}
