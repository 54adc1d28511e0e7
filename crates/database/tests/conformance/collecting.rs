//! Rules of garbage collection. Its decisions have properties of their own, beside the code.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::TimeDelta;
use metad2a_database::{Error, FileRef, Limits, Marker, Reason, Store, garbage, now, random_id};
use serde_json::json;

use crate::Place;

/// As if everything in the store were older than the grace.
async fn found(store: &Store) -> Vec<metad2a_database::Garbage> {
    let inventory = store.inventory("nightly").await.unwrap();
    let now = store.time().await.unwrap() + TimeDelta::days(2);
    garbage(&inventory, Limits { now, grace: TimeDelta::days(1), keep: 1 })
}

async fn data(store: &Store, content: &'static str) -> FileRef {
    store.put_data("checkpoints", "safetensors", Bytes::from(content), None).await.unwrap()
}

fn marker(id: &str, files: Vec<FileRef>, summary: serde_json::Value) -> Marker {
    Marker {
        kind: "train-episodes".to_owned(),
        id: id.to_owned(),
        execution_id: random_id(),
        worker: "worker-1".to_owned(),
        attempt: 1,
        files,
        units: Vec::new(),
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 1.0,
        summary,
    }
}

pub(crate) async fn only_what_nothing_names_is_removed(place: &Place) {
    let store = place.open().await;
    let (by_marker, by_summary) = (data(&store, "marker").await, data(&store, "summary").await);
    let (by_decision, by_checkpoint) = (data(&store, "decision").await, data(&store, "checkpoint").await);
    let (spent, orphan) = (data(&store, "spent").await, data(&store, "orphan").await);
    let summary = json!({"kind": "shard", "start": {"path": by_summary.path}});
    store.commit(&marker("done-1", vec![by_marker.clone()], summary)).await.unwrap();
    // Replaced by a later one, and still kept: a retry could come back to it.
    store.decide("round-0", "round-closed", json!({"checkpoint": {"path": by_decision.path}})).await.unwrap();
    store.decide("round-0", "round-closed", json!({})).await.unwrap();
    let record = |file: &FileRef| json!({"files": [{"path": file.path}]});
    store.put_json_if_absent("checkpoints/open-1/0.json", &record(&by_checkpoint)).await.unwrap();
    store.put_json_if_absent("checkpoints/done-1/0.json", &record(&spent)).await.unwrap();

    let garbage = found(&store).await;
    let removed: HashSet<(&str, Reason)> =
        garbage.iter().map(|garbage| (garbage.path.as_str(), garbage.reason)).collect();
    let expected = HashSet::from([
        (spent.path.as_str(), Reason::OrphanedResult),
        (orphan.path.as_str(), Reason::OrphanedResult),
        ("checkpoints/done-1/0.json", Reason::SpentCheckpoint),
    ]);
    assert_eq!(removed, expected);
    let outcome = store.remove(&garbage).await.unwrap();
    assert_eq!((outcome.objects, outcome.spared), (3, 0));
    for kept in [by_marker, by_summary, by_decision, by_checkpoint] {
        store.get_data(&kept).await.unwrap();
    }
    assert_eq!(found(&store).await, [], "a second collection finds nothing");
}

pub(crate) async fn data_that_is_stored_again_after_it_was_found_stays(place: &Place) {
    let store = place.open().await;
    let orphan = data(&store, "orphan").await;
    let mut garbage = found(&store).await;
    // The clocks of some stores tick in seconds: what was found is dated back instead of waiting.
    garbage[0].modified -= TimeDelta::days(3);
    let outcome = store.remove(&garbage).await.unwrap();
    assert_eq!((outcome.objects, outcome.spared), (0, 1));
    store.get_data(&orphan).await.unwrap();
}

pub(crate) async fn a_record_that_cannot_be_read_stops_a_collection(place: &Place) {
    let store = place.open().await;
    store.put_if_absent("decisions/x/0.json", Bytes::from("not JSON")).await.unwrap();
    let error = store.inventory("nightly").await.unwrap_err();
    assert!(matches!(&error, Error::Json { path, .. } if path == "decisions/x/0.json"), "{error}");
}

pub(crate) async fn an_examined_store_stays_as_it_was(place: &Place) {
    let examined = metad2a_database::examine(&place.url).await.unwrap();
    assert!(!examined.has_database);
    let store = place.open().await;
    assert_eq!(store.list("probe/").await.unwrap(), []);
    assert!(metad2a_database::examine(&place.url).await.unwrap().has_database);
    let entries = store.list("").await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["format.json"]);
}
