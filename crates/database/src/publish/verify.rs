//! Is a published snapshot still what was published? Everything is read again.

use serde::Serialize;

use crate::models::model_file;
use crate::publish::blocking;
use crate::publish::check::Inspection;
use crate::tables::registry::operations;
use crate::{Error, FileRef, Result, Snapshot, SnapshotTable, Store};

/// A file that is not what it was, or a rule that the rows break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// From the root of the store; none where a rule spans files.
    pub file: Option<String>,
    pub rule: String,
}

/// What a verification has read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Of tables and models.
    pub files: u64,
    pub bytes: u64,
    /// Of all tables.
    pub rows: u64,
    /// Empty where the snapshot is whole.
    pub broken: Vec<Broken>,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(formatter, "`{file}` {}", self.rule),
            None => formatter.write_str(&self.rule),
        }
    }
}

impl Verified {
    fn add(&mut self, file: Option<&FileRef>, rule: String) {
        self.broken.push(Broken { file: file.map(|file| file.path.clone()), rule });
    }
}

impl Store {
    /// Reads every file of a snapshot again: its hash, its columns, its rows, and every rule that held when it was
    /// published (unique keys, ranges, nulls, references, the manifest's counts, the models).
    ///
    /// What refers to a table of which a file is broken is not checked.
    ///
    /// # Errors
    /// Only if the store cannot be asked; whatever is wrong with the snapshot is in the answer.
    pub async fn verify(&self, snapshot: &Snapshot) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut inspection = Inspection::default();
        for (name, table) in &snapshot.tables {
            inspection = self.verify_table(name, table, inspection, &mut verified).await?;
        }
        let names = snapshot.tables.keys().map(String::as_str);
        for rule in inspection.violations(names) {
            verified.add(None, rule);
        }
        for (model, sha256) in &snapshot.models {
            let Some(record) = self.model(&snapshot.pipeline, model, sha256).await? else {
                verified.add(None, format!("model `{model}` with id `{sha256}` is not in the store"));
                continue;
            };
            self.read(&model_file(&snapshot.pipeline, &record)?, &mut verified).await?;
        }
        Ok(verified)
    }

    async fn verify_table(
        &self,
        name: &str,
        table: &SnapshotTable,
        mut inspection: Inspection,
        verified: &mut Verified,
    ) -> Result<Inspection> {
        let Ok(operations) = operations(name) else {
            verified.add(None, format!("table `{name}` is not known to this program: use a newer version"));
            return Ok(inspection);
        };
        let mut counted = Some(0);
        for file in table.files.iter().map(|file| &file.file) {
            let inspected = match self.read(file, verified).await? {
                Some(data) => {
                    let path = file.path.clone();
                    let (after, inspected) = blocking(move || {
                        let inspected = (operations.inspect)(&mut inspection, &path, data);
                        Ok((inspection, inspected))
                    })
                    .await?;
                    inspection = after;
                    match inspected {
                        Ok(rows) => Some(rows),
                        Err(Error::Parquet { rule, .. }) => {
                            verified.add(Some(file), rule);
                            None
                        }
                        Err(error) => return Err(error),
                    }
                }
                None => None,
            };
            match (inspected, file.rows) {
                (Some(found), Some(named)) if found != named => {
                    verified.add(Some(file), format!("has {found} rows, the manifest says {named}"));
                }
                (None, _) => inspection.lacks_a_file_of(name),
                (Some(_), _) => {}
            }
            counted = counted.zip(inspected).map(|(sum, rows)| sum + rows);
        }
        if let Some(found) = counted.filter(|found| *found != table.rows) {
            verified.add(None, format!("`{name}` has {found} rows, the manifest says {}", table.rows));
        }
        verified.rows += counted.unwrap_or_default();
        Ok(inspection)
    }

    /// The content of a file, where it is what it should be.
    async fn read(&self, file: &FileRef, verified: &mut Verified) -> Result<Option<bytes::Bytes>> {
        verified.files += 1;
        match self.get_data(file).await {
            Ok(data) => {
                verified.bytes += data.len() as u64;
                return Ok(Some(data));
            }
            Err(Error::Missing { .. }) => verified.add(Some(file), "is missing from the store".to_owned()),
            Err(Error::Damaged { expected, found, found_bytes, .. }) => {
                let bytes = file.bytes;
                let rule = format!(
                    "has SHA-256 {found} ({found_bytes} bytes), it was stored as {expected} ({bytes} bytes)"
                );
                verified.add(Some(file), rule);
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}
