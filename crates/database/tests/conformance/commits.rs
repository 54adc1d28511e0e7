//! Rules of markers, decisions, models and runs.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;
use metad2a_database::{Commit, Decided, Error, FileRef, Marker, ModelRecord, Put, Store, now, random_id};
use serde_json::json;

use crate::Place;

fn marker(kind: &str, id: &str, files: Vec<FileRef>) -> Marker {
    Marker {
        kind: kind.to_owned(),
        id: id.to_owned(),
        execution_id: random_id(),
        worker: "worker-1".to_owned(),
        attempt: 1,
        files,
        units: vec!["unit-a".to_owned()],
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 1.5,
        summary: json!({ "rows": 3 }),
    }
}

async fn data(store: &Store, content: &'static str) -> FileRef {
    store.put_data("evaluations", "bin", Bytes::from(content), None).await.unwrap()
}

pub(crate) async fn one_of_many_executions_wins_a_commit(place: &Place) {
    let store = place.open().await;
    let file = data(&store, "result").await;
    let markers: Vec<Marker> = (0..12).map(|_| marker("evaluate", "0abc", vec![file.clone()])).collect();
    let outcomes = join_all(markers.iter().map(|marker| store.commit(marker))).await;
    let winner = store.marker("evaluate", "0abc").await.unwrap().unwrap();
    for (marker, outcome) in markers.iter().zip(outcomes) {
        match outcome.unwrap() {
            Commit::Won => assert_eq!(*marker, winner),
            Commit::AlreadyDone(found) => {
                assert_eq!(*found, winner);
                assert_ne!(marker.execution_id, winner.execution_id);
            }
        }
    }
}

pub(crate) async fn committing_again_is_still_won(place: &Place) {
    let store = place.open().await;
    let marker = marker("evaluate", "0abc", vec![data(&store, "result").await]);
    assert_eq!(store.commit(&marker).await.unwrap(), Commit::Won);
    assert_eq!(
        store.commit(&marker).await.unwrap(),
        Commit::Won,
        "an answer may be lost and the call repeated"
    );
}

pub(crate) async fn a_marker_without_its_data_is_refused(place: &Place) {
    let store = place.open().await;
    let whole = data(&store, "whole").await;
    let gone = data(&store, "gone").await;
    store.delete(&gone.path).await.unwrap();
    let cut = data(&store, "cut short").await;
    store.delete(&cut.path).await.unwrap();
    store.put_if_absent(&cut.path, Bytes::from("cut")).await.unwrap();
    for bad in [&gone, &cut] {
        let error =
            store.commit(&marker("evaluate", "0abc", vec![whole.clone(), bad.clone()])).await.unwrap_err();
        assert!(error.to_string().contains(&bad.path), "{error}");
    }
    assert_eq!(store.marker("evaluate", "0abc").await.unwrap(), None);
}

pub(crate) async fn done_work_is_listed_by_kind(place: &Place) {
    let store = place.open().await;
    let file = data(&store, "result").await;
    let ids = ["ff01", "00ff", "import-of-rows"];
    for id in ids {
        store.commit(&marker("evaluate", id, vec![file.clone()])).await.unwrap();
    }
    store.commit(&marker("evaluate-more", "aaaa", vec![file])).await.unwrap();
    assert_eq!(store.done_ids("evaluate").await.unwrap(), ["00ff", "ff01", "import-of-rows"]);
    let markers = store.markers("evaluate").await.unwrap();
    assert_eq!(
        markers.iter().map(|marker| marker.id.as_str()).collect::<Vec<_>>(),
        ["00ff", "ff01", "import-of-rows"]
    );
    assert!(store.markers("search").await.unwrap().is_empty());
    assert!(matches!(store.markers("../evil").await, Err(Error::Name { .. })));
}

pub(crate) async fn the_highest_decision_holds(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.decision("task-1").await.unwrap(), None);
    for number in 0..11 {
        let decision = store.decide("task-1", "retry", json!({ "attempt": number })).await.unwrap();
        assert_eq!(decision.number, number);
    }
    // 10 sorts before 2 as text; it must not here.
    let holding = store.decision("task-1").await.unwrap().unwrap();
    assert_eq!((holding.number, holding.detail), (10, json!({ "attempt": 10 })));
    let numbers: Vec<u32> = store.decisions("task-1").await.unwrap().iter().map(|it| it.number).collect();
    assert_eq!(numbers, (0..11).collect::<Vec<_>>());
    store.decide("task-2", "cancelled", json!(null)).await.unwrap();
    let all = store.all_decisions().await.unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all["task-1"].number, all["task-2"].decision.as_str()), (10, "cancelled"));
}

pub(crate) async fn rival_deciders_never_share_a_number(place: &Place) {
    let store = place.open().await;
    // The same words at the same moment: only the record's own execution id tells the writers apart.
    let taken = join_all((0..8).map(|_| store.decide("task", "failed", json!("same")))).await;
    let mut numbers: Vec<u32> = taken.into_iter().map(|decision| decision.unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
}

pub(crate) async fn a_frozen_choice_is_taken_once(place: &Place) {
    let store = place.open().await;
    let taken =
        join_all((0..8).map(|rival| store.decide_once("generator/round:3", "closed", json!(rival)))).await;
    let taken: Vec<Decided> = taken.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.iter().filter(|decided| matches!(decided, Decided::Won(_))).count(), 1);
    let details: Vec<serde_json::Value> =
        taken.into_iter().map(|decided| decided.into_decision().detail).collect();
    assert!(details.iter().all(|detail| *detail == details[0]), "{details:?}");
}

