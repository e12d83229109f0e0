//! Compares a key that is not in the cache with that of an earlier build.

use std::collections::{BTreeMap, BTreeSet};

use cooper_registry::store::Store;

use super::cause::Cause;
use super::files;
use super::journal::{End, Journal};
use super::key::Key;
use super::preimage::{About, Input, PreImage, is_known};
use crate::build::Error;

/// More causes of one miss are counted, not listed.
const MAX_CAUSES: usize = 200;
/// Parts that follow from the text of the instruction: where it changed, they are not mentioned.
const FROM_TEXT: [&str; 17] = [
    "step",
    "arg",
    "script",
    "inline",
    "source",
    "dest",
    "chown",
    "chmod",
    "path",
    "name",
    "from",
    "keeps-owner",
    "link",
    "owner",
    "parents",
    "unpack-fetched",
    "url",
];
/// Parts that other causes speak for.
const SPOKEN_FOR: [&str; 7] = ["step", "env", "rootfs", "file", "files", "name", "from"];

/// Why `key`, whose hash is `hash`, was not found. Never empty.
pub(crate) fn explain(
    store: &Store,
    journal: &Journal,
    step: usize,
    key: &Key,
    hash: &str,
    about: About,
) -> Result<Vec<Cause>, Error> {
    let new = PreImage::new(key, about);
    let partner = journal.partner(store, step)?;
    if let Some(partner) = partner.as_ref().filter(|partner| partner.key == hash) {
        return Ok(vec![match partner.end {
            End::Done => Cause::Evicted,
            End::Unfinished => Cause::Unfinished,
            End::Unsettled => Cause::Unsettled,
        }]);
    }
    let mut old = match partner {
        Some(partner) => PreImage::load(store, &partner.key)?,
        None => None,
    };
    if old.is_none() {
        old = nearest(store, journal, step, &new)?;
    }
    let mut causes = match &old {
        Some(old) => compare(old, &new),
        None => Vec::new(),
    };
    if is_known(store, hash)? {
        causes.push(Cause::Evicted);
    }
    if causes.is_empty() {
        causes.push(Cause::NeverBuilt);
    }
    if causes.len() > MAX_CAUSES {
        let count = causes.len() - MAX_CAUSES;
        causes.truncate(MAX_CAUSES);
        causes.push(Cause::MoreFiles { count });
    }
    Ok(causes)
}

/// The pre-image with the most equal parts among steps that are left over; at least half of the parts must be.
fn nearest(store: &Store, journal: &Journal, step: usize, new: &PreImage) -> Result<Option<PreImage>, Error> {
    let mut best = None;
    for key in journal.similar(store, step)? {
        let Some(old) = PreImage::load(store, &key)? else {
            continue;
        };
        let equal = new.parts.iter().filter(|part| old.parts.contains(part)).count();
        if equal * 2 >= new.parts.len() && best.as_ref().is_none_or(|(most, _)| equal > *most) {
            best = Some((equal, old));
        }
    }
    Ok(best.map(|(_, old)| old))
}

/// All differences, those of the instruction first, then its inputs, then its surroundings.
fn compare(old: &PreImage, new: &PreImage) -> Vec<Cause> {
    let mut causes = Vec::new();
    let same_text = old.about.text == new.about.text;
    if !same_text {
        causes.push(Cause::Instruction {
            old: old.about.text.clone(),
            new: new.about.text.clone(),
        });
    }
    // What goes on top of anything has none; then the text or a part of its own says what changed.
    let stands = |image: &PreImage| image.all("rootfs").next().is_some();
    if stands(old) && stands(new) && old.all("rootfs").ne(new.all("rootfs")) {
        causes.extend(input(old.about.parent.as_ref(), new.about.parent.as_ref()));
    }
    let from = new
        .about
        .source
        .as_ref()
        .map(|source| source.image.as_ref().unwrap_or(&source.name).as_str())
        .or(new.about.context.as_deref());
    causes.extend(files::compare(&old.files, &new.files, from));
    let arguments: BTreeSet<&str> = old
        .about
        .arguments
        .iter()
        .chain(&new.about.arguments)
        .map(String::as_str)
        .collect();
    let expanded = variables(
        &pairs(
            old.about
                .variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ),
        &pairs(
            new.about
                .variables
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        ),
        &arguments,
    );
    let explained = !same_text || !expanded.is_empty();
    causes.extend(expanded.into_iter().filter(|_| same_text));
    causes.extend(environment(old, new, &arguments));
    let names: BTreeSet<&str> = [old, new]
        .iter()
        .flat_map(|image| &image.parts)
        .map(|(name, _)| name.as_str())
        .filter(|name| !SPOKEN_FOR.contains(name))
        .filter(|name| !(explained && FROM_TEXT.contains(name)))
        .collect();
    for name in names {
        let values = |image: &PreImage| -> Vec<_> {
            image
                .parts
                .iter()
                .filter(|(part, _)| part == name)
                .map(|(_, value)| value.clone())
                .collect()
        };
        let (old, new) = (values(old), values(new));
        if old != new {
            let texts = |values: Vec<super::preimage::Value>| -> Vec<String> {
                values.into_iter().map(|value| value.text).collect()
            };
            causes.extend(part(name, &texts(old), &texts(new)));
        }
    }
    causes
}

