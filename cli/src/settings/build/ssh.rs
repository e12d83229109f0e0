//! `--ssh default|ID[=SOCKET]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Sockets of agents by id; `agent` is `SSH_AUTH_SOCK`, which an id without a path stands for.
pub(crate) fn agents(flags: &[String], agent: Option<&str>) -> Result<BTreeMap<String, PathBuf>, String> {
    let mut all = BTreeMap::new();
    for flag in flags {
        let (id, paths) = flag.split_once('=').unwrap_or((flag, ""));
        if id.is_empty() {
            return Err(format!("invalid --ssh `{flag}`: expected default or ID[=SOCKET]"));
        }
        let path = match paths {
            "" => agent
                .filter(|agent| !agent.is_empty())
                .ok_or_else(|| format!("--ssh {flag}: no ssh agent is running (SSH_AUTH_SOCK is not set)"))?,
            path if path.contains(',') => {
                return Err(format!(
                    "--ssh {flag}: several keys: load them into an agent with ssh-add and give its socket"
                ));
            }
            path => path,
        };
        if all.insert(id.to_owned(), PathBuf::from(path)).is_some() {
            return Err(format!("invalid --ssh `{flag}`: `{id}` is given twice"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets() {
        let check = |flag: &str, agent: Option<&str>, expected: Option<&str>| {
            let got = agents(&[flag.to_owned()], agent).ok();
            let got = got.map(|all| {
                all.into_iter()
                    .map(|(id, path)| format!("{id} {}", path.display()))
                    .collect::<String>()
            });
            assert_eq!(got.as_deref(), expected, "{flag}");
        };
        check("default", Some("/agent"), Some("default /agent"));
        check("git", Some("/agent"), Some("git /agent"));
        check("default=/other", None, Some("default /other"));
        check("default", None, None);
        check("default", Some(""), None);
        check("=x", Some("/agent"), None);
        check("a=k1,k2", Some("/agent"), None);
        let twice = ["a=/x".to_owned(), "a=/y".to_owned()];
        assert!(agents(&twice, None).is_err());
    }
}
