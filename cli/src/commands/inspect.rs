//! `inspect`.

use serde_json::Value;

use super::print;
use crate::args::system::{InspectArgs, ObjectType};
use crate::client::{Client, ClientError, escape};
use crate::failure::{FAILURE, Failure, Result};
use crate::output::template;

/// `inspect`.
pub(super) async fn run(client: &Client, args: &InspectArgs, kind: Option<ObjectType>) -> Result {
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match find(client, name, kind, args.size).await {
            Ok(value) => found.push(value),
            Err(error) if error.is_not_found() => failures.push(not_found(name, kind)),
            Err(error) => return Err(error.into()),
        }
    }
    match args.format.as_deref() {
        None => print::line(&pretty(&found)?)?,
        Some("json") => print::line(&Value::Array(found).to_string())?,
        Some(format) => {
            let template = template::parse(format).map_err(Failure::new)?;
            for value in &found {
                print::line(&template.render(value).map_err(Failure::new)?)?;
            }
        }
    }
    for failure in &failures {
        print::talk(failure);
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::Exit(FAILURE))
    }
}

async fn find(
    client: &Client,
    name: &str,
    kind: Option<ObjectType>,
    size: bool,
) -> std::result::Result<Value, ClientError> {
    let size = if size { "?size=1" } else { "" };
    let container = format!("/containers/{}/json{size}", escape(name));
    let image = format!("/images/{}/json", escape(name));
    match kind {
        Some(ObjectType::Container) => client.get_value(&container).await,
        Some(ObjectType::Image) => client.get_value(&image).await,
        None => match client.get_value(&container).await {
            Err(error) if error.is_not_found() => client.get_value(&image).await,
            other => other,
        },
    }
}

fn not_found(name: &str, kind: Option<ObjectType>) -> String {
    let what = match kind {
        Some(ObjectType::Container) => "container",
        Some(ObjectType::Image) => "image",
        None => "object",
    };
    format!("cooper: no such {what}: {name}")
}

/// JSON indented by four, as docker prints it.
pub(super) fn pretty(value: &impl serde::Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    String::from_utf8(bytes).map_err(|error| Failure::new(error.to_string()))
}
