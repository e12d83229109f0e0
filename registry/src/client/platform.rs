//! Choosing a child of an index.

use crate::oci::{Descriptor, Platform};

/// The child for `wanted`: same system and CPU, the nearest variant; failing that, the only child that names none.
pub(super) fn choose<'a>(children: &'a [Descriptor], wanted: &Platform) -> Option<&'a Descriptor> {
    let rank = |child: &&Descriptor| {
        child
            .platform
            .as_ref()
            .and_then(|platform| distance(platform, wanted))
    };
    if let Some(best) = children
        .iter()
        .filter(|child| rank(child).is_some())
        .min_by_key(rank)
    {
        return Some(best);
    }
    let mut nameless = children.iter().filter(|child| child.platform.is_none());
    nameless.next().filter(|_| nameless.next().is_none())
}

/// How far `offered` is from `wanted`, `None` if it does not run there. A later ARM runs what an earlier one does; an
/// unnamed variant is the first of amd64 and what everyone means by arm64 (v8) and arm (v7), as in containerd.
fn distance(offered: &Platform, wanted: &Platform) -> Option<u8> {
    if offered.os != wanted.os || normal(&offered.architecture) != normal(&wanted.architecture) {
        return None;
    }
    let level = |platform: &Platform| {
        let default = match normal(&platform.architecture) {
            "arm64" => 8,
            "arm" => 7,
            _ => 1,
        };
        match platform.variant.as_deref() {
            None | Some("") => Some(default),
            Some(text) => text.trim_start_matches('v').split('.').next()?.parse::<u8>().ok(),
        }
    };
    match (level(offered), level(wanted)) {
        (Some(offered), Some(wanted)) => wanted.checked_sub(offered),
        // Variants without a level are names: equal or not.
        _ => (offered.variant == wanted.variant).then_some(0),
    }
}

fn normal(architecture: &str) -> &str {
    match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        other => other,
    }
}

/// `linux/arm64/v8`.
pub(super) fn text(platform: &Platform) -> String {
    let variant = platform.variant.as_deref().filter(|variant| !variant.is_empty());
    let variant = variant.map(|variant| format!("/{variant}")).unwrap_or_default();
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

/// The platforms that an index lists, for an error text. Attestations (`unknown/unknown`) are no images.
pub(super) fn list(children: &[Descriptor]) -> String {
    let named = children
        .iter()
        .filter_map(|child| child.platform.as_ref())
        .map(text);
    let mut named: Vec<_> = named.filter(|name| name != "unknown/unknown").collect();
    named.sort();
    named.dedup();
    named.truncate(50);
    if named.is_empty() {
        "none".to_owned()
    } else {
        named.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform {
            os: parts.next().unwrap(),
            architecture: parts.next().unwrap(),
            variant: parts.next(),
            os_version: None,
        }
    }

    #[test]
    fn chooses_the_nearest() {
        let cases: [(&str, &[&str], Option<usize>); 12] = [
            ("linux/amd64", &["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", "windows/amd64"], None),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"],
                Some(1),
            ),
            ("linux/arm64", &["linux/arm64/v8"], Some(0)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6"], Some(1)),
            ("linux/arm/v6", &["linux/arm/v7"], None),
            ("linux/x86_64", &["linux/amd64"], Some(0)),
            ("linux/amd64", &["unknown/unknown", ""], Some(1)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &[], None),
        ];
        for (wanted, offered, expected) in cases {
            let children: Vec<_> = offered
                .iter()
                .enumerate()
                .map(|(index, text)| {
                    let digest = Digest::sha256(index.to_string().as_bytes());
                    let mut child = Descriptor::new("x", digest, 1);
                    child.platform = (!text.is_empty()).then(|| platform(text));
                    child
                })
                .collect();
            let chosen = choose(&children, &platform(wanted)).map(|child| child.digest.clone());
            assert_eq!(
                chosen,
                expected.map(|index| children[index].digest.clone()),
                "{wanted} of {offered:?}"
            );
        }
    }
}
