//! What a target takes.

use std::collections::{BTreeMap, BTreeSet};

use super::answer::{Argument, CacheMount, Outline, Requirement};
use super::ask::{File, target};
use super::mounts::{Need, need};
use crate::build::{Error, Request};
use crate::dockerfile::{ArgDecl, Dockerfile, InstructionKind, process_word, resolve_base, resolve_stage};

/// The stages that `target` needs, itself included; what cannot be resolved is left out.
pub(super) fn reachable(dockerfile: &Dockerfile, target: usize) -> BTreeSet<usize> {
    let stages = &dockerfile.stages;
    let mut reached = BTreeSet::new();
    let mut todo = vec![target];
    while let Some(index) = todo.pop() {
        if !reached.insert(index) {
            continue;
        }
        let stage = &stages[index];
        todo.extend(resolve_base(stages, &stage.base.text, index));
        for instruction in &stage.instructions {
            match &instruction.kind {
                InstructionKind::Copy(copy) => {
                    let from = copy.from.as_ref().map(|from| from.text.as_str());
                    todo.extend(from.and_then(|from| resolve_stage(stages, from, index).ok().flatten()));
                }
                InstructionKind::Run(run) => {
                    let options = run.flags.mounts.iter().flat_map(|mount| mount.text.split(','));
                    let froms = options.filter_map(|option| option.trim().strip_prefix("from="));
                    todo.extend(froms.filter_map(|from| resolve_stage(stages, from, index).ok().flatten()));
                }
                _ => {}
            }
        }
    }
    reached
}

pub(super) fn outline(request: &Request, dockerfile: &Dockerfile, file: &File<'_>) -> Result<Outline, Error> {
    let target = target(request, dockerfile, file)?;
    let stages = reachable(dockerfile, target);
    let stage = &dockerfile.stages[target];
    let mut outline = Outline {
        name: stage.name.clone().unwrap_or_default(),
        description: stage.doc.clone().unwrap_or_default(),
        sources: file.sources(),
        ..Outline::default()
    };
    let mut arguments = Arguments {
        request,
        escape: dockerfile.directives.escape.char(),
        values: BTreeMap::new(),
        found: BTreeMap::new(),
    };
    for arg in &dockerfile.global_args {
        arguments.add(arg, file, None);
    }
    let used = |name: &str| {
        // Arguments in front of FROM count where a FROM uses them or a stage declares them again.
        stages.iter().any(|&index| {
            let stage = &dockerfile.stages[index];
            [Some(&stage.base), stage.platform.as_ref()]
                .into_iter()
                .flatten()
                .any(|word| mentions(&word.text, name))
        })
    };
    let globals: BTreeSet<String> = arguments.found.keys().cloned().collect();
    arguments.found.retain(|name, _| used(name));
    for &index in &stages {
        for instruction in &dockerfile.stages[index].instructions {
            match &instruction.kind {
                InstructionKind::Arg(args) => {
                    args.iter()
                        .for_each(|arg| arguments.add(arg, file, Some(&globals)));
                }
                InstructionKind::Run(run) => {
                    for mount in &run.flags.mounts {
                        let location = file.location(instruction.span);
                        match need(mount) {
                            Some(Need::Secret { id, required }) => {
                                require(&mut outline.secrets, id, required, location);
                            }
                            Some(Need::Ssh { id, required }) => {
                                require(&mut outline.ssh, id, required, location);
                            }
                            Some(Need::Cache { id }) if outline.cache.iter().all(|cache| cache.id != id) => {
                                outline.cache.push(CacheMount { id, location });
                            }
                            Some(Need::Cache { .. }) | None => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    outline.args = arguments.found.into_values().collect();
    outline
        .args
        .sort_by_key(|arg| arg.location.ranges.first().map(|range| range.start.line));
    Ok(outline)
}

fn mentions(text: &str, name: &str) -> bool {
    process_word(text, &|_| None, '\\').is_ok_and(|expanded| expanded.unmatched.contains(name))
}

fn require(list: &mut Vec<Requirement>, name: String, required: bool, location: super::answer::Location) {
    match list.iter_mut().find(|known| known.name == name) {
        Some(known) => known.required |= required,
        None => list.push(Requirement {
            name,
            required,
            location,
        }),
    }
}

struct Arguments<'a> {
    request: &'a Request,
    escape: char,
    values: BTreeMap<String, String>,
    found: BTreeMap<String, Argument>,
}

impl Arguments<'_> {
    /// Takes a declaration into account. `globals`: names declared in front of the first FROM, for one inside a stage.
    fn add(&mut self, arg: &ArgDecl, file: &File<'_>, globals: Option<&BTreeSet<String>>) {
        let name = arg.name.text.clone();
        let given = self.request.build_args.get(&name).cloned().flatten();
        let default = arg.default.as_ref().and_then(|word| {
            let expanded = process_word(&word.text, &|name| self.values.get(name).cloned(), self.escape);
            expanded.ok().map(|expanded| expanded.text)
        });
        let imported = globals
            .filter(|globals| globals.contains(&name))
            .and(self.values.get(&name).cloned());
        let value = given.or(default).or(imported);
        if let Some(value) = &value {
            self.values.insert(name.clone(), value.clone());
        }
        let entry = self.found.entry(name.clone()).or_insert_with(|| Argument {
            name,
            location: file.location(arg.name.span),
            ..Argument::default()
        });
        if entry.description.is_empty() {
            entry.description = arg.doc.clone().unwrap_or_default();
        }
        if entry.value.is_none() {
            entry.value = value;
        }
    }
}
