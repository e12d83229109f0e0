//! `--allow`.

use std::collections::BTreeSet;

use cooper_daemon::build::Entitlement;

use super::csv::unknown;

const KNOWN: [(&str, Entitlement); 3] = [
    ("network.host", Entitlement::NetworkHost),
    ("security.insecure", Entitlement::SecurityInsecure),
    ("device", Entitlement::Device),
];

/// The entitlements; several may stand in one flag, separated by commas.
pub(crate) fn entitlements(flags: &[String]) -> Result<BTreeSet<Entitlement>, String> {
    let names = flags.iter().flat_map(|flag| flag.split(','));
    names
        .map(
            |name| match KNOWN.iter().find(|(known, _)| *known == name.trim()) {
                Some((_, entitlement)) => Ok(*entitlement),
                None if name.starts_with("device=") => Err(format!(
                    "invalid --allow `{name}`: single devices cannot be allowed, only `device`"
                )),
                None => Err(unknown(
                    "allow",
                    "entitlement",
                    name,
                    &KNOWN.map(|(name, _)| name),
                )),
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let read = |flag: &str| entitlements(&[flag.to_owned()]);
        assert_eq!(read("network.host,device").unwrap().len(), 2);
        assert!(
            read("network.hots")
                .unwrap_err()
                .contains("did you mean `network.host`")
        );
        assert!(read("device=nvidia.com/gpu").is_err());
    }
}
