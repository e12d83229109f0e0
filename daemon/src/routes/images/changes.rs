//! `changes` of an import: Dockerfile instructions that only touch the image's config.

use std::collections::BTreeMap;

use cooper_builder::dockerfile::{CommandForm, InstructionKind, KeyValue, Word, parse_trigger, process_word};
use cooper_registry::oci::{Empty, RunConfig};

use crate::error::{ApiError, ApiResult};
use crate::translate::parse_signal;

/// Applies one instruction.
pub(in crate::routes) fn apply(config: &mut RunConfig, change: &str) -> ApiResult<()> {
    let instruction =
        parse_trigger(change).map_err(|problems| ApiError::bad(format!("{change:?}: {problems}")))?;
    let env = config.env.clone().unwrap_or_default();
    let expand = |word: &Word| {
        let lookup = |name: &str| {
            let pairs = env.iter().filter_map(|pair| pair.split_once('='));
            pairs
                .filter(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
                .next()
        };
        let expanded = process_word(&word.text, &lookup, '\\').map(|expanded| expanded.text);
        expanded.map_err(|error| ApiError::bad(format!("{change:?}: {error}")))
    };
    let all = |words: &[Word]| words.iter().map(expand).collect::<ApiResult<Vec<_>>>();
    let pairs = |pairs: &[KeyValue]| -> ApiResult<Vec<(String, String)>> {
        pairs
            .iter()
            .map(|pair| Ok((expand(&pair.key)?, expand(&pair.value)?)))
            .collect()
    };
    match &instruction.kind {
        InstructionKind::Cmd(form) => config.cmd = Some(command(form, config)),
        InstructionKind::Entrypoint(form) => config.entrypoint = Some(command(form, config)),
        InstructionKind::Env(list) => {
            let changed = pairs(list)?;
            let env = config.env.get_or_insert_default();
            for (key, value) in changed {
                env.retain(|pair| pair.split('=').next() != Some(key.as_str()));
                env.push(format!("{key}={value}"));
            }
        }
        InstructionKind::Expose(ports) => {
            let ports = all(ports)?;
            let set = config.exposed_ports.get_or_insert_default();
            for port in ports {
                set.insert(
                    if port.contains('/') {
                        port
                    } else {
                        format!("{port}/tcp")
                    },
                    Empty {},
                );
            }
        }
        InstructionKind::Label(list) => {
            let labels: BTreeMap<_, _> = pairs(list)?.into_iter().collect();
            config.labels.get_or_insert_default().extend(labels);
        }
        InstructionKind::StopSignal(word) => {
            let signal = expand(word)?;
            if parse_signal(&signal).is_none() {
                return Err(ApiError::bad(format!("invalid signal: {signal}")));
            }
            config.stop_signal = signal;
        }
        InstructionKind::User(word) => config.user = expand(word)?,
        InstructionKind::Volume(paths) => {
            let paths = all(paths)?;
            config
                .volumes
                .get_or_insert_default()
                .extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        InstructionKind::Workdir(word) => {
            let dir = expand(word)?;
            config.working_dir = match (dir.starts_with('/'), config.working_dir.as_str()) {
                (true, _) => dir,
                (false, before) => format!("{}/{dir}", before.trim_end_matches('/')),
            };
        }
        _ => {
            let keyword = instruction.keyword.text.to_ascii_uppercase();
            return Err(ApiError::bad(format!("{keyword} is not a valid change command")));
        }
    }
    Ok(())
}

fn command(form: &CommandForm, config: &RunConfig) -> Vec<String> {
    match form {
        CommandForm::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandForm::Shell { command, .. } => {
            let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
            let mut args = config.shell.clone().unwrap_or_else(default);
            args.push(command.text.clone());
            args
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_config() {
        let mut config = RunConfig::default();
        for change in [
            r#"CMD ["sh"]"#,
            "ENTRYPOINT exec top",
            "ENV A=1 B=\"x y\"",
            "ENV A=2",
            "LABEL k=$A",
            "EXPOSE 80 53/udp",
            "USER app",
            "WORKDIR /srv",
            "WORKDIR x",
            "VOLUME /data",
            "STOPSIGNAL INT",
        ] {
            apply(&mut config, change).unwrap();
        }
        assert_eq!(config.cmd.unwrap(), ["sh"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "exec top"]);
        assert_eq!(config.env.unwrap(), ["B=x y", "A=2"]);
        assert_eq!(config.labels.unwrap()["k"], "2");
        assert_eq!(
            config.exposed_ports.unwrap().into_keys().collect::<Vec<_>>(),
            ["53/udp", "80/tcp"]
        );
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("app", "/srv/x")
        );
        assert_eq!(config.stop_signal, "INT");
        for bad in ["RUN x", "FROM x", "NONSENSE", "STOPSIGNAL FOO"] {
            assert!(apply(&mut RunConfig::default(), bad).is_err(), "{bad}");
        }
    }
}
