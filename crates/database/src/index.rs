//! Folded markers: `index/<kind>/<n>.parquet`, so that reading 200,000 markers takes hundreds of requests.
//!
//! The listing of the markers themselves stays the truth. An index only spares reading those that it holds and that
//! are, by size and age, still the objects that were folded. So a lost, damaged or old index costs time and nothing
//! else, and a marker that was removed or replaced never comes back.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

use crate::content::CONCURRENT_REQUESTS;
use crate::store::parse_json;
use crate::table::table;
use crate::tables::NOT_NEGATIVE;
use crate::{Access, Entry, Marker, Result, Store, decode, encode};

/// So many markers that had to be read one by one are worth an index file.
const FOLD_AT: usize = 500;

table! {
    /// One row per folded commit marker.
    pub(crate) struct FoldedRow in "index", version 1;
    order(path);
    key(path);
    references();
    columns {
        /// Path of the marker.
        measured path: String;
        /// Size of the marker when it was folded, in bytes.
        measured size_bytes: i64 = NOT_NEGATIVE;
        /// Age of the marker when it was folded, by the store's clock.
        measured modified: DateTime<Utc>;
        /// The marker, as JSON.
        measured marker_json: String;
    }
}

impl FoldedRow {
    /// Whether the object is the one that was folded.
    fn is(&self, entry: &Entry) -> bool {
        // The table keeps microseconds, some stores know nanoseconds.
        self.size_bytes == entry.size as i64
            && self.modified.timestamp_micros() == entry.modified.timestamp_micros()
    }
}

/// After the highest: an earlier file may have been removed.
fn next_number(indices: &[Entry]) -> u32 {
    let numbers = indices
        .iter()
        .filter_map(|entry| entry.path.rsplit('/').next()?.strip_suffix(".parquet")?.parse::<u32>().ok());
    numbers.max().map_or(0, |highest| highest + 1)
}

impl Store {
    /// The markers at these listed paths; those removed meanwhile are left out.
    ///
    /// Where many had to be read one by one, and the store is open for writing, they are folded for the next time.
    pub(crate) async fn read_markers(&self, kind: &str, entries: Vec<Entry>) -> Result<Vec<Marker>> {
        let folder = format!("index/{kind}/");
        let indices = self.list(&folder).await?;
        let known = self.read_index(&indices).await;
        let mut markers = Vec::with_capacity(entries.len());
        let mut unfolded = Vec::new();
        for entry in entries {
            match known.get(&entry.path).filter(|row| row.is(&entry)) {
                Some(row) => {
                    markers.push(parse_json(&entry.path, "commit marker", row.marker_json.as_bytes())?);
                }
                None => unfolded.push(entry),
            }
        }
        let read: Vec<Option<(FoldedRow, Marker)>> = futures::stream::iter(unfolded)
            .map(|entry| async move {
                let Some(bytes) = self.get(&entry.path).await? else { return Ok(None) };
                let marker: Marker = parse_json(&entry.path, "commit marker", &bytes)?;
                let row = FoldedRow {
                    path: entry.path,
                    size_bytes: entry.size as i64,
                    modified: entry.modified,
                    marker_json: String::from_utf8_lossy(&bytes).into_owned(),
                };
                Ok::<_, crate::Error>(Some((row, marker)))
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        let (rows, fresh): (Vec<FoldedRow>, Vec<Marker>) = read.into_iter().flatten().unzip();
        if rows.len() >= FOLD_AT && self.access() == Access::ReadWrite {
            self.fold(&folder, next_number(&indices), &rows).await;
        }
        markers.extend(fresh);
        Ok(markers)
    }

    /// Every row of every index file; files that cannot be read are skipped, since the markers are still there.
    async fn read_index(&self, indices: &[Entry]) -> HashMap<String, FoldedRow> {
        let files: Vec<(String, Result<Vec<FoldedRow>>)> = futures::stream::iter(indices)
            .map(|entry| async move {
                let rows = async {
                    self.get(&entry.path).await?.map_or(Ok(Vec::new()), |file| decode(&entry.path, file))
                };
                (entry.path.clone(), rows.await)
            })
            .buffered(CONCURRENT_REQUESTS)
            .collect()
            .await;
        let mut folded = HashMap::new();
        for (path, rows) in files {
            match rows {
                Ok(rows) => folded.extend(rows.into_iter().map(|row| (row.path.clone(), row))),
                Err(error) => {
                    tracing::warn!(path, %error, "an index of markers is skipped; they are read one by one");
                }
            }
        }
        folded
    }

    /// A rival that folds at the same moment takes the number first: then theirs is as good.
    async fn fold(&self, folder: &str, number: u32, rows: &[FoldedRow]) {
        let path = format!("{folder}{number:06}.parquet");
        let written = match encode(rows) {
            Ok(file) => self.put_if_absent(&path, file).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => tracing::debug!(path, markers = rows.len(), "folded commit markers"),
            Err(error) => {
                tracing::warn!(path, %error, "commit markers were not folded; reading them again takes longer");
            }
        }
    }
}
