//! How the tables of two snapshots differ, row by row.
//!
//! A file that both have holds equal rows, so only the others are read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::tables::registry::operations;
use crate::{Result, Snapshot, Store, TableRow, decode};

/// How a table of one snapshot differs from that of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TableChange {
    pub rows_before: u64,
    pub rows_after: u64,
    /// Rows whose key is new.
    pub added: u64,
    /// Rows whose key is gone.
    pub removed: u64,
    /// Rows of the same key that say something else.
    pub changed: u64,
    pub files_before: u64,
    pub files_after: u64,
    /// Files that both hold.
    pub shared_files: u64,
}

/// Hashes of a row's key and of the whole row: 32 bytes, since a table may have tens of millions of rows.
pub(crate) type Fingerprint = ([u8; 16], [u8; 16]);

/// The fingerprints of a file's rows.
pub(crate) fn fingerprints<T: TableRow + Serialize>(path: &str, file: Bytes) -> Result<Vec<Fingerprint>> {
    let of = |row: &T| {
        let content = serde_json::to_vec(row).map_err(|source| crate::Error::Json {
            path: path.to_owned(),
            what: "row",
            source,
        })?;
        Ok((short(row.key().as_bytes()), short(&content)))
    };
    decode::<T>(path, file)?.iter().map(of).collect()
}

fn short(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

impl Store {
    /// How every table of `before` became that of `after`, by table.
    pub async fn compare_tables(
        &self,
        before: &Snapshot,
        after: &Snapshot,
    ) -> Result<BTreeMap<String, TableChange>> {
        let names: BTreeSet<&String> = before.tables.keys().chain(after.tables.keys()).collect();
        let mut changes = BTreeMap::new();
        for name in names {
            let hashes = |snapshot: &Snapshot| -> HashSet<String> {
                snapshot.files(name).into_iter().map(|file| file.sha256).collect()
            };
            let (old, new) = (hashes(before), hashes(after));
            let (gone, come) =
                (self.rows_beside(before, name, &new).await?, self.rows_beside(after, name, &old).await?);
            let (added, removed, changed) = counts(&gone, &come);
            let change = TableChange {
                rows_before: before.rows(name),
                rows_after: after.rows(name),
                added,
                removed,
                changed,
                files_before: old.len() as u64,
                files_after: new.len() as u64,
                shared_files: old.intersection(&new).count() as u64,
            };
            changes.insert(name.clone(), change);
        }
        Ok(changes)
    }

    /// The rows of the files that are not among `shared`.
    async fn rows_beside(
        &self,
        snapshot: &Snapshot,
        table: &str,
        shared: &HashSet<String>,
    ) -> Result<HashMap<[u8; 16], [u8; 16]>> {
        let mut rows = HashMap::new();
        for file in snapshot.files(table).iter().filter(|file| !shared.contains(&file.sha256)) {
            rows.extend((operations(table)?.fingerprints)(&file.path, self.get_data(file).await?)?);
        }
        Ok(rows)
    }
}

/// How many keys were added, removed, and kept with another content.
fn counts(before: &HashMap<[u8; 16], [u8; 16]>, after: &HashMap<[u8; 16], [u8; 16]>) -> (u64, u64, u64) {
    let added = after.keys().filter(|key| !before.contains_key(*key)).count();
    let removed = before.keys().filter(|key| !after.contains_key(*key)).count();
    let changed = before.iter().filter(|(key, row)| after.get(*key).is_some_and(|now| now != *row)).count();
    (added as u64, removed as u64, changed as u64)
}
