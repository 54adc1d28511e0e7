//! The thread that owns a connection, and the handle through which async code gives it work.
//!
//! A thread of its own, not the runtime's pool: leases must be renewed even while the runtime is busy, and
//! SQLite's waiting for other processes must not hold the runtime up.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::Connection;
use tokio::sync::{Notify, oneshot};

use super::{SqliteOptions, schema};
use crate::{Error, Result};

/// A handle; the connection lives until [`Database::close`] or until the last handle is dropped.
#[derive(Clone)]
pub(super) struct Database {
    path: Arc<Path>,
    options: SqliteOptions,
    jobs: mpsc::Sender<Job>,
    /// Wakes waiters of this connection after its own changes.
    changed: Arc<Notify>,
}

enum Job {
    Run(Box<dyn FnOnce(&mut Worker) + Send>),
    Close(oneshot::Sender<()>),
}

/// What the jobs work on.
pub(super) struct Worker {
    pub(super) connection: Connection,
    /// A random name of this connection, written into its leases.
    pub(super) owner: String,
    pub(super) lease: Duration,
}

impl Database {
    pub(super) async fn open(path: PathBuf, options: SqliteOptions) -> Result<Self> {
        let (opened, answer) = oneshot::channel();
        let (jobs, work) = mpsc::channel();
        let file = path.clone();
        let thread = move || {
            let worker = Worker::open(&file, options);
            let (worker, result) = match worker {
                Ok(worker) => (Some(worker), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // A caller that stopped waiting has dropped `jobs` too, so the loop below ends at once.
            let _gone = opened.send(result);
            if let Some(worker) = worker {
                worker.serve(&work);
            }
        };
        std::thread::Builder::new()
            .name("metad2a-queue".to_owned())
            .spawn(thread)
            .map_err(|source| Error::File { action: "start a thread for", path: path.clone(), source })?;
        answer.await.map_err(|_| Error::Closed)??;
        Ok(Self { path: path.into(), options, jobs, changed: Arc::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn poll(&self) -> Duration {
        self.options.poll
    }

    /// Runs work on the thread and waits for its result. The work is done even if the caller stops waiting.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&mut Worker) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (done, result) = oneshot::channel();
        let job = Job::Run(Box::new(move |worker| {
            // A result that nobody waits for is dropped here; a delivery in it gives itself back.
            let _unwanted = done.send(work(worker));
        }));
        self.jobs.send(job).map_err(|_| Error::Closed)?;
        let result = result.await.map_err(|_| Error::Closed)?;
        result.map_err(|source| Error::Sqlite { path: self.path.to_path_buf(), action, source })
    }

    /// Runs work whose result nobody waits for. On a closed connection it is not done, and need not be.
    pub(super) fn post(&self, work: impl FnOnce(&mut Worker) + Send + 'static) {
        let _closed = self.jobs.send(Job::Run(Box::new(work)));
    }

    pub(super) fn wake_waiters(&self) {
        self.changed.notify_waiters();
    }

    /// Repeats a look until it finds something: at once after our own changes, else every `poll`.
    pub(super) async fn wait_for<T, F>(&self, mut look: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        loop {
            // Registered before looking, so that no change in between is missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look().await? {
                return Ok(found);
            }
            let _either = tokio::time::timeout(self.poll(), changed).await;
        }
    }

    /// Releases what we hold and ends the thread. Work that was given before is done first.
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.send(Job::Close(done)).is_ok() {
            let _ended = closed.await;
        }
        self.wake_waiters();
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("path", &self.path)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Worker {
    fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        let connection = schema::open(path, options.busy)?;
        let owner = connection
            .query_row("SELECT lower(hex(randomblob(16)))", [], |row| row.get(0))
            .map_err(|source| Error::Sqlite { path: path.to_owned(), action: "open it", source })?;
        Ok(Self { connection, owner, lease: options.lease })
    }

    fn serve(mut self, jobs: &mpsc::Receiver<Job>) {
        // Three tries before a lease ends.
        let interval = self.lease / 3;
        let mut renewal = Instant::now() + interval;
        let closer = loop {
            match jobs.recv_timeout(renewal.saturating_duration_since(Instant::now())) {
                Ok(Job::Run(work)) => work(&mut self),
                Ok(Job::Close(done)) => break Some(done),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
            }
            if Instant::now() >= renewal {
                if let Err(error) = self.renew_leases() {
                    tracing::warn!(%error, "cannot renew the leases of the queue; the next try follows");
                }
                renewal = Instant::now() + interval;
            }
        };
        if let Err(error) = self.release_leases() {
            tracing::warn!(%error, "cannot release the leases of the queue; they will end by themselves");
        }
        drop(self);
        if let Some(closer) = closer {
            let _gone = closer.send(());
        }
    }
}

/// Unix milliseconds. The wall clock, because several processes compare it and it goes on over a restart.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
