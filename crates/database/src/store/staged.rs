//! What killed programs leave behind in a local folder.
//!
//! The local store writes to `NAME#1` and then links or renames it, so a kill leaves at worst such a file. No listing
//! shows it and no writer minds it, but it takes room. Buckets have no such files.

use std::path::Path;

use chrono::{DateTime, Utc};

use crate::store::{Access, Store};
use crate::{Error, Result};

impl Store {
    /// Removes staged files last written before `before`, by the store's clock, and returns their number and bytes.
    ///
    /// `before` must be old enough that no living program still writes them: a day is plenty. Anywhere but in a
    /// local folder there is nothing to remove.
    pub async fn sweep_staged(&self, before: DateTime<Utc>) -> Result<(u64, u64)> {
        self.look_at_staged(before, true).await
    }

    /// Counts such files, and removes them if told to.
    pub(crate) async fn look_at_staged(&self, before: DateTime<Utc>, remove: bool) -> Result<(u64, u64)> {
        if remove && self.access == Access::ReadOnly {
            return Err(Error::ReadOnly { url: self.url.clone(), path: "staged files".to_owned() });
        }
        let Some(folder) = self.folder.clone() else { return Ok((0, 0)) };
        let swept = tokio::task::spawn_blocking(move || {
            let mut found = (0, 0);
            sweep(&folder, before, remove, &mut found).map(|()| found)
        });
        let failed = |source: std::io::Error| Error::Storage {
            action: "sweep staged files of",
            path: self.url.clone(),
            source: object_store::Error::Generic { store: "local folder", source: source.into() },
        };
        swept.await.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)
    }
}

fn sweep(folder: &Path, before: DateTime<Utc>, remove: bool, found: &mut (u64, u64)) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sweep(&entry.path(), before, remove, found)?;
        } else if kind.is_file() && is_staged(&entry.file_name().to_string_lossy()) {
            let metadata = entry.metadata()?;
            if DateTime::<Utc>::from(metadata.modified()?) < before {
                if remove {
                    std::fs::remove_file(entry.path())?;
                }
                *found = (found.0 + 1, found.1 + metadata.len());
            }
        }
    }
    Ok(())
}

/// `NAME#digits`, which no name of ours can be: see `names`.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