pub(crate) async fn decisions_of_longer_ids_are_kept_apart(place: &Place) {
    let store = place.open().await;
    store.decide("a/b", "closed", json!(null)).await.unwrap();
    assert_eq!(store.decision("a").await.unwrap(), None);
    assert_eq!(store.decide("a", "retry", json!(null)).await.unwrap().number, 0);
    assert_eq!(store.decision("a/b").await.unwrap().unwrap().decision, "closed");
    let all = store.all_decisions().await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "a/b"]);
}

pub(crate) async fn a_model_is_loaded_as_it_was_stored(place: &Place) {
    let store = place.open().await;
    let mut records = Vec::new();
    for (model, round) in [("predictor", 2), ("generator", 1), ("predictor", 1)] {
        let weights = Bytes::from(format!("weights of {model} {round}"));
        let mut record = ModelRecord::of(model, round, json!({ "hidden": 8 }), &weights);
        record.metrics.insert("valid_spearman".to_owned(), 0.1 + 0.2);
        record.parents.push("parent".to_owned());
        let file = store.put_model("nightly", &record, weights.clone()).await.unwrap();
        assert_eq!(store.get_data(&file).await.unwrap(), weights);
        assert_eq!(store.model_weights("nightly", &record).await.unwrap(), weights);
        assert_eq!(store.model("nightly", model, &record.sha256).await.unwrap().as_ref(), Some(&record));
        records.push(record);
    }
    let listed = store.models("nightly").await.unwrap();
    assert_eq!(listed, [records[1].clone(), records[2].clone(), records[0].clone()]);
    assert!(store.models("weekly").await.unwrap().is_empty());
}

pub(crate) async fn weights_that_are_not_the_records_are_refused(place: &Place) {
    let store = place.open().await;
    let record = ModelRecord::of("predictor", 1, json!({}), b"these");
    let error = store.put_model("nightly", &record, Bytes::from("those")).await.unwrap_err();
    assert!(matches!(error, Error::Invalid { .. }), "{error}");
    assert!(store.list("nightly").await.unwrap().is_empty());
}

pub(crate) async fn a_file_of_a_run_is_written_once(place: &Place) {
    let store = place.open().await;
    let put =
        |content: &'static str| store.put_run_file("nightly", "run-1", "plan.json", Bytes::from(content));
    assert_eq!(put("first").await.unwrap(), Put::Created);
    assert_eq!(put("second").await.unwrap(), Put::Exists);
    assert_eq!(store.run_file("nightly", "run-1", "plan.json").await.unwrap().unwrap(), "first");
    assert_eq!(store.run_ids("nightly").await.unwrap(), ["run-1"]);
    store.overwrite_run_file("nightly", "run-1", "hint.json", Bytes::from("old")).await.unwrap();
    store.overwrite_run_file("nightly", "run-1", "hint.json", Bytes::from("new")).await.unwrap();
    let newest = store.newest_run_file("nightly", "hint.json").await.unwrap().unwrap();
    assert_eq!(newest, ("run-1".to_owned(), Bytes::from("new")));
    assert_eq!(store.newest_run_file("nightly", "other.json").await.unwrap(), None);
    assert!(matches!(store.run_ids("results").await, Err(Error::Name { .. })));
}

pub(crate) async fn only_news_of_decisions_is_read_again(place: &Place) {
    let store = place.open().await;
    let first = store.decide("a", "failed", json!({"reasons": ["x"]})).await.unwrap();
    let second = store.decide("b/c", "cancelled", json!({})).await.unwrap();
    store.decide("large", "training-set", json!({})).await.unwrap();
    let mut known = BTreeMap::new();
    let news = async |known: &mut BTreeMap<String, u32>| {
        let mut news = store.newer_decisions(known, &["training-set"]).await.unwrap();
        news.sort_by(|a, b| a.id.cmp(&b.id));
        news
    };
    assert_eq!(news(&mut known).await, [first, second]);
    assert_eq!(known.len(), 3);
    assert_eq!(news(&mut known).await, []);
    let lifted = store.decide("a", "retry", json!({})).await.unwrap();
    let fresh = store.decide("d", "failed", json!({})).await.unwrap();
    assert_eq!(news(&mut known).await, [lifted, fresh]);
}

pub(crate) async fn a_decision_on_an_outdated_view_is_not_written(place: &Place) {
    let store = place.open().await;
    let first = store.decide_next("a", None, "failed", json!({})).await.unwrap().unwrap();
    assert_eq!(first.number, 0);
    assert_eq!(store.decide_next("a", None, "cancelled", json!({})).await.unwrap(), None);
    let second = store.decide_next("a", Some(0), "retry", json!({})).await.unwrap().unwrap();
    assert_eq!(store.decide_next("a", Some(0), "dropped", json!({})).await.unwrap(), None);
    assert_eq!(store.decision("a").await.unwrap().unwrap(), second);
}
