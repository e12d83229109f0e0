//! `--annotation`: which document gets which.

use std::collections::BTreeMap;

use cooper_registry::oci::Platform;

use crate::build::{Annotation, AnnotationPlace};

/// The annotations of one document: those for `place`, and for `platform` where they are for one only.
pub(super) fn annotations(
    all: &[Annotation],
    place: AnnotationPlace,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let fits = |annotation: &&Annotation| {
        annotation.place == place
            && match (&annotation.platform, platform) {
                (None, _) => true,
                (Some(wanted), Some(platform)) => same(wanted, platform),
                (Some(_), None) => false,
            }
    };
    let chosen = all.iter().filter(fits);
    chosen
        .map(|annotation| (annotation.key.clone(), annotation.value.clone()))
        .collect()
}

/// Whether two platforms are one; the variants that are a CPU's default count as none.
pub(super) fn same(a: &Platform, b: &Platform) -> bool {
    let variant = |platform: &Platform| {
        let variant = platform.variant.clone().unwrap_or_default();
        match (platform.architecture.as_str(), variant.as_str()) {
            ("arm64", "v8") | ("amd64", "v1") | ("arm", "v7") => String::new(),
            _ => variant,
        }
    };
    a.os == b.os && a.architecture == b.architecture && variant(a) == variant(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_platforms() {
        let platform = |architecture: &str, variant: Option<&str>| Platform {
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
            ..Platform::host()
        };
        let annotation = |place, platform, key: &str| Annotation {
            place,
            platform,
            key: key.to_owned(),
            value: "v".to_owned(),
        };
        let all = [
            annotation(AnnotationPlace::Manifest, None, "all"),
            annotation(AnnotationPlace::Manifest, Some(platform("arm64", None)), "arm"),
            annotation(AnnotationPlace::Index, None, "index"),
        ];
        let keys = |place, platform: Option<&Platform>| {
            annotations(&all, place, platform)
                .into_keys()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            keys(AnnotationPlace::Manifest, Some(&platform("amd64", None))),
            "all"
        );
        assert_eq!(
            keys(AnnotationPlace::Manifest, Some(&platform("arm64", Some("v8")))),
            "all arm"
        );
        assert_eq!(keys(AnnotationPlace::Manifest, None), "all");
        assert_eq!(keys(AnnotationPlace::Index, None), "index");
        assert_eq!(keys(AnnotationPlace::IndexDescriptor, None), "");
    }
}
