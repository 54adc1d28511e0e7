//! The layout of the file, and the checks before it is used.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::{Error, Result};

/// `MD2Q`: tells our files from other programs' databases.
const APPLICATION: i64 = 0x4d44_3251;

/// Raised when the tables change; a file of another layout is refused, for queues need no migration: drain them.
const LAYOUT: i64 = 1;

/// **Invariants:** a message has all three lease columns or none; `deliveries` only grows, so
/// (`seq`, `deliveries`) names one giving-out for ever. `AUTOINCREMENT` keeps numbers from coming back after
/// deletions, which listeners' cursors rely on. Times are Unix milliseconds.
const TABLES: &str = "
    CREATE TABLE messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        lane TEXT NOT NULL,
        pipeline TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        headers TEXT NOT NULL,
        deliveries INTEGER NOT NULL DEFAULT 0,
        lease_owner TEXT,
        lease_start INTEGER,
        lease_until INTEGER,
        CHECK ((lease_owner IS NULL) = (lease_start IS NULL) AND (lease_owner IS NULL) = (lease_until IS NULL))
    ) STRICT;
    CREATE INDEX messages_waiting ON messages (lane, seq) WHERE lease_owner IS NULL;
    CREATE INDEX messages_leased ON messages (lane, seq) WHERE lease_owner IS NOT NULL;
    CREATE INDEX messages_of_owner ON messages (lease_owner) WHERE lease_owner IS NOT NULL;
    CREATE TABLE dead_letters (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        lane TEXT NOT NULL,
        pipeline TEXT NOT NULL,
        id TEXT NOT NULL,
        body BLOB NOT NULL,
        headers TEXT NOT NULL,
        at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX dead_letters_of_pipeline ON dead_letters (pipeline);
    CREATE TABLE notices (seq INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX notices_of_pipeline ON notices (pipeline, seq);
    CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, pipeline TEXT NOT NULL, body BLOB NOT NULL) STRICT;
    CREATE INDEX events_of_pipeline ON events (pipeline, seq);
";

/// Opens the file, and creates folder, file and tables where they are missing.
pub(super) fn open(path: &Path, busy: Duration) -> Result<Connection> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            action: "create the folder",
            path: folder.to_owned(),
            source,
        })?;
    }
    let fail = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::ForeignFile { path: path.to_owned() },
        _ => Error::Sqlite { path: path.to_owned(), action: "open it", source },
    };
    let mut connection = Connection::open(path).map_err(fail)?;
    connection.busy_timeout(busy).map_err(fail)?;
    create_tables(path, &mut connection)?;
    switch_to_write_ahead_log(&connection, busy).map_err(fail)?;
    // FULL: a confirmed message survives a loss of power, not only the end of the process.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fail)?;
    Ok(connection)
}

fn create_tables(path: &Path, connection: &mut Connection) -> Result<()> {
    let fail = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::ForeignFile { path: path.to_owned() },
        _ => Error::Sqlite { path: path.to_owned(), action: "create its tables", source },
    };
    // The check and the creation are one transaction, for two processes may meet a new file together.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fail)?;
    let application: i64 =
        transaction.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(fail)?;
    let layout: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(fail)?;
    let objects: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0)).map_err(fail)?;
    if application == APPLICATION {
        if layout == LAYOUT {
            return Ok(());
        }
        return Err(Error::Layout { path: path.to_owned(), found: layout, known: LAYOUT });
    }
    if application != 0 || layout != 0 || objects != 0 {
        return Err(Error::ForeignFile { path: path.to_owned() });
    }
    transaction.execute_batch(TABLES).map_err(fail)?;
    transaction.pragma_update(None, "application_id", APPLICATION).map_err(fail)?;
    transaction.pragma_update(None, "user_version", LAYOUT).map_err(fail)?;
    transaction.commit().map_err(fail)
}

/// The switch needs the file alone for a moment, and SQLite does not use its busy handler for it.
fn switch_to_write_ahead_log(connection: &Connection, busy: Duration) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        let switched = connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()));
        match switched {
            Err(error) if waited < busy && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                std::thread::sleep(PAUSE);
                waited += PAUSE;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Duration = Duration::from_secs(5);

    #[test]
    fn a_file_of_a_newer_layout_is_refused_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let connection = open(&path, BUSY).unwrap();
        connection.pragma_update(None, "user_version", LAYOUT + 1).unwrap();
        let error = open(&path, BUSY).unwrap_err();
        assert!(matches!(error, Error::Layout { found: 2, known: 1, .. }), "{error}");
    }

    #[test]
    fn other_programs_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("theirs.db");
        Connection::open(&database).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        let text = folder.path().join("notes.txt");
        std::fs::write(&text, "not a database, but long enough to look like a page of something else")
            .unwrap();
        for path in [database, text] {
            let before = std::fs::read(&path).unwrap();
            let error = open(&path, BUSY).unwrap_err();
            assert!(matches!(error, Error::ForeignFile { .. }), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), before);
        }
    }

    #[test]
    fn many_may_create_the_file_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/queue.db");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| open(&path, BUSY).unwrap());
            }
        });
    }
}
