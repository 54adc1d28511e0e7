//! The SQL. Every function is one transaction.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, TransactionBehavior, named_params, params, types::Type};

use super::thread::{Worker, now};
use crate::{EVENT_CAPACITY, Message};

/// Listeners look every few milliseconds, so this many notices are more than enough.
const NOTICE_CAPACITY: u32 = 1_000;

/// A lease that began this far in the future was written before the clock was set back: it has ended.
const CLOCK_TOLERANCE_MS: i64 = 60_000;

/// How many events a reader fetches in one transaction.
const EVENT_BATCH: u32 = 100;

/// The condition under which a lease no longer protects its message.
const ENDED: &str = "(lease_until <= :now OR lease_start > :now + :tolerance)";

/// A message with its headers as JSON text.
pub(super) struct Stored {
    id: String,
    body: Vec<u8>,
    headers: String,
}

impl From<&Message> for Stored {
    fn from(message: &Message) -> Self {
        // Text keys and values always become an object.
        let headers = serde_json::json!(message.headers).to_string();
        Self { id: message.id.clone(), body: message.body.clone(), headers }
    }
}

/// A message that was just given to us. (`seq`, `giving`) is the key that answers it.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) key: ClaimKey,
    pub(super) message: Message,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ClaimKey {
    seq: i64,
    /// How often the message was given out, this time included.
    pub(super) giving: i64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum News {
    Notices,
    Events,
}

impl Worker {
    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        // Immediate: a transaction that starts by reading and then writes can fail at once when another writes.
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    pub(super) fn publish(
        &mut self,
        lane: &str,
        pipeline: &str,
        messages: &[Stored],
    ) -> rusqlite::Result<()> {
        let transaction = self.begin()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO messages (lane, pipeline, id, body, headers) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for message in messages {
                insert.execute(params![lane, pipeline, message.id, message.body, message.headers])?;
            }
        }
        transaction.commit()
    }

    /// Gives us the first message of the first lane that has one.
    pub(super) fn claim(&mut self, lanes: &[String]) -> rusqlite::Result<Option<Claimed>> {
        // Looking first, without a lock, keeps the many waiting takers from disturbing those who write.
        if !lanes
            .iter()
            .try_fold(false, |found, lane| Ok::<_, rusqlite::Error>(found || self.find(lane)?.is_some()))?
        {
            return Ok(None);
        }
        let (owner, lease) = (self.owner.clone(), self.lease);
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let transaction = self.begin()?;
        for lane in lanes {
            let Some(seq) = find(&transaction, lane)? else { continue };
            let now = now();
            let claimed = transaction
                .prepare_cached(
                    "UPDATE messages SET deliveries = deliveries + 1, lease_owner = ?2, lease_start = ?3, lease_until = ?4
                     WHERE seq = ?1 RETURNING seq, deliveries, id, body, headers",
                )?
                .query_row(params![seq, owner, now, now.saturating_add(lease)], read_claimed)?;
            transaction.commit()?;
            return Ok(Some(claimed));
        }
        Ok(None)
    }

    fn find(&self, lane: &str) -> rusqlite::Result<Option<i64>> {
        find(&self.connection, lane)
    }

    pub(super) fn acknowledge(&mut self, key: ClaimKey) -> rusqlite::Result<bool> {
        let deleted = self
            .connection
            .prepare_cached("DELETE FROM messages WHERE seq = ?1 AND deliveries = ?2 AND lease_owner = ?3")?
            .execute(params![key.seq, key.giving, self.owner])?;
        Ok(deleted == 1)
    }

    pub(super) fn give_back(&mut self, key: ClaimKey) -> rusqlite::Result<bool> {
        let released = self
            .connection
            .prepare_cached(
                "UPDATE messages SET lease_owner = NULL, lease_start = NULL, lease_until = NULL
                 WHERE seq = ?1 AND deliveries = ?2 AND lease_owner = ?3",
            )?
            .execute(params![key.seq, key.giving, self.owner])?;
        Ok(released == 1)
    }

    pub(super) fn dead_letter(&mut self, key: ClaimKey) -> rusqlite::Result<bool> {
        let owner = self.owner.clone();
        let transaction = self.begin()?;
        let copied = transaction.execute(
            "INSERT INTO dead_letters (lane, pipeline, id, body, headers, at)
             SELECT lane, pipeline, id, body, headers, ?4 FROM messages
             WHERE seq = ?1 AND deliveries = ?2 AND lease_owner = ?3",
            params![key.seq, key.giving, owner, now()],
        )?;
        if copied == 0 {
            return Ok(false);
        }
        transaction.execute("DELETE FROM messages WHERE seq = ?1", [key.seq])?;
        transaction.commit()?;
        Ok(true)
    }

    pub(super) fn renew_leases(&mut self) -> rusqlite::Result<()> {
        let held = self
            .connection
            .prepare_cached("SELECT 1 FROM messages WHERE lease_owner = ?1 LIMIT 1")?
            .exists([&self.owner])?;
        if held {
            let now = now();
            let until = now.saturating_add(i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX));
            // Also a lease that has ended, if nobody took the message meanwhile: it is still ours.
            self.connection
                .prepare_cached(
                    "UPDATE messages SET lease_start = ?2, lease_until = ?3 WHERE lease_owner = ?1",
                )?
                .execute(params![self.owner, now, until])?;
        }
        Ok(())
    }

    pub(super) fn release_leases(&mut self) -> rusqlite::Result<()> {
        self.connection.execute(
            "UPDATE messages SET lease_owner = NULL, lease_start = NULL, lease_until = NULL WHERE lease_owner = ?1",
            [&self.owner],
        )?;
        Ok(())
    }

    pub(super) fn ready(&mut self, lane: &str) -> rusqlite::Result<u64> {
        let sql =
            format!("SELECT count(*) FROM messages WHERE lane = :lane AND (lease_owner IS NULL OR {ENDED})");
        let values = named_params! {":lane": lane, ":now": now(), ":tolerance": CLOCK_TOLERANCE_MS};
        self.connection.prepare_cached(&sql)?.query_row(values, read_count)
    }

    pub(super) fn purge(&mut self, lane: &str) -> rusqlite::Result<u64> {
        let sql = format!("DELETE FROM messages WHERE lane = :lane AND (lease_owner IS NULL OR {ENDED})");
        let values = named_params! {":lane": lane, ":now": now(), ":tolerance": CLOCK_TOLERANCE_MS};
        Ok(self.connection.execute(&sql, values)? as u64)
    }

    pub(super) fn dead_letters(&mut self, pipeline: &str) -> rusqlite::Result<u64> {
        self.connection.query_row(
            "SELECT count(*) FROM dead_letters WHERE pipeline = ?1",
            [pipeline],
            read_count,
        )
    }

    pub(super) fn purge_dead_letters(&mut self, pipeline: &str) -> rusqlite::Result<u64> {
        Ok(self.connection.execute("DELETE FROM dead_letters WHERE pipeline = ?1", [pipeline])? as u64)
    }

    /// Adds an item and drops the oldest beyond the capacity.
    pub(super) fn add_news(&mut self, news: News, pipeline: &str, item: &[u8]) -> rusqlite::Result<()> {
        let (table, capacity) = match news {
            News::Notices => ("notices", NOTICE_CAPACITY),
            News::Events => ("events", EVENT_CAPACITY),
        };
        let transaction = self.begin()?;
        transaction
            .prepare_cached(&format!("INSERT INTO {table} (pipeline, body) VALUES (?1, ?2)"))?
            .execute(params![pipeline, item])?;
        transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE pipeline = ?1 AND seq <=
                 (SELECT seq FROM {table} WHERE pipeline = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)"
            ))?
            .execute(params![pipeline, capacity])?;
        transaction.commit()
    }

    /// The number of the newest notice ever sent, even if it was dropped.
    pub(super) fn last_notice(&mut self) -> rusqlite::Result<i64> {
        let last = self
            .connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'notices'", [], |row| row.get(0))
            .optional()?;
        Ok(last.unwrap_or(0))
    }

    pub(super) fn notices_after(
        &mut self,
        pipeline: &str,
        seq: i64,
    ) -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
        self.connection
            .prepare_cached("SELECT seq, body FROM notices WHERE pipeline = ?1 AND seq > ?2 ORDER BY seq")?
            .query_map(params![pipeline, seq], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect()
    }

    /// Removes the oldest events and returns them in order.
    pub(super) fn take_events(&mut self, pipeline: &str) -> rusqlite::Result<Vec<Vec<u8>>> {
        let waiting = self
            .connection
            .prepare_cached("SELECT 1 FROM events WHERE pipeline = ?1 LIMIT 1")?
            .exists([pipeline])?;
        if !waiting {
            return Ok(Vec::new());
        }
        let transaction = self.begin()?;
        let rows: Vec<(i64, Vec<u8>)> = transaction
            .prepare_cached("SELECT seq, body FROM events WHERE pipeline = ?1 ORDER BY seq LIMIT ?2")?
            .query_map(params![pipeline, EVENT_BATCH], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if let Some((last, _)) = rows.last() {
            transaction
                .prepare_cached("DELETE FROM events WHERE pipeline = ?1 AND seq <= ?2")?
                .execute(params![pipeline, last])?;
        }
        transaction.commit()?;
        Ok(rows.into_iter().map(|(_, body)| body).collect())
    }
}

