//! What the store needs to know of a manifest. Parsing only, no IO.

use serde::Deserialize;

use super::error::{Error, Result};
use crate::digest::Digest;
use crate::oci::{Descriptor, media_type};

/// Image or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    Index,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Index => "index",
        }
    }
}

/// How a manifest names something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Config,
    Layer,
    Child,
}

impl Role {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Child => "child",
        }
    }
}

/// The fields of a manifest that concern the store.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) kind: Kind,
    pub(super) edges: Vec<(Role, Digest)>,
    pub(super) subject: Option<Digest>,
    /// The config, when it is that of a runnable image.
    pub(super) image_config: Option<Descriptor>,
    /// As the referrers list shows it.
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loose {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// Whether a media type is that of an index or list.
pub(super) fn is_index(media_type: &str) -> bool {
    media_type == media_type::OCI_INDEX || media_type == media_type::DOCKER_LIST
}

/// Reads `bytes` as what `media_type` says.
pub(super) fn parse(media_type: &str, bytes: &[u8]) -> Result<Parsed> {
    let fail = |reason: String| Error::InvalidManifest(reason);
    let loose: Loose = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    if loose.schema_version.is_some_and(|version| version != 2) {
        return Err(fail("schemaVersion must be 2".into()));
    }
    if let Some(inner) = loose
        .media_type
        .as_deref()
        .filter(|inner| !inner.is_empty() && *inner != media_type)
    {
        return Err(fail(format!(
            "media type {media_type} contradicts mediaType {inner}"
        )));
    }
    let kind = match (&loose.manifests, &loose.config) {
        (Some(_), None) => Kind::Index,
        (None, Some(_)) if !is_index(media_type) => Kind::Image,
        (None, None) if is_index(media_type) => Kind::Index,
        _ => return Err(fail("expected either config and layers or manifests".into())),
    };
    if kind == Kind::Index && !is_index(media_type) && media_type != "application/json" {
        return Err(fail(format!("media type {media_type} is not that of an index")));
    }
    let mut edges = Vec::new();
    edges.extend(
        loose
            .config
            .iter()
            .map(|config| (Role::Config, config.digest.clone())),
    );
    edges.extend(
        loose
            .layers
            .iter()
            .flatten()
            .map(|layer| (Role::Layer, layer.digest.clone())),
    );
    edges.extend(
        loose
            .manifests
            .iter()
            .flatten()
            .map(|child| (Role::Child, child.digest.clone())),
    );
    let non_empty = |text: Option<String>| text.filter(|text| !text.is_empty());
    // distribution-spec, "Listing Referrers": an image falls back to its config's media type, an index to nothing.
    let artifact_type = non_empty(loose.artifact_type).or_else(|| {
        loose
            .config
            .as_ref()
            .and_then(|config| non_empty(Some(config.media_type.clone())))
    });
    let runnable = |config: &Descriptor| {
        matches!(
            config.media_type.as_str(),
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG
        )
    };
    Ok(Parsed {
        kind,
        edges,
        subject: loose.subject.map(|subject| subject.digest),
        image_config: loose.config.filter(runnable),
        artifact_type,
        annotations: loose.annotations.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,
        "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    fn check(media_type: &str, body: &str, expected: Result<(Kind, Option<&str>), ()>) {
        let got = parse(media_type, body.as_bytes());
        let got = got
            .as_ref()
            .map(|p| (p.kind, p.artifact_type.as_deref()))
            .map_err(|_| ());
        assert_eq!(got, expected, "{media_type} {body}");
    }

    #[test]
    fn kinds_and_artifact_types() {
        let (image, index) = (media_type::OCI_MANIFEST, media_type::OCI_INDEX);
        let plain = format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":null}}"#);
        check(image, &plain, Ok((Kind::Image, Some(media_type::OCI_CONFIG))));
        check(
            image,
            &plain.replace("\"layers\"", "\"artifactType\":\"a/b\",\"layers\""),
            Ok((Kind::Image, Some("a/b"))),
        );
        check(index, &plain, Err(()));
        check(
            index,
            r#"{"schemaVersion":2,"manifests":[]}"#,
            Ok((Kind::Index, None)),
        );
        check(
            index,
            r#"{"schemaVersion":2,"manifests":[],"artifactType":"x"}"#,
            Ok((Kind::Index, Some("x"))),
        );
        check(
            index,
            r#"{"schemaVersion":2,"manifests":[],"artifactType":""}"#,
            Ok((Kind::Index, None)),
        );
        check(image, r#"{"schemaVersion":2,"manifests":[]}"#, Err(()));
        check(image, r#"{"schemaVersion":1}"#, Err(()));
        check(image, r#"{"schemaVersion":2,"mediaType":"x/y"}"#, Err(()));
        check(image, "[]", Err(()));
        check(image, "", Err(()));
    }
}
