//! What is checked of the rows of a snapshot: keys, ranges and references.
//!
//! Nulls where none may be cannot occur: a file with one is not written, and not read. Counts come from the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::tables;
use crate::{Result, TableRow, decode};

/// What was seen of the tables so far.
#[derive(Default)]
pub(crate) struct Inspection {
    tables: BTreeMap<&'static str, Seen>,
    /// Tables of which a file could not be read: what refers to them proves nothing.
    incomplete: BTreeSet<String>,
}

#[derive(Default)]
struct Seen {
    /// Hashes of keys: 16 bytes each, since a table may have tens of millions of rows.
    keys: HashSet<[u8; 16]>,
    doubled: Examples,
    out_of_range: Examples,
    /// Column → its distinct values, for columns that are part of a reference.
    values: HashMap<&'static str, HashSet<String>>,
}

/// How often a rule is broken, and the first case.
#[derive(Default)]
struct Examples {
    count: u64,
    first: String,
}

impl Examples {
    fn add(&mut self, example: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = example();
        }
        self.count += 1;
    }
}

/// Takes in one file of a table, and returns the number of its rows.
pub(crate) fn inspect<T: TableRow>(inspection: &mut Inspection, path: &str, file: Bytes) -> Result<u64> {
    let rows = decode::<T>(path, file)?;
    let count = rows.len() as u64;
    let seen = inspection.tables.entry(T::NAME).or_default();
    let columns = referring_columns(T::NAME);
    for row in rows {
        let key = row.key();
        let digest = Sha256::digest(key.as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        if !seen.keys.insert(short) {
            seen.doubled.add(|| key.clone());
        }
        if let Some(message) = row.out_of_range() {
            seen.out_of_range.add(|| format!("{message}, in row `{key}`"));
        }
        for column in &columns {
            if let Some(value) = row.text_of(column) {
                let values = seen.values.entry(column).or_default();
                if !values.contains(&value) {
                    values.insert(value);
                }
            }
        }
    }
    Ok(count)
}

/// Columns of a table that refer to another, or that another refers to.
fn referring_columns(table: &str) -> Vec<&'static str> {
    let mut columns = Vec::new();
    for other in tables::all() {
        for reference in other.references {
            if other.name == table {
                columns.push(reference.column);
            }
            if reference.table == table {
                columns.push(reference.key);
            }
        }
    }
    columns.sort_unstable();
    columns.dedup();
    columns
}

impl Inspection {
    /// A file of this table could not be taken in.
    pub(crate) fn lacks_a_file_of(&mut self, table: &str) {
        self.incomplete.insert(table.to_owned());
    }

    /// Every broken rule of the given tables, one message each.
    pub(crate) fn violations<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut violations = Vec::new();
        for name in names {
            let Some(seen) = self.tables.get(name) else { continue };
            if seen.doubled.count > 0 {
                let (count, first) = (seen.doubled.count, &seen.doubled.first);
                violations
                    .push(format!("`{name}` holds {count} rows with a key it already has, first `{first}`"));
            }
            if seen.out_of_range.count > 0 {
                let (count, first) = (seen.out_of_range.count, &seen.out_of_range.first);
                violations
                    .push(format!("`{name}` holds {count} rows with a value out of range, first {first}"));
            }
            violations.extend(self.dangling(name, seen));
        }
        violations
    }

    /// References of a table to rows that the snapshot does not have.
    fn dangling(&self, name: &str, seen: &Seen) -> Vec<String> {
        let table = tables::all().into_iter().find(|table| table.name == name);
        let references = table.map(|table| table.references).unwrap_or_default();
        let nothing = HashSet::new();
        references
            .iter()
            .filter(|reference| !self.incomplete.contains(reference.table))
            .filter_map(|reference| {
                let needed = seen.values.get(reference.column)?;
                let target = self.tables.get(reference.table);
                let present = target.and_then(|target| target.values.get(reference.key)).unwrap_or(&nothing);
                let first = needed.iter().filter(|value| !present.contains(*value)).min()?;
                let count = needed.difference(present).count();
                Some(format!(
                    "`{name}`.`{}` holds {count} values that `{}`.`{}` lacks, first `{first}`",
                    reference.column, reference.table, reference.key
                ))
            })
            .collect()
    }
}
