//! One job of a compute process, from its start to the end of its slice in whatever way.
//!
//! | what comes first | how it ends |
//! |---|---|
//! | a report of the process | finished, paused, failed, or interrupted |
//! | the process's end | failed; stopped, if the worker is told to stop |
//! | no sign of progress for the task's patience | the process is killed: failed |
//! | a stop | a checkpoint is asked for; without one in time the process is killed: stopped |
//! | a notice, and the task is done or decided elsewhere | the process is killed at once: obsolete |

use std::pin::pin;
use std::time::Duration;

use metad2a_pipeline::envelope::Event;
use tokio::time::Instant;

use super::Slot;
use crate::attempts::{Before, Failure};
use crate::protocol::{Finished, Job, Paused};
use crate::supervisor::child::{Compute, Signal};
use crate::supervisor::desk::TaskName;

/// Progress is a hint for people: more often than this is noise on the broker.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// A machine that goes down tells all processes at once; the compute process may be the first to obey.
const STOP_MAY_FOLLOW: Duration = Duration::from_millis(500);

/// How the work on one message ended.
pub(super) enum Ended {
    Finished(Box<Finished>),
    Paused(Box<Paused>),
    Failed(Failure),
    /// The store could not be reached, for this reason.
    Interrupted(String),
    /// Decided or done elsewhere in the meantime.
    Obsolete(&'static str),
    Stopped,
}

impl<C: Compute> Slot<C> {
    /// Has the task worked on until its slice ends in whatever way. Except after [`Ended::Finished`], [`Ended::Paused`]
    /// and a reported failure, the process is gone.
    pub(super) async fn attempt(&mut self, task: &TaskName, job: &Job) -> anyhow::Result<Ended> {
        self.compute.start(job).await?;
        let patience = Duration::from_secs(job.envelope.patience_seconds.max(1));
        let mut last_emitted: Option<Instant> = None;
        let mut deadline = Instant::now() + patience;
        // After a stop: when waiting for the checkpoint ends.
        let mut late: Option<Instant> = None;
        self.notices.mark_unchanged();
        loop {
            let stop = self.stop.clone();
            let signal = {
                let timer = pin!(tokio::time::sleep_until(late.map_or(deadline, |late| late.min(deadline))));
                tokio::select! {
                    // A stop has precedence over a process that died of the same signal.
                    biased;
                    () = stop.cancelled(), if late.is_none() => {
                        late = Some(Instant::now() + self.patience.for_checkpoint());
                        self.compute.pause().await;
                        continue;
                    }
                    signal = self.compute.signal() => Some(signal),
                    () = timer => None,
                    Ok(()) = self.notices.changed() => {
                        if let Before::Skip(why) = self.desk.standing(task).await? {
                            self.compute.kill().await;
                            return Ok(Ended::Obsolete(why));
                        }
                        continue;
                    }
                }
            };
            match signal {
                Some(Signal::Progress { done, total }) => {
                    deadline = Instant::now() + patience;
                    if last_emitted.is_none_or(|emitted| emitted.elapsed() >= PROGRESS_EVERY) {
                        last_emitted = Some(Instant::now());
                        let (task, worker) = (task.id.clone(), self.desk.name.clone());
                        self.desk.emitter.emit(&Event::Progress { task, worker, done, total });
                    }
                }
                Some(Signal::Finished(finished)) => return Ok(Ended::Finished(finished)),
                Some(Signal::Paused(paused)) => return Ok(Ended::Paused(paused)),
                Some(Signal::Failed { reason, permanent }) => {
                    // A machine that goes down takes networks and disks along, which is nobody's fault.
                    if late.is_some() && !permanent {
                        tracing::info!(
                            slot = self.desk.name,
                            task = task.id,
                            "failed while stopping: {reason}"
                        );
                        return Ok(Ended::Stopped);
                    }
                    return Ok(Ended::Failed(Failure::Reported { reason, permanent }));
                }
                Some(Signal::Interrupted { reason }) => return Ok(Ended::Interrupted(reason)),
                Some(Signal::Died { how, last_lines }) => {
                    if late.is_some() || tokio::time::timeout(STOP_MAY_FOLLOW, stop.cancelled()).await.is_ok()
                    {
                        return Ok(Ended::Stopped);
                    }
                    return Ok(Ended::Failed(Failure::Died { how, last_lines }));
                }
                None => {
                    let last_lines = self.compute.kill().await;
                    if late.is_some() {
                        tracing::warn!(
                            slot = self.desk.name,
                            task = task.id,
                            kind = task.kind,
                            waited = ?self.patience.for_checkpoint(),
                            "this slot was late: it has no checkpoint, and its process is killed"
                        );
                        return Ok(Ended::Stopped);
                    }
                    let seconds = patience.as_secs();
                    return Ok(Ended::Failed(Failure::Stalled { seconds, last_lines }));
                }
            }
        }
    }
}
