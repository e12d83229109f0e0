//! `info`.

use cooper_daemon::api::Info;

use super::{inspect, print};
use crate::args::system::FormatArgs;
use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::{human, template};

/// `info`.
pub(super) async fn run(client: &Client, args: &FormatArgs) -> Result {
    let info: Info = client.get("/info").await?;
    match args.format.as_deref() {
        None => print::data(&describe(&info)),
        Some("json") => print::line(&inspect::pretty(&info)?),
        Some(format) => {
            let parsed = template::parse(format).map_err(Failure::new)?;
            print::line(
                &parsed
                    .render(&serde_json::to_value(&info)?)
                    .map_err(Failure::new)?,
            )
        }
    }
}

fn describe(info: &Info) -> String {
    let memory = human::binary_size(u64::try_from(info.mem_total).unwrap_or(0));
    let lines = [
        ("Containers", info.containers.to_string()),
        (" Running", info.containers_running.to_string()),
        (" Paused", info.containers_paused.to_string()),
        (" Stopped", info.containers_stopped.to_string()),
        ("Images", info.images.to_string()),
        ("Server Version", info.server_version.clone()),
        ("Storage Driver", info.driver.clone()),
        ("Logging Driver", info.logging_driver.clone()),
        ("Cgroup Driver", info.cgroup_driver.clone()),
        ("Cgroup Version", info.cgroup_version.clone()),
        ("Kernel Version", info.kernel_version.clone()),
        ("Operating System", info.operating_system.clone()),
        ("OSType", info.os_type.clone()),
        ("Architecture", info.architecture.clone()),
        ("CPUs", info.ncpu.to_string()),
        ("Total Memory", memory),
        ("Name", info.name.clone()),
        ("ID", info.id.clone()),
        ("Docker Root Dir", info.docker_root_dir.clone()),
    ];
    let mut text: String = lines
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    text.push_str("Security Options:\n");
    text.extend(info.security_options.iter().map(|option| format!(" {option}\n")));
    text.extend(
        info.warnings
            .iter()
            .flatten()
            .map(|warning| format!("WARNING: {warning}\n")),
    );
    text
}
