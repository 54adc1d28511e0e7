//! The supervisor: slots, their common stop, and the notices of the coordinator.
//!
//! Deliberately absent: tensors, pictures and anything else that could take the process down or keep it from
//! answering a signal at once.

mod child;
mod desk;
mod emitter;
mod handover;
mod outage;
mod patience;
mod shift;
mod slot;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metad2a_database::{Access, Store};
use metad2a_queue::Queue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Slots;
use crate::device::Choice;
use child::{Compute, ProcessCompute, ProcessOptions, Ready};
use desk::Desk;
use emitter::Emitter;
use outage::Outage;
pub use patience::Patience;
pub use shift::Limits;
use shift::Shift;
use slot::Slot;

/// For events that were not sent yet when all slots had ended.
const LAST_EVENTS: Duration = Duration::from_secs(1);
/// Between two attempts to listen to the broker's notices.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// What one worker is started with.
#[derive(Debug)]
pub struct Options {
    pub queue: String,
    pub store: String,
    pub pipeline: String,
    pub device: Choice,
    pub slots: Slots,
    pub name: String,
    /// Stop when standard input ends.
    pub exit_with_parent: bool,
    /// When to leave unasked.
    pub limits: Limits,
    pub patience: Patience,
    /// Handed on to the compute processes.
    pub log_arguments: Vec<String>,
}

/// Works until a signal, the end of the parent, one of the limits, or an error that no waiting cures.
pub fn run_until_stopped(options: Options) -> anyhow::Result<()> {
    // One thread: everything here waits. It is also the thread whose end the kernel reports to the compute processes,
    // so it must be one that lives as long as the program.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on_signal(&stop)?;
        if options.exit_with_parent {
            stop_with_parent(stop.clone());
        }
        run(options, stop).await
    });
    // A blocking read of standard input would keep the runtime waiting.
    runtime.shutdown_background();
    outcome
}

fn stop_on_signal(stop: &CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        stop.cancel();
    });
    Ok(())
}

/// The parent holds the other end of standard input, so the end of the one is the end of the other.
fn stop_with_parent(stop: CancellationToken) {
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::info!(?ended, "standard input ended: stopping with the parent");
        stop.cancel();
    });
}

async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let process = ProcessOptions {
        store: options.store.clone(),
        device: options.device,
        log_arguments: options.log_arguments.clone(),
    };
    let mut first = ProcessCompute::new(process.clone());
    let (store, queue, ready) = tokio::select! {
        started = start(&options, &mut first) => started?,
        () = stop.cancelled() => return Ok(()),
    };
    let slots = match options.slots {
        Slots::Fixed(number) => number.get(),
        // One process fills a card; on a CPU every process has one thread.
        Slots::Auto if ready.gpu => 1,
        Slots::Auto => std::thread::available_parallelism().map_or(1, usize::from),
    };
    tracing::info!(
        worker = options.name,
        pipeline = options.pipeline,
        device = ready.device,
        slots,
        "ready for tasks"
    );
    let mut computes = vec![first];
    computes.resize_with(slots, || ProcessCompute::new(process.clone()));
    let patience = options.patience;
    let team = Team {
        queue: queue.clone(),
        store,
        pipeline: options.pipeline,
        name: options.name,
        limits: options.limits,
        patience,
    };
    let outcome = team.work(computes, stop).await;
    // Gives back whatever is still taken; a hung broker must not keep the worker alive.
    if tokio::time::timeout(patience.for_goodbye(), queue.close()).await.is_err() {
        tracing::warn!(waited = ?patience.for_goodbye(), "the queue did not close in time");
    }
    outcome
}

/// Store, queue, and the first compute process. A store that is out of reach is waited for.
async fn start(
    options: &Options,
    first: &mut ProcessCompute,
) -> anyhow::Result<(Store, Arc<dyn Queue>, Ready)> {
    let mut outage = Outage::new();
    // The compute processes check the store for themselves; here a wrong address is found before anything starts.
    let store = loop {
        match Store::open(&options.store, Access::ReadWrite).await {
            Ok(store) => break store,
            Err(error) => {
                if !(error.is_retryable() && outage.wait(&error).await) {
                    return Err(error).context("cannot open the store");
                }
            }
        }
    };
    let longest_hold = options.patience.for_delivery();
    let queue =
        metad2a_queue::open_for(&options.queue, longest_hold).await.context("cannot open the queue")?;
    let ready = loop {
        match first.ready().await {
            Ok(ready) => break ready,
            Err(error) => {
                let is_out_of_reach = store.check_reachable().await.is_err();
                if !(is_out_of_reach && outage.wait(&error).await) {
                    return Err(error);
                }
            }
        }
    };
    Ok((store, queue, ready))
}

/// What all slots of a worker share.
struct Team {
    queue: Arc<dyn Queue>,
    store: Store,
    pipeline: String,
    name: String,
    limits: Limits,
    patience: Patience,
}

impl Team {
    /// Works until `stop`, until a limit is reached, or until every slot has met an error that no waiting cures; the
    /// first such error is returned.
    async fn work<C: Compute + 'static>(
        self,
        computes: Vec<C>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let tracker = TaskTracker::new();
        let (notice, notices) = watch::channel(0_u64);
        let listener = tokio::spawn(listen(self.queue.clone(), self.pipeline.clone(), notice));
        let shift = Arc::new(Shift::new(self.limits));
        let (emitter, sending) = Emitter::start(self.queue.clone(), self.pipeline.clone());
        let mut running = Vec::new();
        for (number, compute) in computes.into_iter().enumerate() {
            let desk = Desk {
                queue: self.queue.clone(),
                store: self.store.clone(),
                pipeline: self.pipeline.clone(),
                name: format!("{}/{number}", self.name),
                emitter: emitter.clone(),
            };
            let name = desk.name.clone();
            let slot = Slot::new(desk, compute, notices.clone(), shift.clone(), self.patience, stop.clone());
            running.push((name, tracker.spawn(slot.run())));
        }
        drop(emitter);
        tracker.close();
        let watchman = tokio::spawn(async move { shift.end_when_idle().await });
        let all_ended = tokio::select! {
            () = tracker.wait() => true,
            () = stop.cancelled() => {
                tokio::time::timeout(self.patience.for_slots(), tracker.wait()).await.is_ok()
            }
        };
        listener.abort();
        watchman.abort();
        if !all_ended {
            // Their processes die with this one, and the queue gives their messages to others.
            let late = running.iter().filter(|(_, slot)| !slot.is_finished());
            let late: Vec<&str> = late.map(|(name, _)| name.as_str()).collect();
            tracing::warn!(slots = late.join(", "), waited = ?self.patience.for_slots(), "slots did not stop in time");
            return Ok(());
        }
        // The last events are worth a moment, no more.
        let _ = tokio::time::timeout(LAST_EVENTS, sending).await;
        for (_, slot) in running {
            slot.await.context("a slot ended abnormally")??;
        }
        Ok(())
    }
}

/// Counts the coordinator's notices. What a notice says is read from the store, the only truth.
async fn listen(queue: Arc<dyn Queue>, pipeline: String, notice: watch::Sender<u64>) {
    loop {
        match queue.listen(&pipeline).await {
            Ok(mut notices) => {
                while notices.next().await.is_ok() {
                    notice.send_modify(|count| *count += 1);
                }
            }
            Err(error) => tracing::debug!("cannot listen to notices: {error}"),
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
