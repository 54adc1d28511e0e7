//! Rules of verifying, comparing and going back to snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::TimeDelta;
use metad2a_database::tables::EvaluationRow;
use metad2a_database::{
    Error, Limits, ModelRecord, Published, Snapshot, Store, TableChange, Verified, garbage,
};
use serde_json::json;

use crate::Place;
use crate::publishing::{Draft, current, filled};
use crate::rows::{curve, evaluation};

/// Three snapshots: each adds the training of one cell more.
async fn three(store: &Store) {
    for (seed, inputs_id) in ["one", "two", "three"].iter().enumerate() {
        let mut draft = filled(store, inputs_id).await;
        for seed in 1..=seed as i64 {
            draft = draft.with(&[evaluation("d1", 1, seed)]).await;
        }
        draft.publish().await.unwrap();
    }
}

async fn snapshot(store: &Store, number: u32) -> Snapshot {
    store.snapshot("nightly", number).await.unwrap().expect("it is there")
}

async fn with_model<'a>(draft: Draft<'a>, store: &Store) -> Draft<'a> {
    let weights = Bytes::from("weights");
    let record = ModelRecord::of("predictor", 1, json!({}), &weights);
    store.put_model("nightly", &record, weights).await.unwrap();
    let mut draft = draft;
    draft.draft.models.insert("predictor".to_owned(), record.sha256);
    draft
}

fn told(verified: &Verified) -> Vec<String> {
    verified.broken.iter().map(ToString::to_string).collect()
}

/// Replaces a file by another content.
async fn damage(store: &Store, path: &str, content: &'static str) {
    store.delete(path).await.unwrap();
    store.put_if_absent(path, Bytes::from(content)).await.unwrap();
}

pub(crate) async fn a_whole_snapshot_is_found_whole(place: &Place) {
    let store = place.open().await;
    with_model(filled(&store, "one").await, &store).await.publish().await.unwrap();
    let verified = store.verify(&current(&store).await).await.unwrap();
    assert_eq!(told(&verified), [""; 0]);
    assert_eq!((verified.files, verified.rows), (5, 2 + 3 + 6 + 18), "four tables and a model");
    assert!(verified.bytes > 1_000);
}

pub(crate) async fn every_broken_file_is_named_and_what_refers_to_it_is_not_accused(place: &Place) {
    let store = place.open().await;
    with_model(filled(&store, "one").await, &store).await.publish().await.unwrap();
    let snapshot = current(&store).await;
    let path = |table: &str| snapshot.files(table)[0].path.clone();
    let model = format!("nightly/models/predictor/{}.safetensors", snapshot.models["predictor"]);
    store.delete(&path("datasets")).await.unwrap();
    damage(&store, &path("evaluations"), "PAR1 no more").await;
    damage(&store, &model, "WEIGHTS").await;
    let verified = store.verify(&snapshot).await.unwrap();
    let told = told(&verified);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], format!("`{}` is missing from the store", path("datasets")));
    assert!(told[1].starts_with(&format!("`{}` has SHA-256 ", path("evaluations"))), "{told:?}");
    assert!(told[1].contains("(12 bytes), it was stored as "), "{told:?}");
    assert!(told[2].starts_with(&format!("`{model}` has SHA-256 ")), "{told:?}");
    assert_eq!(verified.broken[0].file.as_deref(), Some(path("datasets").as_str()));
}

pub(crate) async fn a_manifest_that_counts_wrong_is_found_out(place: &Place) {
    let store = place.open().await;
    filled(&store, "one").await.publish().await.unwrap();
    let whole = current(&store).await;

    let mut wrong = whole.clone();
    let table = wrong.tables.get_mut("curves").unwrap();
    table.rows += 1;
    table.files[0].file.rows = Some(17);
    let path = table.files[0].file.path.clone();
    let told_of = told(&store.verify(&wrong).await.unwrap());
    let expected = [
        format!("`{path}` has 18 rows, the manifest says 17"),
        "`curves` has 18 rows, the manifest says 19".to_owned(),
    ];
    assert_eq!(told_of, expected);

    // A file twice doubles its rows; a table that is left out leaves references open; a foreign file is no table file.
    let mut wrong = whole.clone();
    wrong.tables.remove("datasets");
    let curves = wrong.tables.get_mut("curves").unwrap();
    curves.files.push(curves.files[0].clone());
    curves.rows = 36;
    let architectures = whole.tables["architectures"].clone();
    wrong.tables.insert("features".to_owned(), architectures.clone());
    wrong.tables.insert("orders".to_owned(), architectures);
    let broken = told(&store.verify(&wrong).await.unwrap()).join("\n");
    for part in [
        "`curves` holds 18 rows with a key it already has",
        "`evaluations`.`dataset_id` holds 2 values that `datasets`.`dataset_id` lacks, first `d1`",
        ".parquet` is table `architectures`",
        "table `orders` is not known to this program: use a newer version",
    ] {
        assert!(broken.contains(part), "{broken}\nmust contain {part}");
    }
}

