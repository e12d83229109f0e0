//! `version`.

use cooper_daemon::api::{API_VERSION, Version};
use serde_json::json;

use super::print;
use crate::args::system::FormatArgs;
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::template;

/// `version`. Without an engine, the client's part is still printed.
pub(super) async fn run(client: &Client, args: &FormatArgs) -> Result {
    let engine = client.get::<Version>("/version").await;
    let own = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "Os": "linux",
        "Arch": architecture(),
    });
    match args.format.as_deref() {
        None => {
            let mut text = format!(
                "Client: Cooper\n Version:           {}\n API version:       {API_VERSION}\n OS/Arch:           linux/{}\n",
                env!("CARGO_PKG_VERSION"),
                architecture()
            );
            if let Ok(server) = &engine {
                text.push_str(&describe(server));
            }
            print::data(&text)?;
        }
        Some(format) => {
            let server = match &engine {
                Ok(server) => serde_json::to_value(server)?,
                Err(_) => serde_json::Value::Null,
            };
            let value = json!({"Client": own, "Server": server});
            if format == "json" {
                print::line(&value.to_string())?;
            } else {
                let parsed = template::parse(format).map_err(Failure::new)?;
                print::line(&parsed.render(&value).map_err(Failure::new)?)?;
            }
        }
    }
    engine.map(drop).map_err(Failure::from)
}

fn describe(server: &Version) -> String {
    let name = if server.platform.name.is_empty() {
        "Engine"
    } else {
        &server.platform.name
    };
    let mut text = format!(
        "\nServer: {name}\n Engine:\n  Version:          {}\n  API version:      {} (minimum version {})\n  OS/Arch:          {}/{}\n  Kernel version:   {}\n",
        server.version,
        server.api_version,
        server.min_api_version,
        server.os,
        server.arch,
        server.kernel_version
    );
    for component in server
        .components
        .iter()
        .filter(|component| component.name != "Engine")
    {
        text.push_str(&format!(
            " {}:\n  Version:          {}\n",
            component.name, component.version
        ));
    }
    text
}

/// Go's name of this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
