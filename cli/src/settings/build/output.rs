//! `--output`, `--load` and `--push`.

use cooper_daemon::build::{Compression, ImageRef};

use super::compression;
use super::csv::{boolean, pairs, required, unknown};
use super::target::image;

const TYPES: [&str; 6] = ["image", "registry", "docker", "oci", "tar", "local"];

/// What is to become of the image, beside being in the store, where it always is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Outputs {
    pub(crate) push: bool,
    /// More names for it.
    pub(crate) names: Vec<ImageRef>,
    pub(crate) compression: Option<Compression>,
}

/// The outputs: `type=image` and `type=registry` are options of the image. Those that leave the engine as files are not
/// known here.
pub(crate) fn outputs(flags: &[String], push: bool) -> Result<Outputs, String> {
    let mut all = Outputs {
        push,
        ..Outputs::default()
    };
    for flag in flags {
        image_output(&mut all, flag)?;
    }
    Ok(all)
}

fn image_output(all: &mut Outputs, text: &str) -> Result<(), String> {
    const KEYS: [&str; 7] = [
        "type",
        "name",
        "push",
        "compression",
        "compression-level",
        "force-compression",
        "dest",
    ];
    let fields = pairs(text)?;
    let value = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.as_deref())
    };
    let unavailable = |kind: &str| {
        Err(format!(
            "--output type={kind} is not available yet: the image is in the store, where `cooper save` and `cooper \
             push` find it"
        ))
    };
    match value("type") {
        Some("registry") => all.push = true,
        Some("image") => {}
        Some("docker") if value("dest").is_none() => {}
        Some(kind @ ("docker" | "oci" | "tar" | "local")) => return unavailable(kind),
        Some(other) => return Err(unknown("output", "type", other, &TYPES)),
        // A path alone: `-` is a tar, anything else a directory.
        None => return unavailable(if text == "-" { "tar" } else { "local" }),
    }
    let (mut format, mut level, mut force) = (None, None, false);
    for (key, value) in fields {
        match key.as_str() {
            "type" => {}
            "name" => {
                for name in required("output", "name", value)?.split(',') {
                    let parsed =
                        image(name).map_err(|error| format!("invalid --output name `{name}`: {error}"))?;
                    all.names.push(parsed);
                }
            }
            "push" => all.push |= boolean("output", &key, value.as_deref())?,
            "compression" => format = Some(required("output", &key, value)?),
            "compression-level" => level = Some(required("output", &key, value)?),
            "force-compression" => force = boolean("output", &key, value.as_deref())?,
            other => return Err(unknown("output", "key", other, &KEYS)),
        }
    }
    if let Some(compression) = compression(format.as_deref(), level.as_deref(), force)? {
        all.compression = Some(compression);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let read = |text: &str| outputs(&[text.to_owned()], false);
        let image = read("type=image,\"name=a,b:1\",push=true,compression=zstd").unwrap();
        assert_eq!(
            (image.push, image.names.len(), image.compression.is_some()),
            (true, 2, true)
        );
        assert!(read("type=registry").unwrap().push);
        assert_eq!(read("type=docker"), Ok(Outputs::default()));
        assert!(outputs(&[], true).unwrap().push);
        for wrong in [
            "-",
            "out",
            "type=tar,dest=x",
            "type=imgae",
            "type=image,nam=x",
            "type=image,name=A",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
