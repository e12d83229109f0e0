//! Platforms as docker's command line and API write them.

use cooper_registry::oci::Platform;

/// `os/architecture[/variant]`, or one of the two alone, in containerd's normal form: `x86_64` is `amd64`, `aarch64` is
/// `arm64`, and a variant that says nothing (`arm64/v8`, `amd64/v1`) is left out.
///
/// # Errors
/// What is wrong with it, for people.
pub fn parse_platform(text: &str) -> Result<Platform, String> {
    let wrong = |why: &str| format!("invalid platform {text:?}: {why}");
    let lower = text.trim().to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('/').collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
    };
    if !parts.iter().all(word) {
        return Err(wrong("expected OS/ARCHITECTURE[/VARIANT]"));
    }
    let host = Platform::host();
    let (os, architecture, variant) = match parts[..] {
        ["linux"] => ("linux", host.architecture.as_str(), None),
        [architecture] if is_known(architecture) => ("linux", architecture, None),
        [_] => return Err(wrong("neither a known system nor a known architecture")),
        [os, architecture] => (os, architecture, None),
        [os, architecture, variant] => (os, architecture, Some(variant)),
        _ => return Err(wrong("expected OS/ARCHITECTURE[/VARIANT]")),
    };
    let (architecture, variant) = normal(architecture, variant);
    Ok(Platform {
        architecture: architecture.to_owned(),
        os: if os == "macos" { "darwin" } else { os }.to_owned(),
        os_version: None,
        variant: variant.map(str::to_owned),
    })
}

fn is_known(architecture: &str) -> bool {
    matches!(
        normal(architecture, None).0,
        "386" | "amd64" | "arm" | "arm64" | "loong64" | "mips64le" | "ppc64le" | "riscv64" | "s390x"
    )
}

fn normal<'a>(architecture: &'a str, variant: Option<&'a str>) -> (&'a str, Option<&'a str>) {
    match (architecture, variant) {
        ("i386", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|variant| *variant != "v1")),
        ("aarch64" | "arm64", variant) => {
            let variant = variant.filter(|variant| !matches!(*variant, "8" | "v8"));
            ("arm64", variant)
        }
        ("armhf", _) => ("arm", Some("v7")),
        ("armel", _) => ("arm", Some("v6")),
        ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let host = Platform::host().architecture;
        let check = |text: &str, expected: Option<&str>| {
            let got = parse_platform(text).ok().map(|platform| {
                let mut text = format!("{}/{}", platform.os, platform.architecture);
                if let Some(variant) = platform.variant {
                    text = format!("{text}/{variant}");
                }
                text
            });
            assert_eq!(got.as_deref(), expected, "{text}");
        };
        check("linux/amd64", Some("linux/amd64"));
        check("LINUX/X86_64", Some("linux/amd64"));
        check("linux/arm64/v8", Some("linux/arm64"));
        check("linux/arm", Some("linux/arm/v7"));
        check("linux/arm/v6", Some("linux/arm/v6"));
        check("linux/amd64/v3", Some("linux/amd64/v3"));
        check("arm64", Some("linux/arm64"));
        check("linux", Some(&format!("linux/{host}")));
        check("windows/amd64", Some("windows/amd64"));
        for wrong in ["", "/", "linux/", "a/b/c/d", "frob", "li nux/amd64"] {
            check(wrong, None);
        }
    }
}
