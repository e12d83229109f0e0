//! `update`.

use cooper_daemon::api::{UpdateRequest, UpdateResponse};

use super::each::each;
use super::print;
use crate::args::data::UpdateArgs;
use crate::client::{Client, Payload, escape};
use crate::failure::{Failure, Result};
use crate::settings::lifecycle::restart_policy;
use crate::settings::values;

/// `update`.
pub(super) async fn run(client: &Client, args: &UpdateArgs) -> Result {
    let request = &request(args).map_err(Failure::new)?;
    if *request == UpdateRequest::default() {
        return Err(Failure::new(
            "you must provide one or more flags when using this command",
        ));
    }
    each(&args.containers, |name| async move {
        let path = format!("/containers/{}/update", escape(name));
        let answer: UpdateResponse = client.post(&path, Payload::json(request)?).await?;
        for warning in answer.warnings.iter().flatten() {
            print::warning(warning);
        }
        Ok(format!("{name}\n"))
    })
    .await
}

fn request(args: &UpdateArgs) -> std::result::Result<UpdateRequest, String> {
    let size = |text: Option<&String>| text.map_or(Ok(0), |text| values::bytes(text));
    let restart = args.restart.as_deref().map(restart_policy).transpose()?;
    Ok(UpdateRequest {
        memory: size(args.memory.as_ref())?,
        memory_swap: match args.memory_swap.as_deref() {
            Some("-1") => -1,
            _ => size(args.memory_swap.as_ref())?,
        },
        memory_reservation: size(args.memory_reservation.as_ref())?,
        nano_cpus: args.cpus.as_deref().map_or(Ok(0), values::nano_cpus)?,
        cpu_shares: args.cpu_shares.unwrap_or(0),
        cpu_quota: args.cpu_quota.unwrap_or(0),
        cpu_period: args.cpu_period.unwrap_or(0),
        cpuset_cpus: args.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: args.cpuset_mems.clone().unwrap_or_default(),
        pids_limit: args.pids_limit,
        restart_policy: restart.unwrap_or_default(),
        ..UpdateRequest::default()
    })
}
