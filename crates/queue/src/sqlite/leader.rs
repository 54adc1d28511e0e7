//! Leaderships as locks of the operating system on files beside the database.
//!
//! The system ends such a lock with its process, however the process dies. The file holds the leader's name,
//! for people only; it stays behind unlocked, which is harmless.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::{Error, LeaderGuard, Leadership, Result, leadership::Hold};

/// Somebody who only looks who leads shares the lock for some microseconds; a candidate outwaits that.
const LOOKS_OUTWAITED: u32 = 3;
const LOOK_LASTS: Duration = Duration::from_millis(10);

/// The leaderships of one connection.
#[derive(Debug)]
pub(super) struct Leaders {
    database: PathBuf,
    held: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    files: Mutex<HashMap<String, File>>,
    closed: watch::Sender<bool>,
}

impl Leaders {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, held: Arc::new(Held { files: Mutex::default(), closed: watch::Sender::new(false) }) }
    }

    pub(super) async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership> {
        if *self.held.closed.borrow() {
            return Err(Error::Closed);
        }
        let (path, name) = (self.path(pipeline), holder.to_owned());
        let lock = tokio::task::spawn_blocking(move || {
            lock(&path, &name).map_err(|source| Error::File { action: "lock", path, source })
        });
        match lock.await.map_err(|_| Error::Closed)?? {
            Lock::Theirs(other) => Ok(Leadership::HeldBy(other)),
            Lock::Ours(file) => {
                self.held.files().insert(pipeline.to_owned(), file);
                let hold = SqliteHold { held: Arc::clone(&self.held), pipeline: pipeline.to_owned() };
                Ok(Leadership::Held(LeaderGuard::new(hold)))
            }
        }
    }

    /// The name of the one who leads now.
    pub(super) async fn present(&self, pipeline: &str) -> Result<Option<String>> {
        if *self.held.closed.borrow() {
            return Err(Error::Closed);
        }
        let path = self.path(pipeline);
        let look = tokio::task::spawn_blocking(move || {
            look(&path).map_err(|source| Error::File { action: "read", path, source })
        });
        look.await.map_err(|_| Error::Closed)?
    }

    fn path(&self, pipeline: &str) -> PathBuf {
        let mut path = self.database.clone().into_os_string();
        path.push(format!(".{pipeline}.leader"));
        PathBuf::from(path)
    }

    /// Dropping the files unlocks them.
    pub(super) fn close(&self) {
        self.held.files().clear();
        self.held.closed.send_replace(true);
    }
}

impl Held {
    fn files(&self) -> MutexGuard<'_, HashMap<String, File>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Lock {
    Ours(File),
    Theirs(String),
}

fn lock(path: &Path, holder: &str) -> io::Result<Lock> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut answer = file.try_lock();
    for _ in 0..LOOKS_OUTWAITED {
        if !matches!(answer, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(LOOK_LASTS);
        answer = file.try_lock();
    }
    match answer {
        Ok(()) => {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder.as_bytes())?;
            Ok(Lock::Ours(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut other = String::new();
            file.read_to_string(&mut other)?;
            Ok(Lock::Theirs(other))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Shares the lock for a moment, which only succeeds where nobody leads.
fn look(path: &Path) -> io::Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            Ok(Some(holder))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[derive(Debug)]
struct SqliteHold {
    held: Arc<Held>,
    pipeline: String,
}

#[async_trait]
impl Hold for SqliteHold {
    async fn lost(&self) {
        let mut closed = self.held.closed.subscribe();
        // The sender lives in `held`, so the wait ends only by closing.
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    async fn release(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for SqliteHold {
    fn drop(&mut self) {
        self.held.files().remove(&self.pipeline);
    }
}
