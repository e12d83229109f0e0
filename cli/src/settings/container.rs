//! The flags of `run` and `create` as the body of a create request.

use std::collections::BTreeMap;
use std::path::Path;

use cooper_daemon::api::{ContainerConfig, CreateRequest, HostConfig, LogConfig};

use super::{lifecycle, mounts, values};
use crate::args::create::ContainerFlags;

/// Where flags get what they do not say themselves.
pub(crate) struct Surroundings<'a> {
    /// Relative sources of binds start here.
    pub(crate) directory: &'a Path,
    /// Looks up a variable of this process.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Rows and columns of our terminal.
    pub(crate) window: Option<(u16, u16)>,
}

/// Which of our streams go to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Streams {
    /// Ours to the process.
    pub(crate) stdin: bool,
    /// The process's to ours.
    pub(crate) stdout: bool,
    /// The process's to ours.
    pub(crate) stderr: bool,
}

/// What `-a`, `-i` and `-d` mean together.
pub(crate) fn streams(flags: &ContainerFlags, detach: bool) -> Result<Streams, String> {
    if detach {
        if !flags.attach.is_empty() {
            return Err("conflicting options: --attach and --detach".to_owned());
        }
        return Ok(Streams {
            stdin: false,
            stdout: false,
            stderr: false,
        });
    }
    if flags.attach.is_empty() {
        return Ok(Streams {
            stdin: flags.interactive,
            stdout: true,
            stderr: true,
        });
    }
    let mut streams = Streams {
        stdin: false,
        stdout: false,
        stderr: false,
    };
    for name in &flags.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => streams.stdin = true,
            "stdout" => streams.stdout = true,
            "stderr" => streams.stderr = true,
            _ => {
                return Err(format!(
                    "invalid --attach `{name}`: expected stdin, stdout or stderr"
                ));
            }
        }
    }
    Ok(streams)
}

/// Makes the request. `image` and `command` come from the arguments.
pub(crate) fn request(
    flags: &ContainerFlags,
    image: &str,
    command: &[String],
    streams: Streams,
    around: &Surroundings<'_>,
) -> Result<CreateRequest, String> {
    check_network(flags)?;
    if flags.init {
        return Err(
            "--init is not available yet: run an init process such as tini from the image".to_owned(),
        );
    }
    let mut binds = Vec::new();
    let mut volumes = BTreeMap::new();
    for text in &flags.volume {
        match mounts::volume(text, around.directory)? {
            mounts::Volume::Bind(bind) => binds.push(bind),
            mounts::Volume::Anonymous(target) => {
                volumes.insert(target, Default::default());
            }
        }
    }
    let open_stdin = flags.interactive || streams.stdin;
    let config = ContainerConfig {
        hostname: flags.hostname.clone().unwrap_or_default(),
        user: flags.user.clone().unwrap_or_default(),
        attach_stdin: streams.stdin,
        attach_stdout: streams.stdout,
        attach_stderr: streams.stderr,
        tty: flags.tty,
        open_stdin,
        stdin_once: open_stdin && streams.stdin,
        env: some(values::environment(&flags.env_file, &flags.env, around.variable)?),
        cmd: some(command.to_vec()),
        image: image.to_owned(),
        volumes: (!volumes.is_empty()).then_some(volumes),
        working_dir: flags.workdir.clone().unwrap_or_default(),
        entrypoint: flags.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
        labels: values::labels(&flags.label_file, &flags.label)?,
        stop_signal: flags.stop_signal.clone().unwrap_or_default(),
        stop_timeout: flags.stop_timeout,
        healthcheck: lifecycle::health_check(flags)?,
        ..ContainerConfig::default()
    };
    Ok(CreateRequest {
        config,
        host_config: host_config(flags, binds, around)?,
        networking_config: None,
    })
}

fn host_config(
    flags: &ContainerFlags,
    binds: Vec<String>,
    around: &Surroundings<'_>,
) -> Result<HostConfig, String> {
    let size = |text: Option<&String>| text.map_or(Ok(0), |text| values::bytes(text));
    let memory_swap = match flags.memory_swap.as_deref() {
        Some("-1") => -1,
        Some(text) => values::bytes(text)?,
        None => 0,
    };
    Ok(HostConfig {
        binds: some(binds),
        container_id_file: flags
            .cidfile
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default(),
        log_config: LogConfig {
            kind: flags.log_driver.clone().unwrap_or_default(),
            config: values::pairs("log-opt", &flags.log_opt)?,
        },
        network_mode: flags.network.clone(),
        auto_remove: flags.rm,
        restart_policy: lifecycle::restart_policy(&flags.restart)?,
        console_size: around
            .window
            .filter(|_| flags.tty)
            .map_or([0, 0], |(rows, columns)| [rows, columns]),
        cap_add: some(flags.cap_add.clone()),
        cap_drop: some(flags.cap_drop.clone()),
        extra_hosts: some(extra_hosts(&flags.add_host)?),
        group_add: some(flags.group_add.clone()),
        privileged: flags.privileged,
        readonly_rootfs: flags.read_only,
        security_opt: some(
            flags
                .security_opt
                .iter()
                .map(|option| security_option(option))
                .collect::<Result<_, _>>()?,
        ),
        tmpfs: mounts::tmpfs(&flags.tmpfs),
        shm_size: size(flags.shm_size.as_ref())?,
        sysctls: values::pairs("sysctl", &flags.sysctl)?,
        cpu_shares: flags.cpu_shares.unwrap_or(0),
        memory: size(flags.memory.as_ref())?,
        nano_cpus: flags
            .cpus
            .as_ref()
            .map_or(Ok(0), |cpus| values::nano_cpus(cpus))?,
        cpuset_cpus: flags.cpuset_cpus.clone().unwrap_or_default(),
        memory_swap,
        pids_limit: flags.pids_limit,
        ulimits: flags
            .ulimit
            .iter()
            .map(|limit| values::ulimit(limit))
            .collect::<Result<_, _>>()?,
        mounts: flags
            .mount
            .iter()
            .map(|mount| mounts::mount(mount, around.directory))
            .collect::<Result<_, _>>()?,
        ..HostConfig::default()
    })
}

