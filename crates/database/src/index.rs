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
use std::hash::{DefaultHasher, Hash, Hasher};

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

/// Tells an object from another of the same name: a hash of its size and entity tag, or age where the store gives no
/// tag. Stores give the age to another precision when they list than when they read, so the tag goes first.
fn stamp(size: u64, e_tag: Option<&str>, modified: DateTime<Utc>) -> u64 {
    let mut hash = DefaultHasher::new();
    match e_tag {
        // Some servers quote the tag in one answer and not in another.
        Some(tag) => (size, tag.trim_matches('"')).hash(&mut hash),
        // The table keeps microseconds, some stores know nanoseconds.
        None => (size, modified.timestamp_micros()).hash(&mut hash),
    }
    hash.finish()
}

impl FoldedRow {
    fn new(meta: &ObjectMeta, content: &[u8]) -> Self {
        Self {
            path: meta.location.to_string(),
            size_bytes: meta.size as i64,
            modified: meta.last_modified,
            e_tag: meta.e_tag.clone(),
            marker_json: String::from_utf8_lossy(content).into_owned(),
        }
    }

    fn stamp(&self) -> u64 {
        stamp(self.size_bytes as u64, self.e_tag.as_deref(), self.modified)
    }
}

/// Listed markers of a kind that were not read yet. Ids that are hashes are kept as their 32 bytes: a listing of
/// hundreds of thousands of paths would be most of the memory of a start.
#[derive(Default)]
struct Unread {
    hashes: HashMap<[u8; 32], u64>,
    /// Markers of imports, and whatever else is named freely.
    others: HashMap<String, u64>,
}

impl Unread {
    fn id(path: &str) -> Option<&str> {
        path.rsplit('/').next()?.strip_suffix(".json")
    }

    fn hash(id: &str) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        // Upper-case digits would be read as the same bytes, and are another name.
        let is_plain = !id.bytes().any(|byte| byte.is_ascii_uppercase());
        (is_plain && hex::decode_to_slice(id, &mut hash).is_ok()).then_some(hash)
    }

    fn add(&mut self, meta: &ObjectMeta) {
        let Some(id) = Self::id(meta.location.as_ref()) else { return };
        let stamp = stamp(meta.size, meta.e_tag.as_deref(), meta.last_modified);
        if let Some(hash) = Self::hash(id) {
            self.hashes.insert(hash, stamp);
        } else if check_name("task id", id).is_ok() {
            // No marker of ours has a name that breaks the rule.
            self.others.insert(id.to_owned(), stamp);
        }
    }

    /// Strikes a marker off where the row holds it as it was listed.
    fn strike(&mut self, row: &FoldedRow) -> bool {
        let Some(id) = Self::id(&row.path) else { return false };
        let listed = Some(row.stamp());
        match Self::hash(id) {
            Some(hash) => self.hashes.get(&hash).copied() == listed && self.hashes.remove(&hash).is_some(),
            None => self.others.get(id).copied() == listed && self.others.remove(id).is_some(),
        }
    }

    fn into_ids(self) -> impl Iterator<Item = String> {
        self.hashes.into_keys().map(hex::encode).chain(self.others.into_keys())
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
        let mut unread = Unread::default();
        self.list_sharded(&format!("done/{kind}"), |meta| unread.add(&meta)).await?;
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
                if unread.strike(&row) {
                    visit(parse_json(&row.path, "commit marker", row.marker_json.as_bytes())?);
                }
            }
        }
        let mut folding = Folding::after(self, kind, &indices);
        let mut fresh = futures::stream::iter(unread.into_ids())
            .map(|id| async move { self.fresh_marker(kind, &id).await })
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
        let path = marker_path(kind, id)?;
        let Some((meta, content)) = self.get_with_meta(&path).await? else { return Ok(None) };
        let marker = parse_json(&path, "commit marker", &content)?;
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::sha256_hex;

    /// What tells one object of a name from another: size, entity tag, age in microseconds.
    type Version = (u64, Option<u8>, i64);

    fn version() -> impl Strategy<Value = Version> {
        (1..3_u64, proptest::option::of(0..2_u8), 0..2_i64)
    }

    /// Ids as tasks have them, ids as imports have them, and one that differs from a hash in nothing but its case.
    fn id(number: u8) -> String {
        let hash = sha256_hex(&[number / 3]);
        match number % 3 {
            0 => hash,
            1 => hash.to_ascii_uppercase(),
            _ => format!("import-{number}"),
        }
    }

    fn object(number: u8, (size, tag, age): Version) -> ObjectMeta {
        ObjectMeta {
            location: marker_path("evaluate", &id(number)).unwrap().into(),
            last_modified: DateTime::from_timestamp_micros(age).unwrap(),
            size,
            e_tag: tag.map(|tag| format!("\"{tag}\"")),
            version: None,
        }
    }

    proptest! {
        #[test]
        fn a_row_counts_exactly_where_the_listing_shows_the_object_that_was_folded(
            listed in proptest::collection::btree_map(0..12_u8, version(), 0..12),
            folded in proptest::collection::vec((0..12_u8, version()), 0..24),
        ) {
            let mut unread = Unread::default();
            for (number, version) in &listed {
                // A listing that broke off begins anew.
                unread.add(&object(*number, (9, None, 9)));
                unread.add(&object(*number, *version));
            }
            let mut left: BTreeSet<u8> = listed.keys().copied().collect();
            for (number, version) in folded {
                // With a tag the age says nothing: a listing may give it to another precision.
                let same = |(size, tag, age): Version| match tag {
                    Some(_) => (size, tag, None),
                    None => (size, tag, Some(age)),
                };
                let is_listed = listed.get(&number).is_some_and(|listed| same(*listed) == same(version));
                let row = FoldedRow::new(&object(number, version), b"{}");
                prop_assert_eq!(unread.strike(&row), is_listed && left.remove(&number));
            }
            let ids: BTreeSet<String> = unread.into_ids().collect();
            prop_assert_eq!(ids, left.into_iter().map(id).collect());
        }
    }

    #[test]
    fn what_lies_beside_the_markers_is_none() {
        let mut unread = Unread::default();
        let beside =
            ["done/evaluate/ab/notes.txt", "done/evaluate/ab/.hidden.json", "done/evaluate/a b.json"];
        for path in beside {
            let location = object_store::path::Path::parse(path).unwrap();
            unread.add(&ObjectMeta { location, ..object(0, (1, None, 0)) });
        }
        assert_eq!(unread.into_ids().count(), 0);
    }
}
