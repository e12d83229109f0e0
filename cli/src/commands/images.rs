//! `images`.

use cooper_daemon::api::ImageSummary;
use serde_json::Value;

use super::print;
use crate::args::image::ImagesArgs;
use crate::client::{Client, query};
use crate::failure::{Failure, Result};
use crate::output::human;
use crate::output::list::{self, Column, Row};
use crate::settings::filters;

/// Fields of docker's image formatter.
pub(super) const COLUMNS: &[Column] = &[
    Column {
        field: "ID",
        heading: "IMAGE ID",
    },
    Column {
        field: "Repository",
        heading: "REPOSITORY",
    },
    Column {
        field: "Tag",
        heading: "TAG",
    },
    Column {
        field: "Digest",
        heading: "DIGEST",
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
        field: "Size",
        heading: "SIZE",
    },
    Column {
        field: "SharedSize",
        heading: "SHARED SIZE",
    },
    Column {
        field: "UniqueSize",
        heading: "UNIQUE SIZE",
    },
    Column {
        field: "Containers",
        heading: "CONTAINERS",
    },
];

/// `images`.
pub(super) async fn run(client: &Client, args: &ImagesArgs) -> Result {
    let mut wanted = args.filter.clone();
    wanted.extend(
        args.reference
            .as_ref()
            .map(|reference| format!("reference={reference}")),
    );
    let filters = filters::encode(&wanted).map_err(Failure::new)?;
    let mut pairs = Vec::new();
    if args.all {
        pairs.push(("all", "1"));
    }
    pairs.extend(filters.as_deref().map(|filters| ("filters", filters)));
    let images: Vec<ImageSummary> = client.get(&query("/images/json", &pairs)).await?;
    let now = jiff::Timestamp::now().as_second();
    let with_digest = args.digests
        || args
            .format
            .as_deref()
            .is_some_and(|format| format.contains(".Digest"));
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| rows(image, with_digest, args.no_trunc, now))
        .collect();
    if args.quiet && args.format.is_none() {
        let ids: String = rows
            .iter()
            .filter_map(|row| Some(format!("{}\n", row.get("ID")?.as_str()?)))
            .collect();
        return print::data(&ids);
    }
    let mut columns = vec!["Repository", "Tag"];
    if args.digests {
        columns.push("Digest");
    }
    columns.extend(["ID", "CreatedSince", "Size"]);
    print::data(&list::render(args.format.as_deref(), &columns, COLUMNS, &rows).map_err(Failure::new)?)
}

/// One row for each name of an image; `<none>` for what it lacks.
pub(super) fn rows(image: &ImageSummary, with_digest: bool, no_trunc: bool, now: i64) -> Vec<Row> {
    const NONE: &str = "<none>";
    let mut names: Vec<(&str, &str, &str)> = Vec::new();
    let digest_of = |repository: &str| {
        image
            .repo_digests
            .iter()
            .find_map(|name| name.split_once('@').filter(|(known, _)| *known == repository))
    };
    for name in &image.repo_tags {
        if let Some((repository, tag)) = name.rsplit_once(':')
            && repository != NONE
        {
            let digest = digest_of(repository).map_or(NONE, |(_, digest)| digest);
            names.push((repository, tag, digest));
        }
    }
    for name in &image.repo_digests {
        if let Some((repository, digest)) = name.split_once('@')
            && repository != NONE
            && !names.iter().any(|(known, ..)| *known == repository)
        {
            names.push((repository, NONE, digest));
        }
    }
    if names.is_empty() {
        names.push((NONE, NONE, NONE));
    }
    let bytes = u64::try_from(image.size).unwrap_or(0);
    let optional = |size: i64| u64::try_from(size).map_or_else(|_| "N/A".to_owned(), human::size);
    names
        .into_iter()
        .map(|(repository, tag, digest)| {
            let since = if image.created == 0 {
                "N/A".to_owned()
            } else {
                human::ago(image.created, now)
            };
            Row::from([
                (
                    "ID",
                    Value::from(if no_trunc {
                        image.id.as_str()
                    } else {
                        human::short_id(&image.id)
                    }),
                ),
                ("Repository", Value::from(repository)),
                ("Tag", Value::from(tag)),
                ("Digest", Value::from(if with_digest { digest } else { NONE })),
                ("CreatedSince", Value::from(since)),
                ("CreatedAt", Value::from(human::timestamp(image.created))),
                ("Size", Value::from(human::short_size(bytes))),
                ("VirtualSize", Value::from(human::size(bytes))),
                ("SharedSize", Value::from(optional(image.shared_size))),
                ("UniqueSize", Value::from(unique(image))),
                ("Containers", Value::from(containers(image))),
            ])
        })
        .collect()
}

fn unique(image: &ImageSummary) -> String {
    match (u64::try_from(image.size), u64::try_from(image.shared_size)) {
        (Ok(size), Ok(shared)) => human::size(size.saturating_sub(shared)),
        _ => "N/A".to_owned(),
    }
}

fn containers(image: &ImageSummary) -> String {
    if image.containers < 0 {
        "N/A".to_owned()
    } else {
        image.containers.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names() {
        let check = |tags: Value, digests: Value, expected: &[&str]| {
            let image: ImageSummary = serde_json::from_value(json!({
                "Id": "sha256:044e51d4ba12d200", "RepoTags": tags, "RepoDigests": digests, "Created": 1, "Size": 1_984_000,
            }))
            .unwrap();
            let names: Vec<String> = rows(&image, true, false, 2)
                .iter()
                .map(|row| {
                    ["Repository", "Tag", "Digest"]
                        .map(|field| row[field].as_str().unwrap())
                        .join(" ")
                })
                .collect();
            assert_eq!(names, expected);
        };
        check(
            json!(["a:1", "localhost:5000/b:2"]),
            json!(["a@sha256:9"]),
            &["a 1 sha256:9", "localhost:5000/b 2 <none>"],
        );
        check(json!([]), json!(["a@sha256:9"]), &["a <none> sha256:9"]);
        check(json!([]), json!([]), &["<none> <none> <none>"]);
    }
}
