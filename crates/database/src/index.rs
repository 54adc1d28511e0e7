//! Folded markers: `index/<kind>/<n>.parquet`, so that reading 200,000 markers takes hundreds of requests.
//!
//! The listing of the markers themselves stays the truth. An index only spares reading those that it holds and that
//! are, by size and entity tag (or age, where the store gives no tag), still the objects that were folded. So a lost,
//! damaged or old index costs time and nothing else, and a marker that was removed or replaced never comes back.
//!
//! Who folds: whoever reads all markers and finds many that no index holds ([`Store::each_marker`]), and a coordinator
//! while it runs, with the markers that it reads as tasks finish ([`Folding`]). So the next start finds nearly all of
//! them folded.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectMeta;

use crate::commit::marker_path;
use crate::content::CONCURRENT_REQUESTS;
use crate::names::check_name;
use crate::store::parse_json;
use crate::table::table;
use crate::tables::NOT_NEGATIVE;
use crate::{Access, Entry, Marker, Result, Store, decode, encode};

/// Markers of one index file: a few hundred files for 200,000 markers, each read into memory on its own.
const FILE_OF: usize = 1_000;
/// So many markers that had to be read one by one are worth an index file.
const LEAST_FILE: usize = 200;
/// Index files in memory at a time.
const FILES_AHEAD: usize = 4;

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
        /// Entity tag of the marker when it was folded; null where the store gave none.
        measured e_tag: Option<String>;
        /// The marker, as JSON.
        measured marker_json: String;
    }
}

/// A listed marker, to be told from another of the same name.
#[derive(Debug, Clone, PartialEq)]
struct Stamp {
    size: u64,
    modified: DateTime<Utc>,
    e_tag: Option<Box<str>>,
}

impl Stamp {
    fn of(meta: &ObjectMeta) -> Self {
        let e_tag = meta.e_tag.as_deref().map(|tag| tag.trim_matches('"').into());
        Self { size: meta.size, modified: meta.last_modified, e_tag }
    }
}

impl FoldedRow {
    fn new(meta: &ObjectMeta, content: &[u8]) -> Self {
        let stamp = Stamp::of(meta);
        Self {
            path: meta.location.to_string(),
            size_bytes: stamp.size as i64,
            modified: stamp.modified,
            e_tag: stamp.e_tag.map(String::from),
            marker_json: String::from_utf8_lossy(content).into_owned(),
        }
    }

    /// Whether the object is the one that was folded.
    fn is(&self, listed: &Stamp) -> bool {
        // Stores give the age to another precision when they list than when they read, so the tag goes first.
        let same = match (&self.e_tag, &listed.e_tag) {
            (Some(own), Some(listed)) => **own == **listed,
            // The table keeps microseconds, some stores know nanoseconds.
            _ => self.modified.timestamp_micros() == listed.modified.timestamp_micros(),
        };
        same && self.size_bytes == listed.size as i64
    }
}

/// A marker that was read from its own object, and can be folded.
#[derive(Debug, Clone)]
pub struct FreshMarker {
    pub marker: Marker,
    row: FoldedRow,
}

/// After the highest: an earlier file may have been removed.
fn next_number(indices: &[Entry]) -> u32 {
    let numbers = indices
        .iter()
        .filter_map(|entry| entry.path.rsplit('/').next()?.strip_suffix(".parquet")?.parse::<u32>().ok());
    numbers.max().map_or(0, |highest| highest + 1)
}

