//! What may be removed from a store. Pure: no listing, no clock.
//!
//! Reachable is what a marker, a decision, a model, an unfinished task's checkpoint or a kept snapshot names, directly
//! or anywhere in its JSON: a path that looks like one of ours is taken for a name, so a form of record that is not
//! known here keeps its files too.
//!
//! **Invariant:** nothing reachable is removed, and nothing younger than the grace.

use std::collections::{BTreeMap, HashSet};
use std::hash::BuildHasher;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::Entry;

/// What there is that could be removed, and what is needed. List first, then read what is needed: so whatever was
/// named before the reading began is in it.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Below `results/`.
    pub results: Vec<Entry>,
    /// Below `checkpoints/`.
    pub checkpoints: Vec<Entry>,
    /// Below `probe/`.
    pub probes: Vec<Entry>,
    /// Below `<pipeline>/tables/`.
    pub tables: Vec<Entry>,
    /// Of the pipeline, by number: the manifest's object, and the files that it names.
    pub snapshots: BTreeMap<u32, (Entry, Vec<String>)>,
    /// Ids of finished tasks.
    pub done: HashSet<String>,
    /// Every path that a record names, see [`names_in`].
    pub named: HashSet<String>,
}

/// The limits of a collection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// By the store's own clock.
    pub now: DateTime<Utc>,
    /// Nothing younger is removed.
    pub grace: TimeDelta,
    /// So many of the newest snapshots are kept; at least the newest one always is.
    pub keep: usize,
}

/// Why something may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The manifest of a snapshot older than those that are kept. Goes before its tables, so that no manifest ever
    /// names a file that is gone.
    OldSnapshot,
    /// A table file that no kept snapshot holds.
    OldTable,
    /// A result that nothing names: of an attempt that was interrupted or lost a race, or long since merged.
    OrphanedResult,
    /// Of a task that is finished.
    SpentCheckpoint,
    /// Left behind by a program that was killed while it looked whether the store can be written.
    Probe,
}

/// An object that may go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Garbage {
    pub path: String,
    pub bytes: u64,
    #[serde(skip)]
    pub modified: DateTime<Utc>,
    pub reason: Reason,
}

/// Everything that may be removed, in the order in which it must be.
pub fn garbage(inventory: &Inventory, limits: Limits) -> Vec<Garbage> {
    let is_old = |entry: &Entry| limits.now - entry.modified >= limits.grace;
    let mut found = Vec::new();
    let mut add = |entry: &Entry, reason| {
        found.push(Garbage { path: entry.path.clone(), bytes: entry.size, modified: entry.modified, reason });
    };

    let mut held: HashSet<&str> = inventory.named.iter().map(String::as_str).collect();
    for (position, (manifest, files)) in inventory.snapshots.values().rev().enumerate() {
        if position < limits.keep.max(1) || !is_old(manifest) {
            held.insert(&manifest.path);
            held.extend(files.iter().map(String::as_str));
        }
    }
    let is_needed = |entry: &Entry| held.contains(entry.path.as_str());
    for (manifest, _) in inventory.snapshots.values() {
        if !is_needed(manifest) {
            add(manifest, Reason::OldSnapshot);
        }
    }
    let folders = [
        (&inventory.tables, Reason::OldTable),
        (&inventory.results, Reason::OrphanedResult),
        (&inventory.probes, Reason::Probe),
    ];
    for (entries, reason) in folders {
        entries
            .iter()
            .filter(|entry| is_old(entry) && !is_needed(entry))
            .for_each(|entry| add(entry, reason));
    }
    for entry in &inventory.checkpoints {
        let is_spent = task_of(&entry.path).is_some_and(|task| inventory.done.contains(task));
        if is_spent && is_old(entry) && !is_needed(entry) {
            add(entry, Reason::SpentCheckpoint);
        }
    }
    found
}

/// `checkpoints/<task id>/…` → the task's id.
pub(super) fn task_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix("checkpoints/")?.split_once('/')?.0)
}