/// The first message of a lane that may be given out: what lost its taker first, then what waits.
fn find(connection: &rusqlite::Connection, lane: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!(
        "SELECT seq FROM messages WHERE lane = :lane AND lease_owner IS NOT NULL AND {ENDED} ORDER BY seq LIMIT 1"
    );
    let values = named_params! {":lane": lane, ":now": now(), ":tolerance": CLOCK_TOLERANCE_MS};
    let orphan = connection.prepare_cached(&sql)?.query_row(values, |row| row.get(0)).optional()?;
    if orphan.is_some() {
        return Ok(orphan);
    }
    connection
        .prepare_cached(
            "SELECT seq FROM messages WHERE lane = ?1 AND lease_owner IS NULL ORDER BY seq LIMIT 1",
        )?
        .query_row([lane], |row| row.get(0))
        .optional()
}

/// SQLite has no unsigned numbers; a count is never negative.
fn read_count(row: &Row<'_>) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(0)? as u64)
}

fn read_claimed(row: &Row<'_>) -> rusqlite::Result<Claimed> {
    let headers: String = row.get(4)?;
    let headers: BTreeMap<String, String> = serde_json::from_str(&headers)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(4, Type::Text, Box::new(error)))?;
    Ok(Claimed {
        key: ClaimKey { seq: row.get(0)?, giving: row.get(1)? },
        message: Message { id: row.get(2)?, body: row.get(3)?, headers },
    })
}
