//! The SPDX 2.3 document (<https://spdx.github.io/spdx-spec/v2.3/>).

use cooper_registry::digest::{DiffId, Digest};
use serde_json::{Value, json};

use super::{Findings, Package};
use crate::build::Error;

const IMAGE: &str = "SPDXRef-Image";
const UNKNOWN: &str = "NOASSERTION";

pub(super) fn document(
    title: &str,
    layers: &[DiffId],
    findings: &Findings,
    created: &str,
) -> Result<Value, Error> {
    let identity: String = layers.iter().map(ToString::to_string).collect();
    // The same contents have the same name, and no others do.
    let namespace = Digest::sha256(format!("{title}\n{created}\n{identity}").as_bytes());
    let mut packages = vec![json!({
        "SPDXID": IMAGE,
        "name": title,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
    })];
    let mut relationships = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": IMAGE,
    })];
    for found in &findings.packages {
        let id = id(found);
        packages.push(package(found, &id));
        relationships.push(json!({
            "spdxElementId": IMAGE,
            "relationshipType": "CONTAINS",
            "relatedSpdxElement": id,
        }));
    }
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": title,
        "documentNamespace": format!("urn:cooper:sbom:{}", namespace.hex()),
        "creationInfo": {
            "created": created,
            "creators": [format!("Tool: cooper-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relationships,
    });
    if !findings.notes.is_empty() {
        document["comment"] = findings.notes.join("\n").into();
    }
    Ok(document)
}

fn package(found: &Package, id: &str) -> Value {
    let mut package = json!({
        "SPDXID": id,
        "name": found.name,
        "versionInfo": found.version,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
        "sourceInfo": format!("found in {}", found.found_in),
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": url(found),
        }],
    });
    if !found.supplier.is_empty() {
        package["supplier"] = format!("Organization: {}", found.supplier).into();
    }
    if !found.license.is_empty() {
        // Distributions' own expressions need not be SPDX's.
        package["licenseComments"] = found.license.clone().into();
    }
    package
}

/// Letters, digits, dots and dashes only; the digest keeps apart what that makes equal.
fn id(found: &Package) -> String {
    let plain = |text: &str| {
        let letters = text.chars().map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        });
        letters.collect::<String>()
    };
    let whole = format!("{}\n{}", url(found), found.found_in);
    let digest = Digest::sha256(whole.as_bytes());
    format!(
        "SPDXRef-Package-{}-{}-{}",
        plain(&found.kind),
        plain(&found.name),
        &digest.hex()[..16]
    )
}

/// The package URL (<https://github.com/package-url/purl-spec>).
fn url(found: &Package) -> String {
    let escape = |text: &str, keep: &str| {
        let mut escaped = String::new();
        for byte in text.bytes() {
            let c = char::from(byte);
            if byte.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
                escaped.push(c);
            } else {
                escaped.push_str(&format!("%{byte:02X}"));
            }
        }
        escaped
    };
    let mut url = format!(
        "pkg:{}/{}@{}",
        found.kind,
        escape(&found.name, "/"),
        escape(&found.version, ":")
    );
    if !found.qualifiers.is_empty() {
        url.push('?');
        url.push_str(&found.qualifiers);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_and_ids() {
        let found = Package {
            kind: "npm".to_owned(),
            name: "@scope/a b".to_owned(),
            version: "1:2+3".to_owned(),
            qualifiers: "arch=x".to_owned(),
            license: String::new(),
            supplier: String::new(),
            found_in: "/x".to_owned(),
        };
        assert_eq!(url(&found), "pkg:npm/%40scope/a%20b@1:2%2B3?arch=x");
        assert!(id(&found).starts_with("SPDXRef-Package-npm--scope-a-b-"));
    }
}
