//! `--tag` and `--target`.

use cooper_daemon::build::{ImageRef, Target};

/// An image's name, with the tag `latest` where none is written.
pub(crate) fn image(name: &str) -> Result<ImageRef, String> {
    let mut name: ImageRef = name.parse().map_err(|error| format!("{error}"))?;
    name.tag = name.tag_or_latest();
    Ok(name)
}

/// What to build: each `--target` is `STAGE` or `STAGE=NAME`. `--tag` names the only target.
pub(crate) fn targets(tags: &[String], flags: &[String]) -> Result<Vec<Target>, String> {
    let mut all: Vec<Target> = Vec::new();
    for flag in flags {
        let (stage, name) = match flag.split_once('=') {
            Some((stage, name)) => (stage, Some(name)),
            None => (flag.as_str(), None),
        };
        let name =
            name.map(|name| image(name).map_err(|error| format!("invalid --target `{flag}`: {error}")));
        let name = name.transpose()?;
        let stage = Some(stage.to_owned()).filter(|stage| !stage.is_empty());
        match all.iter_mut().find(|target| target.stage == stage) {
            Some(target) => target.names.extend(name),
            None => all.push(Target {
                stage,
                names: name.into_iter().collect(),
            }),
        }
    }
    if all.is_empty() {
        all.push(Target::default());
    }
    let names = tags
        .iter()
        .map(|tag| image(tag).map_err(|error| format!("invalid --tag `{tag}`: {error}")))
        .collect::<Result<Vec<_>, _>>()?;
    match all.as_mut_slice() {
        [only] => only.names.extend(names),
        _ if names.is_empty() => {}
        [first, ..] => {
            let stage = first.stage.as_deref().unwrap_or_default();
            return Err(format!(
                "--tag with several targets: name each of them with --target {stage}=NAME"
            ));
        }
        [] => {}
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several() {
        let check = |tags: &[&str], flags: &[&str], expected: Option<&str>| {
            let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
            let got = targets(&owned(tags), &owned(flags)).ok().map(|all| {
                let show = |target: &Target| {
                    let names: Vec<_> = target.names.iter().map(ImageRef::familiar).collect();
                    format!("{}:{}", target.stage.as_deref().unwrap_or("-"), names.join(","))
                };
                all.iter().map(show).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(got.as_deref(), expected, "{tags:?} {flags:?}");
        };
        check(&[], &[], Some("-:"));
        check(&["a", "b:1"], &["s"], Some("s:a:latest,b:1"));
        check(&["c"], &["s=a"], Some("s:a:latest,c:latest"));
        check(&[], &["s", "t=b"], Some("s: t:b:latest"));
        check(&[], &["s=a", "s=b"], Some("s:a:latest,b:latest"));
        check(&["a"], &["s", "t"], None);
        check(&["A"], &[], None);
        check(&[], &["s=A"], None);
    }
}