/// Nothing may be pretended: without a bridge network there is nothing to publish ports from.
fn check_network(flags: &ContainerFlags) -> Result<(), String> {
    if !flags.publish.is_empty() {
        return Err(
            "publishing ports needs a bridge network, which is not available yet: use --network host"
                .to_owned(),
        );
    }
    match flags.network.as_str() {
        "host" | "none" => Ok(()),
        other => Err(format!(
            "network `{other}` is not available: use --network host, or none for loopback only"
        )),
    }
}

fn extra_hosts(entries: &[String]) -> Result<Vec<String>, String> {
    entries
        .iter()
        .map(|entry| match entry.split_once(['=', ':']) {
            Some((host, address)) if !host.is_empty() && !address.is_empty() => Ok(format!(
                "{host}:{}",
                address.trim_start_matches('[').trim_end_matches(']')
            )),
            _ => Err(format!("invalid --add-host `{entry}`: expected HOST:IP")),
        })
        .collect()
}

/// A seccomp profile is read here: the engine may not see our files.
fn security_option(option: &str) -> Result<String, String> {
    match option.split_once(['=', ':']) {
        Some(("seccomp", profile)) if profile != "unconfined" && profile != "builtin" => {
            let text = values::read_small(Path::new(profile))?;
            let json: serde_json::Value =
                serde_json::from_str(&text).map_err(|error| format!("seccomp profile {profile}: {error}"))?;
            Ok(format!("seccomp={json}"))
        }
        _ => Ok(option.to_owned()),
    }
}

/// Docker sends null for lists that were not given.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::root::{Cli, Verb};

    fn parse(arguments: &[&str]) -> Result<CreateRequest, String> {
        let cli = Cli::try_parse_from([&["cooper", "run"], arguments].concat())
            .map_err(|error| error.to_string())?;
        let Verb::Run(run) = cli.verb else {
            panic!("not run")
        };
        let (image, command) = run.rest.split_first().unwrap();
        let around = Surroundings {
            directory: Path::new("/w"),
            variable: &|name| (name == "HOME").then(|| "/root".to_owned()),
            window: Some((24, 80)),
        };
        request(
            &run.flags,
            image,
            command,
            streams(&run.flags, run.detach)?,
            &around,
        )
    }

    #[test]
    fn docker_style_arguments() {
        let request = parse(&[
            "-it",
            "-eA=b",
            "-e",
            "HOME",
            "-e=C=d",
            "-w/tmp",
            "-m512m",
            "--cpus",
            "1.5",
            "-v.:/src:ro",
            "-h",
            "box",
            "busybox",
            "-d",
            "sh",
            "--rm",
            "--",
            "-c",
        ])
        .unwrap();
        assert_eq!(request.config.image, "busybox");
        assert_eq!(request.config.cmd.unwrap(), ["-d", "sh", "--rm", "--", "-c"]);
        assert_eq!(request.config.env.unwrap(), ["A=b", "HOME=/root", "C=d"]);
        assert!(
            request.config.tty
                && request.config.open_stdin
                && request.config.stdin_once
                && request.config.attach_stdin
        );
        assert_eq!(request.config.working_dir, "/tmp");
        assert_eq!(request.config.hostname, "box");
        assert_eq!(request.host_config.memory, 512 << 20);
        assert_eq!(request.host_config.nano_cpus, 1_500_000_000);
        assert_eq!(request.host_config.binds.unwrap(), ["/w:/src:ro"]);
        assert_eq!(request.host_config.console_size, [24, 80]);
        assert_eq!(request.host_config.network_mode, "none");
        assert!(!request.host_config.auto_remove);
    }

    #[test]
    fn detached_stdin_stays_open() {
        let request = parse(&["-di", "--rm", "x"]).unwrap();
        assert!(request.config.open_stdin && !request.config.stdin_once && !request.config.attach_stdin);
        assert!(request.host_config.auto_remove);
        assert_eq!(request.config.cmd, None);
    }

    #[test]
    fn refusals() {
        for (arguments, part) in [
            (&["-p80:80", "x"][..], "bridge network"),
            (&["--network", "bridge", "x"], "`bridge` is not available"),
            (&["--init", "x"], "--init is not available"),
            (&["-d", "-a", "stdout", "x"], "conflicting options"),
            (&["-a", "stdwhat", "x"], "invalid --attach"),
            (&["--bad", "x"], "--bad"),
            (&["-m", "lots", "x"], "invalid size"),
            (&["--pull", "often", "x"], "often"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn hosts_and_security() {
        assert_eq!(
            extra_hosts(&["a:::1".to_owned(), "b=[::2]".to_owned()]).unwrap(),
            ["a:::1", "b:::2"]
        );
        assert!(extra_hosts(&["a".to_owned()]).is_err());
        assert_eq!(
            security_option("seccomp=unconfined").unwrap(),
            "seccomp=unconfined"
        );
        assert_eq!(security_option("no-new-privileges").unwrap(), "no-new-privileges");
        assert!(security_option("seccomp=/nonexistent/profile").is_err());
    }
}
