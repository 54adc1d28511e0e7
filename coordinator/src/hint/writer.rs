//! Writes the hint whenever it has changed, but not more often than every two seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metad2a_database::{Store, now};
use metad2a_pipeline::envelope::Event;
use metad2a_pipeline::planner::{Progress, Stage};
use metad2a_pipeline::tasks::Kind;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::{FILE, Outcome, Picture, RunName};

/// Between two writes.
const EVERY: Duration = Duration::from_secs(2);
/// The last write must not keep a run from ending.
const LAST_WRITE: Duration = Duration::from_secs(10);

/// Where the leader tells what it hears. Never waits.
#[derive(Debug, Clone)]
pub(crate) struct Watched(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    picture: Mutex<Picture>,
    changed: Notify,
}

/// Keeps the hint in the store up to date until [`Writer::end`].
#[derive(Debug)]
pub(crate) struct Writer {
    watched: Watched,
    store: Store,
    run: RunName,
    /// Dropping it stops the task after the write that is under way.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Writes the first hint and begins to keep it up to date.
pub(crate) async fn begin(store: Store, run: RunName) -> Writer {
    let shared = Arc::new(Shared { picture: Mutex::new(Picture::new(run.clone())), changed: Notify::new() });
    let watched = Watched(shared.clone());
    write(&store, &run, &shared).await;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(keep_writing(store.clone(), run.clone(), shared, stopped));
    Writer { watched, store, run, stop, task }
}

impl Writer {
    pub(crate) fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// Writes how the run ended.
    pub(crate) async fn end(self, outcome: Outcome) {
        let Self { watched, store, run, stop, task } = self;
        drop(stop);
        watched.0.picture().end(outcome);
        let last = async {
            // An earlier write must not arrive after the very last one.
            let _ = task.await;
            write(&store, &run, &watched.0).await;
        };
        if tokio::time::timeout(LAST_WRITE, last).await.is_err() {
            tracing::warn!("the end of the run was not noted in the store in time");
        }
    }
}

impl Watched {
    pub(crate) fn stages(&self, stages: &BTreeMap<Stage, Progress>) {
        if self.0.picture().set_stages(Instant::now(), stages) {
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn in_flight(&self, tasks: Vec<(String, Kind)>) {
        if self.0.picture().set_in_flight(tasks) {
            self.0.changed.notify_one();
        }
    }

    pub(crate) fn heard(&self, event: &Event) {
        self.0.picture().hear(now(), event);
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn picture(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_writing(store: Store, run: RunName, shared: Arc<Shared>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let due = async {
            tokio::time::sleep(EVERY).await;
            shared.changed.notified().await;
        };
        tokio::select! {
            () = due => write(&store, &run, &shared).await,
            _ = &mut stopped => return,
        }
    }
}

async fn write(store: &Store, run: &RunName, shared: &Shared) {
    let hint = shared.picture().hint(now());
    let Ok(json) = serde_json::to_vec_pretty(&hint) else { return };
    if let Err(error) = store.overwrite_run_file(&run.pipeline, &run.run_id, FILE, json.into()).await {
        tracing::debug!(%error, "the run's progress was not noted in the store");
    }
}

#[cfg(test)]
mod tests {
    use metad2a_database::Access;

    use super::super::{
        Hint,
        picture::tests::{at, started},
    };
    use super::*;

    async fn read(store: &Store) -> Hint {
        let file = store.run_file("small", "0a1b", FILE).await.unwrap().unwrap();
        serde_json::from_slice(&file).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_is_written_at_once_then_at_most_every_two_seconds_and_at_the_end() {
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        let run = RunName {
            pipeline: "small".to_owned(),
            run_id: "0a1b".to_owned(),
            holder: "process 7 on ada".to_owned(),
            started_at: at(0),
        };
        let writer = begin(store.clone(), run).await;
        let first = read(&store).await;
        assert_eq!((first.outcome.as_ref(), first.workers.len()), (None, 0));

        writer.watched().heard(&started("a", "w/0"));
        tokio::time::sleep(EVERY / 2).await;
        assert_eq!(read(&store).await, first, "not yet");
        tokio::time::sleep(EVERY).await;
        let second = read(&store).await;
        assert_eq!(second.workers.len(), 1);
        tokio::time::sleep(10 * EVERY).await;
        assert_eq!(read(&store).await, second, "nothing changed, nothing is written");

        writer.end(Outcome { exit_code: 3, message: "with dead letters".to_owned() }).await;
        assert_eq!(read(&store).await.outcome.unwrap().exit_code, 3);
    }
}
