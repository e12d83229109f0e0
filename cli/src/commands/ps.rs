//! `ps`.

use cooper_daemon::api::{ContainerSummary, MountPoint};
use serde_json::Value;

use super::print;
use crate::args::container::PsArgs;
use crate::client::{Client, query};
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};
use crate::settings::filters;

/// Fields of docker's container formatter.
pub(super) const COLUMNS: &[Column] = &[
    Column {
        field: "ID",
        heading: "CONTAINER ID",
    },
    Column {
        field: "Image",
        heading: "IMAGE",
    },
    Column {
        field: "Command",
        heading: "COMMAND",
    },
    Column {
        field: "CreatedAt",
        heading: "CREATED AT",
    },
    Column {
        field: "RunningFor",
        heading: "CREATED",
    },
    Column {
        field: "Ports",
        heading: "PORTS",
    },
    Column {
        field: "State",
        heading: "STATE",
    },
    Column {
        field: "Status",
        heading: "STATUS",
    },
    Column {
        field: "Size",
        heading: "SIZE",
    },
    Column {
        field: "Names",
        heading: "NAMES",
    },
    Column {
        field: "Labels",
        heading: "LABELS",
    },
    Column {
        field: "Mounts",
        heading: "MOUNTS",
    },
    Column {
        field: "LocalVolumes",
        heading: "LOCAL VOLUMES",
    },
    Column {
        field: "Networks",
        heading: "NETWORKS",
    },
];

/// `ps`.
pub(super) async fn run(client: &Client, args: &PsArgs) -> Result {
    let limit = if args.latest {
        Some(1)
    } else {
        args.last.filter(|last| *last >= 0)
    }
    .map(|limit| limit.to_string());
    let wants_size = args.size
        || args
            .format
            .as_deref()
            .is_some_and(|format| format.contains(".Size"));
    let filters = filters::encode(&args.filter).map_err(Failure::new)?;
    let mut pairs = Vec::new();
    if args.all {
        pairs.push(("all", "1"));
    }
    if wants_size {
        pairs.push(("size", "1"));
    }
    pairs.extend(limit.as_deref().map(|limit| ("limit", limit)));
    pairs.extend(filters.as_deref().map(|filters| ("filters", filters)));
    let containers: Vec<ContainerSummary> = client.get(&query("/containers/json", &pairs)).await?;
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<Row> = containers
        .iter()
        .map(|container| row(container, args.no_trunc, now))
        .collect();
    if args.quiet && args.format.is_none() {
        let ids: String = rows
            .iter()
            .filter_map(|row| Some(format!("{}\n", row.get("ID")?.as_str()?)))
            .collect();
        return print::data(&ids);
    }
    let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if args.size {
        columns.push("Size");
    }
    print::data(&list::render(args.format.as_deref(), &columns, COLUMNS, &rows).map_err(Failure::new)?)
}

/// The fields of docker's container formatter.
pub(super) fn row(container: &ContainerSummary, no_trunc: bool, now: i64) -> Row {
    let id = if no_trunc {
        container.id.as_str()
    } else {
        human::short_id(&container.id)
    };
    let image = match container.image.as_str() {
        "" => "<no image>",
        image if no_trunc => image,
        image if human::short_id(image) == human::short_id(&container.image_id) => human::short_id(image),
        image => image,
    };
    let command = if no_trunc {
        container.command.clone()
    } else {
        human::ellipsis(&container.command, 20)
    };
    let mounts: Vec<String> = container
        .mounts
        .iter()
        .map(|mount| mount_name(mount, no_trunc))
        .collect();
    let labels: Vec<String> = container
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let networks: Vec<&str> = container
        .network_settings
        .networks
        .keys()
        .map(String::as_str)
        .collect();
    let names: Vec<&str> = container
        .names
        .iter()
        .map(|name| name.trim_start_matches('/'))
        .collect();
    let local = container
        .mounts
        .iter()
        .filter(|mount| mount.driver == "local")
        .count();
    Row::from([
        ("ID", Value::from(id)),
        ("Image", Value::from(image)),
        ("Command", Value::from(human::quote(&command))),
        ("CreatedAt", Value::from(human::timestamp(container.created))),
        ("RunningFor", Value::from(human::ago(container.created, now))),
        ("Ports", Value::from(ports(&container.ports))),
        ("State", Value::from(container.state.as_str())),
        ("Status", Value::from(container.status.as_str())),
        ("Size", Value::from(size(container))),
        ("Names", Value::from(names.join(","))),
        ("Labels", Value::from(labels.join(","))),
        ("Mounts", Value::from(mounts.join(","))),
        ("LocalVolumes", Value::from(local.to_string())),
        ("Networks", Value::from(networks.join(","))),
        ("Platform", Value::Null),
    ])
}

fn size(container: &ContainerSummary) -> String {
    let bytes = |size: Option<i64>| u64::try_from(size.unwrap_or(0)).unwrap_or(0);
    let own = human::short_size(bytes(container.size_rw));
    match bytes(container.size_root_fs) {
        0 => own,
        all => format!("{own} (virtual {})", human::short_size(all)),
    }
}

fn mount_name(mount: &MountPoint, no_trunc: bool) -> String {
    let name = if mount.name.is_empty() {
        &mount.source
    } else {
        &mount.name
    };
    if no_trunc {
        name.clone()
    } else {
        human::ellipsis(name, 15)
    }
}

/// `0.0.0.0:80->80/tcp, 443/tcp`.
fn ports(ports: &[Value]) -> String {
    let mut texts: Vec<String> = ports
        .iter()
        .filter_map(|port| {
            let private = port.get("PrivatePort")?.as_u64()?;
            let kind = port.get("Type").and_then(Value::as_str).unwrap_or("tcp");
            Some(
                match (
                    port.get("PublicPort").and_then(Value::as_u64),
                    port.get("IP").and_then(Value::as_str),
                ) {
                    (Some(public), Some(ip)) if ip.contains(':') => {
                        format!("[{ip}]:{public}->{private}/{kind}")
                    }
                    (Some(public), ip) => format!("{}:{public}->{private}/{kind}", ip.unwrap_or("0.0.0.0")),
                    (None, _) => format!("{private}/{kind}"),
                },
            )
        })
        .collect();
    texts.sort();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn table_as_docker() {
        let container: ContainerSummary = serde_json::from_value(json!({
            "Id": "d675bb18032d7b1a53a82a196e78f4c18a0791d66653ce11bbb3e721eabbda63", "Names": ["/nice_driscoll"],
            "Image": "busybox", "ImageID": "sha256:044e", "Command": "sh -c 'echo hello; sleep 1'", "Created": 1000,
            "State": "exited", "Status": "Exited (0) 1 second ago", "SizeRw": 12, "SizeRootFs": 1_984_012,
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}],
        }))
        .unwrap();
        let rows = [row(&container, false, 1001)];
        let columns = [
            "ID",
            "Image",
            "Command",
            "RunningFor",
            "Status",
            "Ports",
            "Names",
            "Size",
        ];
        assert_eq!(
            list::render(None, &columns, COLUMNS, &rows).unwrap(),
            "CONTAINER ID   IMAGE     COMMAND                  CREATED        STATUS                    PORTS                  NAMES           SIZE\n\
             d675bb18032d   busybox   \"sh -c 'echo hello; …\"   1 second ago   Exited (0) 1 second ago   0.0.0.0:8080->80/tcp   nice_driscoll   12B (virtual 1.98MB)\n"
        );
    }
}
