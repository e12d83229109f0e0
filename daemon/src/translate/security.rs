//! `SecurityOpt`.

use std::path::PathBuf;

use cooper_runner::spec::SeccompMode;

use crate::api::HostConfig;
use crate::error::{ApiError, ApiResult};

/// What the options ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) seccomp: SeccompMode,
    pub(crate) no_new_privileges: bool,
    /// `None`: Docker's list.
    pub(crate) masked_paths: Option<Vec<PathBuf>>,
    /// `None`: Docker's list.
    pub(crate) readonly_paths: Option<Vec<PathBuf>>,
}

pub(crate) fn security(host: &HostConfig) -> ApiResult<Security> {
    let paths =
        |list: &Option<Vec<String>>| list.as_ref().map(|list| list.iter().map(PathBuf::from).collect());
    let mut security = Security {
        masked_paths: paths(&host.masked_paths),
        readonly_paths: paths(&host.readonly_paths),
        ..Security::default()
    };
    for option in host.security_opt.iter().flatten() {
        // Docker took a colon before it took an equals sign.
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("unconfined")) => security.seccomp = SeccompMode::Unconfined,
            ("seccomp", Some("builtin")) => security.seccomp = SeccompMode::Default,
            ("seccomp", Some(profile)) => {
                let is_profile = serde_json::from_str::<serde::de::IgnoredAny>(profile).is_ok();
                if !profile.starts_with('{') || !is_profile {
                    return Err(ApiError::bad(format!(
                        "Decoding seccomp profile failed: {option:?} is not JSON"
                    )));
                }
                security.seccomp = SeccompMode::Profile(profile.to_owned());
            }
            ("systempaths", Some("unconfined")) => {
                security.masked_paths = Some(Vec::new());
                security.readonly_paths = Some(Vec::new());
            }
            // Nothing is labelled, so nothing is to be switched off.
            ("apparmor", Some("unconfined" | "")) | ("label", Some("disable")) => {}
            ("apparmor" | "label" | "writable-cgroups" | "credentialspec", _) => {
                return Err(ApiError::unavailable(format!(
                    "HostConfig.SecurityOpt {option:?}"
                )));
            }
            _ => return Err(ApiError::bad(format!("invalid --security-opt 2: {option:?}"))),
        }
    }
    Ok(security)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_or_refused() {
        let parse = |option: &str| {
            security(&HostConfig {
                security_opt: Some(vec![option.to_owned()]),
                ..HostConfig::default()
            })
        };
        assert_eq!(
            parse("seccomp=unconfined").unwrap().seccomp,
            SeccompMode::Unconfined
        );
        assert_eq!(
            parse("seccomp:{}").unwrap().seccomp,
            SeccompMode::Profile("{}".to_owned())
        );
        assert!(parse("no-new-privileges").unwrap().no_new_privileges);
        assert!(!parse("no-new-privileges:false").unwrap().no_new_privileges);
        assert_eq!(
            parse("systempaths=unconfined").unwrap().masked_paths,
            Some(Vec::new())
        );
        for bad in [
            "seccomp=/etc/x.json",
            "apparmor=x",
            "nonsense",
            "no-new-privileges=maybe",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