impl Store {
    /// Reads every marker of a kind, in no order. Those removed meanwhile are left out.
    ///
    /// What no index holds is read one by one and, where it is much and the store is open for writing, folded for the
    /// next time. Memory holds the listing and a few files, whatever the number of markers.
    pub async fn each_marker(&self, kind: &str, mut visit: impl FnMut(Marker)) -> Result<()> {
        check_name("kind of task", kind)?;
        let listed = self.list_sharded(&format!("done/{kind}")).await?;
        let mut unread: HashMap<Box<str>, Stamp> =
            listed.iter().map(|meta| (meta.location.as_ref().into(), Stamp::of(meta))).collect();
        drop(listed);
        let indices = self.list(&format!("index/{kind}/")).await?;
        let mut files = futures::stream::iter(&indices)
            .map(|entry| async move { (&entry.path, self.get(&entry.path).await) })
            .buffer_unordered(FILES_AHEAD);
        while let Some((path, file)) = files.next().await {
            let rows =
                file.and_then(|file| file.map_or(Ok(Vec::new()), |file| decode::<FoldedRow>(path, file)));
            let rows = rows.unwrap_or_else(|error| {
                tracing::warn!(path, %error, "an index of markers is skipped; they are read one by one");
                Vec::new()
            });
            for row in rows {
                if unread.get(row.path.as_str()).is_some_and(|stamp| row.is(stamp)) {
                    unread.remove(row.path.as_str());
                    visit(parse_json(&row.path, "commit marker", row.marker_json.as_bytes())?);
                }
            }
        }
        let mut folding = Folding::after(self, kind, &indices);
        let mut fresh = futures::stream::iter(unread.into_keys())
            .map(|path| async move { self.read_fresh(&path).await })
            .buffer_unordered(CONCURRENT_REQUESTS);
        while let Some(read) = fresh.try_next().await? {
            if let Some(fresh) = read {
                visit(folding.add(fresh).await);
            }
        }
        folding.finish().await;
        Ok(())
    }

    /// The marker of one task, if it is done, ready to be folded.
    pub async fn fresh_marker(&self, kind: &str, id: &str) -> Result<Option<FreshMarker>> {
        self.read_fresh(&marker_path(kind, id)?).await
    }

    async fn read_fresh(&self, path: &str) -> Result<Option<FreshMarker>> {
        let Some((meta, content)) = self.get_with_meta(path).await? else { return Ok(None) };
        let marker = parse_json(path, "commit marker", &content)?;
        Ok(Some(FreshMarker { marker, row: FoldedRow::new(&meta, &content) }))
    }
}

/// Markers on their way into an index.
#[derive(Debug)]
pub struct Folding {
    store: Store,
    pending: BTreeMap<String, Vec<FoldedRow>>,
    /// Number of the next file of a kind, where it is known.
    next: BTreeMap<String, u32>,
}

impl Folding {
    pub fn new(store: &Store) -> Self {
        Self { store: store.clone(), pending: BTreeMap::new(), next: BTreeMap::new() }
    }

    fn after(store: &Store, kind: &str, indices: &[Entry]) -> Self {
        let next = BTreeMap::from([(kind.to_owned(), next_number(indices))]);
        Self { next, ..Self::new(store) }
    }

    /// Takes a marker in, and writes an index file where there are enough of its kind.
    ///
    /// An index that cannot be written costs time at the next start, so that is told in the log and no error.
    pub async fn add(&mut self, fresh: FreshMarker) -> Marker {
        let FreshMarker { marker, row } = fresh;
        if self.store.access() == Access::ReadWrite {
            let pending = self.pending.entry(marker.kind.clone()).or_default();
            pending.push(row);
            if pending.len() >= FILE_OF {
                let rows = std::mem::take(pending);
                self.fold(&marker.kind, rows).await;
            }
        }
        marker
    }

    /// Writes what is left, where it is much.
    pub async fn finish(mut self) {
        for (kind, rows) in std::mem::take(&mut self.pending) {
            if rows.len() >= LEAST_FILE {
                self.fold(&kind, rows).await;
            }
        }
    }

    async fn fold(&mut self, kind: &str, rows: Vec<FoldedRow>) {
        match self.write(kind, &rows).await {
            Ok(()) => tracing::debug!(kind, markers = rows.len(), "folded commit markers"),
            Err(error) => {
                tracing::warn!(kind, %error, "commit markers were not folded; reading them again takes longer");
            }
        }
    }

    async fn write(&mut self, kind: &str, rows: &[FoldedRow]) -> Result<()> {
        let folder = format!("index/{kind}/");
        let file = encode(rows)?;
        let mut number = match self.next.get(kind) {
            Some(number) => *number,
            None => next_number(&self.store.list(&folder).await?),
        };
        // A rival that folds at the same moment may have taken the number.
        while self.store.put_if_absent(&format!("{folder}{number:06}.parquet"), file.clone()).await?
            == crate::Put::Exists
        {
            number += 1;
        }
        self.next.insert(kind.to_owned(), number + 1);
        Ok(())
    }
}
