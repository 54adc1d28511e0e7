//! Work on what is published, which must not go on beside a run of the pipeline.

use std::future::Future;

use metad2a_pipeline::specification::Specification;
use metad2a_queue::Leadership;

use super::run::host;
use crate::Exit;

/// Does `work` in the name of `command` while leading the pipeline: a run publishes only while it leads. Where somebody
/// else leads, nothing is done; `refusal` says what that is.
pub(super) async fn while_leading(
    specification: &Specification,
    command: &str,
    refusal: &str,
    work: impl Future<Output = anyhow::Result<Exit>>,
) -> anyhow::Result<Exit> {
    let queue = metad2a_queue::open(&specification.queue).await?;
    let holder = format!("`metad2a {command}`, process {} on {}", std::process::id(), host());
    let exit = match queue.lead(&specification.name, &holder).await? {
        Leadership::Held(guard) => {
            let exit = work.await;
            guard.release().await;
            exit?
        }
        Leadership::HeldBy(other) => {
            eprintln!(
                "metad2a: pipeline `{}` is being run by {other}; {refusal} meanwhile: wait for it, or stop it first",
                specification.name
            );
            Exit::NotLeader
        }
    };
    queue.close().await?;
    Ok(exit)
}
