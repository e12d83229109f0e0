//! Platforms as text: parsing, normal form, comparison.

use std::fmt;
use std::str::FromStr;

use crate::oci::Platform;

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid platform {text:?}: {reason}")]
pub struct PlatformError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Architectures that `GOARCH` knows and that a lone word may name.
const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv64", "s390x", "wasm",
];
/// Systems that a lone word may name.
const SYSTEMS: [&str; 7] = [
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "wasip1",
];

impl FromStr for Platform {
    type Err = PlatformError;

    /// `os[(version)]/architecture[/variant]`, or a lone system or architecture with the host's other half; in normal
    /// form ([`Platform::normalized`]). The rules are containerd's (`platforms.Parse`, then `Normalize`).
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let invalid = |reason| PlatformError {
            text: text.to_owned(),
            reason,
        };
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let (system, version) = match parts[0].split_once('(') {
            Some((system, rest)) => match rest.strip_suffix(')') {
                Some(version) if !version.is_empty() => (system, Some(version.to_owned())),
                _ => return Err(invalid("the version of the system lacks its closing parenthesis")),
            },
            None => (parts[0], None),
        };
        if parts.len() > 3 {
            return Err(invalid("it has more than three parts"));
        }
        if !std::iter::once(&system).chain(&parts[1..]).all(valid) {
            return Err(invalid("parts are of letters, digits, '_', '-' and '.'"));
        }
        let host = Self::host();
        let lone = |os: String, architecture: String| Self {
            architecture,
            os,
            os_version: version.clone(),
            variant: None,
        };
        let platform = match parts.as_slice() {
            [_] => {
                let word = system.to_lowercase();
                let (architecture, _) = normal_architecture(&word, None);
                if SYSTEMS.contains(&word.as_str()) || word == "macos" {
                    lone(word, host.architecture)
                } else if ARCHITECTURES.contains(&architecture.as_str()) {
                    lone(host.os, word)
                } else {
                    return Err(invalid("it is no system and no architecture that is known"));
                }
            }
            // `arm/v7`: what would be a system nobody has is an architecture with its variant.
            [word, variant] if ARCHITECTURES.contains(&word.to_lowercase().as_str()) => Self {
                variant: Some((*variant).to_owned()),
                ..lone(host.os, (*word).to_owned())
            },
            [_, architecture, rest @ ..] => Self {
                variant: rest.first().map(|&variant| variant.to_owned()),
                ..lone(system.to_owned(), (*architecture).to_owned())
            },
            [] => return Err(invalid("it is empty")),
        };
        Ok(platform.normalized())
    }
}

impl fmt::Display for Platform {
    /// `linux/arm/v7`, with the version of the system in parentheses behind it if there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        if let Some(version) = self.os_version.as_deref().filter(|version| !version.is_empty()) {
            write!(f, "({version})")?;
        }
        write!(f, "/{}", self.architecture)?;
        match self.variant.as_deref() {
            None | Some("") => Ok(()),
            Some(variant) => write!(f, "/{variant}"),
        }
    }
}

impl Platform {
    /// The one spelling of a platform that has several: `x86_64` is `amd64`, `aarch64` and `arm64/v8` are `arm64`, `arm`
    /// and `armhf` are `arm/v7`; lower case.
    #[must_use]
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(
            &self.architecture.to_lowercase(),
            self.variant.as_deref().filter(|variant| !variant.is_empty()),
        );
        let os = match self.os.to_lowercase().as_str() {
            "" => Self::host().os,
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        Self {
            architecture,
            os,
            os_version: self.os_version.clone().filter(|version| !version.is_empty()),
            variant,
        }
    }

    /// Whether both have the same system and architecture, whatever their variants are.
    #[must_use]
    pub fn same_machine(&self, other: &Self) -> bool {
        let (a, b) = (self.normalized(), other.normalized());
        a.os == b.os && a.architecture == b.architecture
    }
}

fn normal_architecture(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.map(str::to_lowercase);
    let level = |variant: Option<String>| {
        variant.map(|variant| match variant.parse::<u8>() {
            Ok(number) => format!("v{number}"),
            Err(_) => variant,
        })
    };
    match architecture {
        "i386" => ("386".to_owned(), None),
        "x86_64" | "x86-64" | "amd64" => ("amd64".to_owned(), variant.filter(|variant| variant != "v1")),
        "aarch64" | "arm64" => (
            "arm64".to_owned(),
            level(variant).filter(|variant| variant != "v8" && variant != "v8.0"),
        ),
        "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
        "armel" => ("arm".to_owned(), Some("v6".to_owned())),
        "arm" => (
            "arm".to_owned(),
            Some(level(variant).unwrap_or_else(|| "v7".to_owned())),
        ),
        other => (other.to_owned(), variant),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_in_normal_form() {
        let host = Platform::host().architecture;
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/X86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("arm/v7", "linux/arm/v7"),
            ("i386", "linux/386"),
            ("aarch64", "linux/arm64"),
            ("linux", &format!("linux/{host}")),
            ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
            ("macos/arm64", "darwin/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in [
            "",
            "/",
            "linux/",
            "nosuch",
            "a/b/c/d",
            "linux/amd 64",
            "windows(1/amd64",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn machines() {
        let same = |a: &str, b: &str| a.parse::<Platform>().unwrap().same_machine(&b.parse().unwrap());
        assert!(same("linux/arm/v6", "linux/arm/v7"));
        assert!(!same("linux/arm", "linux/arm64"));
        assert!(!same("linux/amd64", "windows/amd64"));
    }
}