pub(crate) async fn an_old_snapshot_is_published_again_and_nothing_is_removed(place: &Place) {
    let store = place.open().await;
    three(&store).await;
    let before = store.list("nightly/").await.unwrap();
    let (old, third) = (snapshot(&store, 1).await, snapshot(&store, 3).await);
    assert_eq!(store.roll_back("nightly", 1).await.unwrap(), Published::New(4));

    let now = current(&store).await;
    assert_eq!((now.number, now.restored_from), (4, Some(1)));
    assert!(now.has_content_of(&old) && !now.has_content_of(&third));
    assert_eq!(now.inputs_id, old.inputs_id, "a run that asks for the same publishes nothing");
    assert_ne!(now.execution_id, old.execution_id);
    assert!(now.published_at >= third.published_at);
    let rows: Vec<EvaluationRow> = store.read_table(&now).await.unwrap();
    assert_eq!(rows.len(), 6);
    let after = store.list("nightly/").await.unwrap();
    let lost = before.iter().filter(|entry| !after.iter().any(|other| other.path == entry.path)).count();
    assert_eq!((lost, after.len()), (0, before.len() + 1), "one manifest more");

    assert_eq!(store.roll_back("nightly", 1).await.unwrap(), Published::Unchanged(4));
    assert_eq!(store.roll_back("nightly", 3).await.unwrap(), Published::New(5), "and back again");
    assert!(current(&store).await.has_content_of(&third));
    let draft = filled(&store, "six").await.with(&[evaluation("d2", 1, 9)]).await;
    assert_eq!(draft.publish().await.unwrap(), Published::New(6), "a publication goes on from there");
    assert_eq!(current(&store).await.restored_from, None);
}

pub(crate) async fn a_snapshot_that_lost_a_file_is_not_gone_back_to(place: &Place) {
    let store = place.open().await;
    three(&store).await;
    let lost = snapshot(&store, 1).await.files("evaluations")[0].path.clone();
    store.delete(&lost).await.unwrap();
    let error = store.roll_back("nightly", 1).await.unwrap_err();
    assert!(matches!(error, Error::Checks { .. }), "{error}");
    assert!(error.to_string().contains(&format!("`{lost}` is missing from the store")), "{error}");
    let error = store.roll_back("nightly", 9).await.unwrap_err().to_string();
    assert!(error.contains("snapshot 9 of `nightly`") && error.contains("garbage collection"), "{error}");
    assert_eq!(current(&store).await.number, 3);
}

pub(crate) async fn after_a_collection_the_kept_snapshots_are_whole_and_can_be_gone_back_to(place: &Place) {
    let store = place.open().await;
    three(&store).await;
    let collect = async |keep| {
        let inventory = store.inventory("nightly").await.unwrap();
        let now = store.time().await.unwrap() + TimeDelta::days(2);
        let found = garbage(&inventory, Limits { now, grace: TimeDelta::days(1), keep });
        store.remove(&found).await.unwrap()
    };
    collect(2).await;
    for number in [2, 3] {
        let verified = store.verify(&snapshot(&store, number).await).await.unwrap();
        assert_eq!(told(&verified), [""; 0], "snapshot {number}");
    }
    let error = store.roll_back("nightly", 1).await.unwrap_err().to_string();
    assert!(error.contains("snapshot 1 of `nightly`"), "{error}");
    assert_eq!(store.roll_back("nightly", 2).await.unwrap(), Published::New(4));
    // What it took over stays, though the snapshot that it took it from goes.
    assert!(collect(1).await.objects > 0);
    assert_eq!(store.snapshot("nightly", 2).await.unwrap(), None);
    assert_eq!(told(&store.verify(&snapshot(&store, 4).await).await.unwrap()), [""; 0]);
}

pub(crate) async fn a_comparison_counts_rows_and_shared_files(place: &Place) {
    let store = place.open().await;
    filled(&store, "one").await.publish().await.unwrap();
    let mut draft = filled(&store, "two").await.with(&[evaluation("d1", 1, 1), evaluation("d1", 2, 1)]).await;
    draft.draft.tables.get_mut("evaluations").unwrap().remove(0);
    draft.draft.tables.get_mut("curves").unwrap().remove(0);
    let curves: Vec<_> = (0..3).map(|epoch| curve("d1", 2, 1, epoch)).collect();
    draft.with(&curves).await.publish().await.unwrap();
    let (before, after) = (snapshot(&store, 1).await, snapshot(&store, 2).await);
    let changes = store.compare_tables(&before, &after).await.unwrap();
    let same = |rows| TableChange {
        rows_before: rows,
        rows_after: rows,
        files_before: 1,
        files_after: 1,
        shared_files: 1,
        ..TableChange::default()
    };
    let other = |rows_before, rows_after, added, removed| TableChange {
        rows_before,
        rows_after,
        added,
        removed,
        files_before: 1,
        files_after: 1,
        ..TableChange::default()
    };
    let expected = BTreeMap::from([
        ("architectures".to_owned(), same(3)),
        ("curves".to_owned(), other(18, 18, 3, 3)),
        ("datasets".to_owned(), same(2)),
        ("evaluations".to_owned(), other(6, 7, 2, 1)),
    ]);
    assert_eq!(changes, expected);
    let back = store.compare_tables(&after, &before).await.unwrap();
    assert_eq!((back["evaluations"].added, back["evaluations"].removed), (1, 2));
}

pub(crate) async fn a_comparison_finds_rows_that_say_something_else(place: &Place) {
    let store = place.open().await;
    let (row, rest) = (evaluation("d1", 1, 1), evaluation("d1", 2, 1));
    filled(&store, "one").await.with(&[row.clone(), rest.clone()]).await.publish().await.unwrap();
    let again = EvaluationRow { train_seconds: row.train_seconds + 1.0, ..row };
    filled(&store, "two").await.with(&[again, rest]).await.publish().await.unwrap();
    let (before, after) = (snapshot(&store, 1).await, snapshot(&store, 2).await);
    let change = store.compare_tables(&before, &after).await.unwrap()["evaluations"];
    assert_eq!((change.added, change.removed, change.changed), (0, 0, 1));
}
