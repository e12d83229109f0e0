//! `history`.

use cooper_daemon::api::HistoryItem;
use serde_json::Value;

use super::print;
use crate::args::image::HistoryArgs;
use crate::client::{Client, escape};
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};

const COLUMNS: &[Column] = &[
    Column {
        field: "ID",
        heading: "IMAGE",
    },
    Column {
        field: "CreatedSince",
        heading: "CREATED",
    },
    Column {
        field: "CreatedAt",
        heading: "CREATED AT",
    },
    Column {
        field: "CreatedBy",
        heading: "CREATED BY",
    },
    Column {
        field: "Size",
        heading: "SIZE",
    },
    Column {
        field: "Comment",
        heading: "COMMENT",
    },
];

/// `history`.
pub(super) async fn run(client: &Client, args: &HistoryArgs) -> Result {
    let items: Vec<HistoryItem> = client
        .get(&format!("/images/{}/history", escape(&args.image)))
        .await?;
    let now = jiff::Timestamp::now().as_second();
    let rows: Vec<Row> = items
        .iter()
        .map(|item| row(item, args.no_trunc, args.human, now))
        .collect();
    if args.quiet && args.format.is_none() {
        let ids: String = rows
            .iter()
            .filter_map(|row| Some(format!("{}\n", row.get("ID")?.as_str()?)))
            .collect();
        return print::data(&ids);
    }
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let columns = ["ID", created, "CreatedBy", "Size", "Comment"];
    print::data(&list::render(args.format.as_deref(), &columns, COLUMNS, &rows).map_err(Failure::new)?)
}

fn row(item: &HistoryItem, no_trunc: bool, for_people: bool, now: i64) -> Row {
    let created_by = item.created_by.replace('\t', " ");
    let created_by = if no_trunc {
        created_by
    } else {
        human::ellipsis(&created_by, 45)
    };
    let id = if no_trunc {
        item.id.as_str()
    } else {
        human::short_id(&item.id)
    };
    let bytes = u64::try_from(item.size).unwrap_or(0);
    let since = if item.created <= 0 {
        "N/A".to_owned()
    } else {
        human::ago(item.created, now)
    };
    Row::from([
        ("ID", Value::from(id)),
        ("CreatedSince", Value::from(since)),
        ("CreatedAt", Value::from(human::rfc3339(item.created))),
        ("CreatedBy", Value::from(created_by)),
        (
            "Size",
            Value::from(if for_people {
                human::short_size(bytes)
            } else {
                bytes.to_string()
            }),
        ),
        ("Comment", Value::from(item.comment.as_str())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let item = HistoryItem {
            created: 1000,
            created_by: "/bin/sh -c apt-get update &&\tapt-get install -y gcc".to_owned(),
            id: "<missing>".to_owned(),
            size: 1_984_000,
            ..HistoryItem::default()
        };
        let row = row(&item, false, true, 1120);
        assert_eq!(row["ID"], "<missing>");
        assert_eq!(row["CreatedSince"], "2 minutes ago");
        assert_eq!(row["CreatedBy"], "/bin/sh -c apt-get update && apt-get install…");
        assert_eq!(row["Size"], "1.98MB");
    }
}
