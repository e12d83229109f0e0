//! The options of RUN's mounts that an outline shows.

use crate::dockerfile::Word;

/// A mount that needs something from outside of the build.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Secret { id: String, required: bool },
    Ssh { id: String, required: bool },
    Cache { id: String },
}

/// What a `--mount` needs; none for mounts that need nothing, or that the planner will refuse.
pub(super) fn need(mount: &Word) -> Option<Need> {
    let mut options: Vec<(String, Option<&str>)> = Vec::new();
    for part in mount.text.split(',') {
        let (name, value) = part
            .split_once('=')
            .map_or((part, None), |(name, value)| (name, Some(value)));
        options.push((name.trim().to_lowercase(), value));
    }
    let value = |names: &[&str]| {
        let found = options
            .iter()
            .rev()
            .find(|(name, _)| names.contains(&name.as_str()));
        found
            .and_then(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    };
    let target = value(&["target", "dst", "destination"]);
    let required = options.iter().any(|(name, value)| {
        name == "required"
            && value.is_none_or(|value| matches!(value.to_lowercase().as_str(), "true" | "1" | "t"))
    });
    let base = |path: &str| {
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(path)
            .to_owned()
    };
    match value(&["type"])? {
        "secret" => {
            let id = value(&["id"]).map(str::to_owned);
            let env = || value(&["env"]).map(str::to_owned);
            let id = id.or_else(|| target.map(base)).or_else(env)?;
            Some(Need::Secret { id, required })
        }
        "ssh" => Some(Need::Ssh {
            id: value(&["id"]).unwrap_or("default").to_owned(),
            required,
        }),
        "cache" => Some(Need::Cache {
            id: value(&["id"]).or(target)?.to_owned(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::Span;

    #[test]
    fn needs() {
        let check = |text: &str, expected: Option<Need>| {
            let word = Word {
                text: text.to_owned(),
                span: Span::FILE,
            };
            assert_eq!(need(&word), expected, "{text}");
        };
        let secret = |id: &str, required| {
            Some(Need::Secret {
                id: id.to_owned(),
                required,
            })
        };
        check("type=secret,id=a", secret("a", false));
        check("type=secret,target=/run/x/b,required", secret("b", true));
        check("type=secret,env=TOKEN,required=false", secret("TOKEN", false));
        check("type=secret", None);
        check(
            "type=ssh,required=true",
            Some(Need::Ssh {
                id: "default".to_owned(),
                required: true,
            }),
        );
        check("type=cache,target=/c", Some(Need::Cache { id: "/c".to_owned() }));
        check("target=/c", None);
    }
}
