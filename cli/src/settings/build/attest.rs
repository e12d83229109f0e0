//! `--attest`, `--provenance` and `--sbom`.

use cooper_daemon::build::{Provenance, ProvenanceMode, Sbom};

use super::csv::{boolean, pairs, required, unknown};
use super::target::image;

/// What is to be attested.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Attestations {
    pub(crate) provenance: Option<Provenance>,
    pub(crate) sbom: Option<Sbom>,
}

/// The attestations; `--provenance` and `--sbom` are short for `--attest type=…` and win.
pub(crate) fn attestations(
    attest: &[String],
    provenance: Option<&str>,
    sbom: Option<&str>,
) -> Result<Attestations, String> {
    let mut all = Attestations::default();
    for text in attest {
        let fields = pairs(text)?;
        let kind = fields.iter().find(|(key, _)| key == "type");
        match kind.and_then(|(_, value)| value.as_deref()) {
            Some("provenance") => all.provenance = provenance_of("attest", &fields)?,
            Some("sbom") => all.sbom = sbom_of("attest", &fields)?,
            Some(other) => return Err(unknown("attest", "type", other, &["provenance", "sbom"])),
            None => {
                return Err(format!(
                    "invalid --attest `{text}`: expected type=provenance or type=sbom"
                ));
            }
        }
    }
    if let Some(text) = provenance {
        all.provenance = provenance_of("provenance", &short(text)?)?;
    }
    if let Some(text) = sbom {
        all.sbom = sbom_of("sbom", &short(text)?)?;
    }
    Ok(all)
}

/// `true` and `false` alone switch on and off.
fn short(text: &str) -> Result<Vec<(String, Option<String>)>, String> {
    match boolean("", "", Some(text)) {
        Ok(on) => Ok(vec![("disabled".to_owned(), Some((!on).to_string()))]),
        Err(_) => pairs(text),
    }
}

fn provenance_of(flag: &str, fields: &[(String, Option<String>)]) -> Result<Option<Provenance>, String> {
    const KEYS: [&str; 7] = [
        "mode",
        "builder-id",
        "reproducible",
        "version",
        "inline-only",
        "disabled",
        "type",
    ];
    let mut provenance = Provenance::default();
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "disabled" if boolean(flag, key, value.as_deref())? => return Ok(None),
            "disabled" => {}
            "mode" => {
                provenance.mode = match value.as_deref() {
                    Some("min") => ProvenanceMode::Min,
                    Some("max") => ProvenanceMode::Max,
                    other => return Err(unknown(flag, "mode", other.unwrap_or_default(), &["min", "max"])),
                }
            }
            "builder-id" => provenance.builder_id = Some(required(flag, key, value.clone())?),
            "reproducible" => provenance.reproducible = boolean(flag, key, value.as_deref())?,
            "version" if value.as_deref() == Some("v1") => {}
            "version" => return Err(format!("invalid --{flag}: only version=v1 is available")),
            "inline-only" => {
                boolean(flag, key, value.as_deref())?;
            }
            other => return Err(unknown(flag, "key", other, &KEYS)),
        }
    }
    Ok(Some(provenance))
}

fn sbom_of(flag: &str, fields: &[(String, Option<String>)]) -> Result<Option<Sbom>, String> {
    let mut sbom = Sbom::default();
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "disabled" if boolean(flag, key, value.as_deref())? => return Ok(None),
            "disabled" => {}
            "generator" => {
                let name = required(flag, key, value.clone())?;
                let parsed =
                    image(&name).map_err(|error| format!("invalid --{flag} generator `{name}`: {error}"))?;
                sbom.generator = Some(parsed);
            }
            other => return Err(unknown(flag, "key", other, &["generator", "disabled", "type"])),
        }
    }
    Ok(Some(sbom))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let read = |attest: &[&str], provenance: Option<&str>, sbom: Option<&str>| {
            let attest: Vec<String> = attest.iter().map(ToString::to_string).collect();
            attestations(&attest, provenance, sbom)
        };
        let max = Provenance {
            mode: ProvenanceMode::Max,
            ..Provenance::default()
        };
        assert_eq!(read(&[], None, None), Ok(Attestations::default()));
        assert_eq!(
            read(&["type=provenance,mode=max"], None, None)
                .unwrap()
                .provenance,
            Some(max.clone())
        );
        assert_eq!(read(&[], Some("mode=max"), None).unwrap().provenance, Some(max));
        assert_eq!(
            read(&["type=provenance"], Some("false"), None)
                .unwrap()
                .provenance,
            None
        );
        assert_eq!(
            read(&[], Some("true"), None).unwrap().provenance,
            Some(Provenance::default())
        );
        assert_eq!(read(&[], None, Some("true")).unwrap().sbom, Some(Sbom::default()));
        let generator = read(&[], None, Some("generator=scan"))
            .unwrap()
            .sbom
            .unwrap()
            .generator;
        assert_eq!(generator.unwrap().to_string(), "docker.io/library/scan:latest");
        for wrong in [
            "mode=max",
            "type=vex",
            "type=provenance,mod=max",
            "type=sbom,generator=",
        ] {
            assert!(read(&[wrong], None, None).is_err(), "{wrong}");
        }
    }
}