/// A change of what the step begins from.
fn input(old: Option<&Input>, new: Option<&Input>) -> Option<Cause> {
    match (old, new) {
        (Some(Input { image: Some(old), .. }), Some(Input { image: Some(new), .. })) if old != new => {
            Some(Cause::Base {
                old: old.clone(),
                new: new.clone(),
            })
        }
        (_, Some(new)) => Some(Cause::Parent {
            step: new.step,
            name: new.name.clone(),
        }),
        (Some(old), None) => Some(Cause::Base {
            old: old.image.clone().unwrap_or_else(|| old.name.clone()),
            new: "scratch".to_owned(),
        }),
        (None, None) => None,
    }
}

fn pairs<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, &'a str> {
    all.collect()
}

fn variables(
    old: &BTreeMap<&str, &str>,
    new: &BTreeMap<&str, &str>,
    arguments: &BTreeSet<&str>,
) -> Vec<Cause> {
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let mut causes = Vec::new();
    for name in names {
        let value = |all: &BTreeMap<&str, &str>| all.get(name).map(|value| (*value).to_owned());
        let (old, new) = (value(old), value(new));
        if old == new {
            continue;
        }
        let name = name.to_owned();
        causes.push(if arguments.contains(name.as_str()) {
            Cause::BuildArg { name, old, new }
        } else {
            Cause::Variable { name, old, new }
        });
    }
    causes
}

fn environment(old: &PreImage, new: &PreImage, arguments: &BTreeSet<&str>) -> Vec<Cause> {
    let split = |image: &PreImage| -> Vec<(String, String)> {
        let parts = image
            .all("env")
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        parts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let (before, after) = (split(old), split(new));
    fn borrow(all: &[(String, String)]) -> BTreeMap<&str, &str> {
        pairs(all.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
    let causes = variables(&borrow(&before), &borrow(&after), arguments);
    if causes.is_empty() && before != after {
        let order = |all: &[(String, String)]| {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            Some(names.join(" "))
        };
        return vec![Cause::Flag {
            flag: "order of variables".to_owned(),
            old: order(&before),
            new: order(&after),
        }];
    }
    causes
}

/// A change of a part that has no cause of its own.
fn part(name: &str, old: &[String], new: &[String]) -> Vec<Cause> {
    let text = |values: &[String]| (!values.is_empty()).then(|| values.join(" "));
    let flag = match name {
        "cwd" => "workdir",
        "clamp" => "SOURCE_DATE_EPOCH",
        "dest" => "destination",
        "foreign" => "platform",
        "base-dir" => "directories of the base",
        "modified" => "time of the file",
        "script" => "here-document",
        "arg" => {
            // The shell and its options come before the command line.
            let split = |values: &[String]| {
                let (last, shell) = values
                    .split_last()
                    .map_or((None, [].as_slice()), |(last, rest)| (Some(last.clone()), rest));
                (last, shell.join(" "))
            };
            let ((old_command, old_shell), (new_command, new_shell)) = (split(old), split(new));
            let mut causes = Vec::new();
            if old_shell != new_shell {
                causes.push(Cause::Flag {
                    flag: "shell".to_owned(),
                    old: Some(old_shell),
                    new: Some(new_shell),
                });
            }
            if let (Some(old), Some(new)) = (old_command, new_command)
                && old != new
            {
                causes.push(Cause::Instruction { old, new });
            }
            return causes;
        }
        "inline" => return heredocs(old, new),
        other => other,
    };
    vec![Cause::Flag {
        flag: flag.to_owned(),
        old: text(old),
        new: text(new),
    }]
}

/// Names and bodies of here-documents, in turn.
fn heredocs(old: &[String], new: &[String]) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (old, new) in old.chunks(2).zip(new.chunks(2)) {
        if old != new {
            causes.push(Cause::Instruction {
                old: format!("<<{}", old.join("\n")),
                new: format!("<<{}", new.join("\n")),
            });
        }
    }
    causes
}
