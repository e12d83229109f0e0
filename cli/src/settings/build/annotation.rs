//! `--annotation [PLACE[,PLACE…][PLATFORM]:]KEY=VALUE`.

use cooper_daemon::build::{Annotation, AnnotationPlace, Platform};

use super::csv::unknown;

const PLACES: [(&str, AnnotationPlace); 4] = [
    ("manifest", AnnotationPlace::Manifest),
    ("manifest-descriptor", AnnotationPlace::ManifestDescriptor),
    ("index", AnnotationPlace::Index),
    ("index-descriptor", AnnotationPlace::IndexDescriptor),
];

/// The annotations, one for each place that a flag names; without one it is the manifest.
pub(crate) fn annotations(flags: &[String]) -> Result<Vec<Annotation>, String> {
    let mut all = Vec::new();
    for flag in flags {
        let wrong = |why: &str| format!("invalid --annotation `{flag}`: {why}");
        let (key, value) = flag
            .split_once('=')
            .ok_or_else(|| wrong("expected [PLACE:]KEY=VALUE"))?;
        let (places, key) = match split(key) {
            Some((places, key)) => (places, key),
            None => ("manifest", key),
        };
        if key.trim().is_empty() {
            return Err(wrong("the key is empty"));
        }
        for place in places.split(',') {
            let (place, platform) = place_of(place).map_err(|error| format!("{error} in `{flag}`"))?;
            all.push(Annotation {
                place,
                platform,
                key: key.to_owned(),
                value: value.to_owned(),
            });
        }
    }
    Ok(all)
}

/// Splits off the places: before a colon, with nothing in them that keys have and places have not.
fn split(key: &str) -> Option<(&str, &str)> {
    let (places, key) = key.split_once(':')?;
    let place = |byte: u8| byte.is_ascii_alphanumeric() || b"-,[]/_".contains(&byte);
    places.bytes().all(place).then_some((places, key))
}

fn place_of(text: &str) -> Result<(AnnotationPlace, Option<Platform>), String> {
    let (name, platform) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, platform)) => (
            name,
            Some(platform.parse::<Platform>().map_err(|error| error.to_string())?),
        ),
        None => (text, None),
    };
    let found = PLACES.iter().find(|(known, _)| *known == name);
    let Some((_, place)) = found else {
        return Err(unknown(
            "annotation",
            "place",
            name,
            &PLACES.map(|(name, _)| name),
        ));
    };
    let of_manifests = matches!(
        place,
        AnnotationPlace::Manifest | AnnotationPlace::ManifestDescriptor
    );
    if platform.is_some() && !of_manifests {
        return Err(format!("invalid --annotation: {name} has no platform"));
    }
    Ok((*place, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let check = |flag: &str, expected: Option<&[&str]>| {
            let got = annotations(&[flag.to_owned()]).ok().map(|all| {
                let show = |one: &Annotation| {
                    let platform = one
                        .platform
                        .as_ref()
                        .map_or("*", |platform| &platform.architecture);
                    format!("{:?} {platform} {}={}", one.place, one.key, one.value)
                };
                all.iter().map(show).collect::<Vec<_>>()
            });
            let expected = expected.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(got, expected, "{flag}");
        };
        check("a.b=c=d", Some(&["Manifest * a.b=c=d"]));
        check("index:k=v", Some(&["Index * k=v"]));
        check(
            "index,manifest[linux/arm64]:k=v",
            Some(&["Index * k=v", "Manifest arm64 k=v"]),
        );
        check("org.example:k=v", Some(&["Manifest * org.example:k=v"]));
        check("indx:k=v", None);
        check("index[linux/amd64]:k=v", None);
        check("manifest[a/b/c/d]:k=v", None);
        check("novalue", None);
        check("index:=v", None);
    }
}