/// Adds every text anywhere in `value` that could be a path of the store.
pub fn names_in<S: BuildHasher>(value: &Value, names: &mut HashSet<String, S>) {
    match value {
        Value::String(text) if text.contains('/') && !text.contains(char::is_whitespace) => {
            names.insert(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| names_in(value, names)),
        Value::Object(values) => values.values().for_each(|value| names_in(value, names)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{hash_set, vec};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const GRACE: TimeDelta = TimeDelta::hours(24);

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn entry(path: String, age_hours: i64) -> Entry {
        Entry { path, size: 10, modified: now() - TimeDelta::hours(age_hours) }
    }

    fn limits(keep: usize) -> Limits {
        Limits { now: now(), grace: GRACE, keep }
    }

    #[derive(Debug, Clone)]
    struct World {
        inventory: Inventory,
        keep: usize,
    }

    fn files(folder: &'static str) -> impl Strategy<Value = Vec<Entry>> {
        vec((0..12_u32, 0..48_i64), 0..12).prop_map(move |files| {
            let mut by_path = BTreeMap::new();
            for (name, age) in files {
                by_path.insert(format!("{folder}/{name}"), age);
            }
            by_path.into_iter().map(|(path, age)| entry(path, age)).collect()
        })
    }

    fn world() -> impl Strategy<Value = World> {
        let checkpoints = vec((0..4_u32, 0..4_u32, 0..48_i64), 0..8).prop_map(|files| {
            let by_path: BTreeMap<String, i64> = files
                .into_iter()
                .map(|(task, slice, age)| (format!("checkpoints/task-{task}/{slice}.json"), age))
                .collect();
            by_path.into_iter().map(|(path, age)| entry(path, age)).collect()
        });
        let snapshots = vec((vec(0..12_u32, 0..5), 0..96_i64), 0..8).prop_map(|snapshots| {
            let numbered = snapshots.into_iter().enumerate();
            numbered
                .map(|(number, (files, age))| {
                    let manifest = entry(format!("p/snapshots/{number:06}.json"), age);
                    let files = files.into_iter().map(|file| format!("p/tables/t/{file}")).collect();
                    (number as u32, (manifest, files))
                })
                .collect()
        });
        let names = hash_set(
            prop_oneof![
                (0..12_u32).prop_map(|name| format!("results/k/{name}")),
                (0..4_u32, 0..4_u32)
                    .prop_map(|(task, slice)| format!("checkpoints/task-{task}/{slice}.json")),
            ],
            0..8,
        );
        let done = hash_set((0..4_u32).prop_map(|task| format!("task-{task}")), 0..4);
        let parts =
            (files("results/k"), checkpoints, files("probe"), files("p/tables/t"), snapshots, done, names);
        (parts, 0..6_usize).prop_map(|(parts, keep)| {
            let (results, checkpoints, probes, tables, snapshots, done, named) = parts;
            World {
                inventory: Inventory { results, checkpoints, probes, tables, snapshots, done, named },
                keep,
            }
        })
    }

    /// Written from the rules and not from the code: what must be there after a collection.
    fn is_reachable(world: &World, path: &str) -> bool {
        let inventory = &world.inventory;
        let newest: Vec<&u32> = inventory.snapshots.keys().rev().take(world.keep.max(1)).collect();
        let of_kept_snapshot = inventory.snapshots.iter().any(|(number, (manifest, files))| {
            let young = now() - manifest.modified < GRACE;
            (newest.contains(&number) || young)
                && (manifest.path == path || files.iter().any(|file| file == path))
        });
        let of_unfinished_task = path.strip_prefix("checkpoints/").is_some_and(|rest| {
            let task = rest.split('/').next().unwrap();
            !inventory.done.contains(task)
        });
        inventory.named.contains(path) || of_kept_snapshot || of_unfinished_task
    }

    fn everything(inventory: &Inventory) -> impl Iterator<Item = &Entry> {
        let manifests = inventory.snapshots.values().map(|(manifest, _)| manifest);
        let files = [&inventory.results, &inventory.checkpoints, &inventory.probes, &inventory.tables];
        manifests.chain(files.into_iter().flatten())
    }

    proptest! {
        #[test]
        fn exactly_what_is_old_and_out_of_reach_is_removed(world in world()) {
            let removed: HashSet<String> =
                garbage(&world.inventory, limits(world.keep)).into_iter().map(|garbage| garbage.path).collect();
            for entry in everything(&world.inventory) {
                let is_young = now() - entry.modified < GRACE;
                let must_stay = is_young || is_reachable(&world, &entry.path);
                prop_assert_eq!(!must_stay, removed.contains(&entry.path), "{}", entry.path);
            }
        }

        #[test]
        fn at_every_moment_of_a_removal_each_manifest_has_its_tables(world in world()) {
            let mut present: HashSet<&str> = everything(&world.inventory).map(|entry| entry.path.as_str()).collect();
            let whole = |present: &HashSet<&str>, files: &[String]| {
                files.iter().all(|file| present.contains(file.as_str()))
            };
            let complete: Vec<u32> = world.inventory.snapshots.iter()
                .filter(|(_, (_, files))| whole(&present, files)).map(|(number, _)| *number).collect();
            let removed = garbage(&world.inventory, limits(world.keep));
            for garbage in &removed {
                present.remove(garbage.path.as_str());
                for number in &complete {
                    let (manifest, files) = &world.inventory.snapshots[number];
                    prop_assert!(!present.contains(manifest.path.as_str()) || whole(&present, files));
                }
            }
        }
    }

    #[test]
    fn the_newest_snapshot_stays_however_old_and_however_few_are_kept() {
        let manifest = entry("p/snapshots/000001.json".to_owned(), 9_000);
        let table = entry("p/tables/t/1".to_owned(), 9_000);
        let snapshots = BTreeMap::from([(1, (manifest, vec![table.path.clone()]))]);
        let inventory = Inventory { tables: vec![table], snapshots, ..Inventory::default() };
        assert_eq!(garbage(&inventory, limits(0)), []);
    }

    #[test]
    fn a_path_anywhere_in_a_record_is_a_name() {
        let mut names = HashSet::new();
        let record = json!({
            "shards": [{"parameters": {"path": "results/x/00/a.safetensors", "bytes": 3}}],
            "reason": "cannot read a/b because of c",
            "kind": "evaluate",
        });
        names_in(&record, &mut names);
        assert_eq!(names, HashSet::from(["results/x/00/a.safetensors".to_owned()]));
    }
}
