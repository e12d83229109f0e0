//! From a registry's name to the URLs where it may be.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::Url;

use super::ClientConfig;
use crate::reference::DEFAULT_DOMAIN;

/// Where a registry may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Base without `/v2/`, with a slash at its end.
    pub(super) base: Url,
    /// Certificates are not verified.
    pub(super) insecure: bool,
    /// Never through a proxy.
    pub(super) direct: bool,
}

/// The places to try for a registry host, best first. docker.io is served by registry-1.docker.io; loopback and
/// configured insecure hosts by https without verification, then http.
pub(super) fn endpoints(domain: &str, config: &ClientConfig) -> Vec<Endpoint> {
    let host = if domain == DEFAULT_DOMAIN {
        "registry-1.docker.io"
    } else {
        domain
    };
    let direct = is_loopback(host);
    let insecure = direct
        || config
            .insecure
            .iter()
            .any(|entry| entry == domain || entry == name_of(domain));
    let schemes: &[&str] = if insecure { &["https", "http"] } else { &["https"] };
    let url = |scheme: &&str| Url::parse(&format!("{scheme}://{host}/")).ok();
    schemes
        .iter()
        .filter_map(url)
        .map(|base| Endpoint {
            base,
            insecure,
            direct,
        })
        .collect()
}

/// The mirrors of a registry, in order; only docker.io has any.
pub(super) fn mirrors(domain: &str, config: &ClientConfig) -> Vec<Endpoint> {
    if domain != DEFAULT_DOMAIN {
        return Vec::new();
    }
    let parse = |text: &String| {
        let base = Url::parse(&format!("{}/", text.trim_end_matches('/'))).ok()?;
        let host = base.host_str()?.to_owned();
        let direct = is_loopback(&host);
        let insecure = direct || config.insecure.iter().any(|entry| name_of(entry) == host);
        matches!(base.scheme(), "http" | "https").then_some(Endpoint {
            base,
            insecure,
            direct,
        })
    };
    config.mirrors.iter().filter_map(parse).collect()
}

/// The host without its port.
fn name_of(domain: &str) -> &str {
    if let Some(end) = domain.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return &domain[..end + 2];
    }
    domain.split(':').next().unwrap_or(domain)
}

fn is_loopback(domain: &str) -> bool {
    let name = name_of(domain).trim_start_matches('[').trim_end_matches(']');
    let loopback = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6.is_loopback(),
    };
    name == "localhost" || name.parse().is_ok_and(loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let config = ClientConfig {
            insecure: vec!["reg.lan:5000".to_owned(), "old.lan".to_owned()],
            ..Default::default()
        };
        let cases: [(&str, &[&str]); 8] = [
            ("docker.io", &["https://registry-1.docker.io/"]),
            ("ghcr.io", &["https://ghcr.io/"]),
            (
                "localhost:5000",
                &["https://localhost:5000/", "http://localhost:5000/"],
            ),
            ("127.8.0.1", &["https://127.8.0.1/", "http://127.8.0.1/"]),
            ("[::1]:5000", &["https://[::1]:5000/", "http://[::1]:5000/"]),
            ("reg.lan:5000", &["https://reg.lan:5000/", "http://reg.lan:5000/"]),
            ("reg.lan:5001", &["https://reg.lan:5001/"]),
            ("old.lan:1", &["https://old.lan:1/", "http://old.lan:1/"]),
        ];
        for (domain, expected) in cases {
            let found: Vec<_> = endpoints(domain, &config)
                .iter()
                .map(|place| place.base.to_string())
                .collect();
            assert_eq!(found, expected, "{domain}");
        }
    }
}
