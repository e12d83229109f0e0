//! `--secret id=ID[,src=FILE|,env=NAME][,type=file|env]`, with buildx's defaults.

use std::path::PathBuf;

use super::csv::{pairs, required, unknown};

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    File(PathBuf),
    Variable(String),
}

/// The secrets by id, in order. `has` says whether an environment variable exists.
pub(crate) fn secrets(
    flags: &[String],
    has: &dyn Fn(&str) -> bool,
) -> Result<Vec<(String, SecretSource)>, String> {
    flags.iter().map(|flag| secret(flag, has)).collect()
}

fn secret(text: &str, has: &dyn Fn(&str) -> bool) -> Result<(String, SecretSource), String> {
    let (mut id, mut file, mut variable, mut from_env) = (None, None, None, false);
    for (key, value) in pairs(text)? {
        match key.as_str() {
            "id" => id = Some(required("secret", "id", value)?),
            "src" | "source" => file = Some(required("secret", &key, value)?),
            "env" => variable = Some(required("secret", "env", value)?),
            "type" => match value.as_deref() {
                Some("file") => from_env = false,
                Some("env") => from_env = true,
                other => {
                    let given = other.unwrap_or_default();
                    return Err(unknown("secret", "type", given, &["file", "env"]));
                }
            },
            other => {
                return Err(unknown(
                    "secret",
                    "key",
                    other,
                    &["id", "src", "source", "env", "type"],
                ));
            }
        }
    }
    let Some(id) = id else {
        return Err(format!("invalid --secret `{text}`: id is missing"));
    };
    if from_env && variable.is_none() {
        variable = file.take();
    }
    let source = match (variable, file) {
        (Some(variable), _) => SecretSource::Variable(variable),
        (None, Some(file)) => SecretSource::File(file.into()),
        // The id names a variable if there is one, else a file.
        (None, None) if from_env || has(&id) => SecretSource::Variable(id.clone()),
        (None, None) => SecretSource::File(id.clone().into()),
    };
    Ok((id, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let check = |text: &str, expected: Option<(&str, &str)>| {
            let has = |name: &str| name == "SET";
            let got = secret(text, &has).ok().map(|(id, source)| {
                let source = match source {
                    SecretSource::File(path) => format!("file {}", path.display()),
                    SecretSource::Variable(name) => format!("env {name}"),
                };
                (id, source)
            });
            let got = got.as_ref().map(|(id, source)| (id.as_str(), source.as_str()));
            assert_eq!(got, expected, "{text}");
        };
        check("id=a,src=/f", Some(("a", "file /f")));
        check("id=a,source=f", Some(("a", "file f")));
        check("id=a,env=X", Some(("a", "env X")));
        check("type=env,id=a,src=X", Some(("a", "env X")));
        check("type=env,id=a", Some(("a", "env a")));
        check("type=file,id=a,src=f", Some(("a", "file f")));
        check("id=SET", Some(("SET", "env SET")));
        check("id=notset", Some(("notset", "file notset")));
        check("\"id=a,b\",src=f", Some(("a,b", "file f")));
        for wrong in ["src=f", "id=", "id=a,typ=env", "type=vault,id=a", "a"] {
            check(wrong, None);
        }
        assert!(
            secret("id=a,scr=f", &|_| false)
                .unwrap_err()
                .contains("did you mean `src`")
        );
    }
}
