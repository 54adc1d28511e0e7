//! Rules of snapshots.

use std::collections::BTreeMap;

use bytes::Bytes;
use metad2a_database::tables::{ArchitectureRow, CurveRow, EvaluationRow, FeatureRow};
use metad2a_database::{
    Checks, Error, FileRef, ModelRecord, Published, Snapshot, SnapshotDraft, Store, TableRow, decode,
};

use crate::Place;
use crate::rows::{
    architecture, candidate, curve, dataset, evaluation, feature, latency, model, run, search,
    training_metric,
};

/// A draft that grows table by table.
pub(crate) struct Draft<'a> {
    store: &'a Store,
    pub(crate) draft: SnapshotDraft,
}

impl<'a> Draft<'a> {
    fn new(store: &'a Store, inputs_id: &str) -> Self {
        let draft = SnapshotDraft {
            pipeline: "nightly".to_owned(),
            inputs_id: inputs_id.to_owned(),
            ..SnapshotDraft::default()
        };
        Self { store, draft }
    }

    /// One result file more.
    pub(crate) async fn with<T: TableRow>(mut self, rows: &[T]) -> Draft<'a> {
        let file = self.store.put_rows(T::NAME, rows).await.unwrap();
        self.draft.tables.entry(T::NAME.to_owned()).or_default().push(file);
        self
    }

    pub(crate) async fn publish(&self) -> Result<Published, Error> {
        self.store.publish(self.draft.clone(), &Checks::default()).await
    }
}

/// Two datasets, three cells, and one result file of evaluations and curves for each pair.
pub(crate) async fn filled<'a>(store: &'a Store, inputs_id: &str) -> Draft<'a> {
    let mut draft = Draft::new(store, inputs_id)
        .with(&[dataset("d1"), dataset("d2")])
        .await
        .with(&[architecture(3), architecture(1), architecture(2)])
        .await;
    for name in ["d2", "d1"] {
        for arch_index in [2, 1, 3] {
            let curves: Vec<CurveRow> = (0..3).rev().map(|epoch| curve(name, arch_index, 0, epoch)).collect();
            draft = draft.with(&[evaluation(name, arch_index, 0)]).await.with(&curves).await;
        }
    }
    draft
}

pub(crate) async fn current(store: &Store) -> Snapshot {
    store.current_snapshot("nightly").await.unwrap().expect("something was published")
}

pub(crate) async fn a_snapshot_holds_every_row_once(place: &Place) {
    let store = place.open().await;
    assert_eq!(store.current_snapshot("nightly").await.unwrap(), None);
    let draft = filled(&store, "one").await;
    assert_eq!(draft.publish().await.unwrap(), Published::New(1));

    let snapshot = current(&store).await;
    let evaluations: Vec<EvaluationRow> = store.read_table(&snapshot).await.unwrap();
    let expected: Vec<EvaluationRow> = ["d1", "d2"]
        .iter()
        .flat_map(|name| (1..4).map(|arch_index| evaluation(name, arch_index, 0)))
        .collect();
    assert_eq!(evaluations, expected, "sorted by dataset, cell and seed");
    let curves: Vec<CurveRow> = store.read_table(&snapshot).await.unwrap();
    assert_eq!(curves.len(), 18);
    assert!(curves.is_sorted_by_key(|row| (row.dataset_id.clone(), row.arch_index, row.seed, row.epoch)));

    assert_eq!(snapshot.rows("curves"), 18);
    assert_eq!(snapshot.files("curves").len(), 1, "six result files became one table file");
    let locations = store.table_locations(&snapshot, "curves").unwrap();
    assert!(locations[0].ends_with(&snapshot.files("curves")[0].path), "{locations:?}");
    let error = store.table_locations(&snapshot, "features").unwrap_err().to_string();
    assert!(error.contains("`features`") && error.contains("`curves`"), "{error}");
    let latest = store.get("nightly/latest.json").await.unwrap();
    assert_eq!(latest, store.get("nightly/snapshots/000001.json").await.unwrap());
}

pub(crate) async fn a_refresh_adds_to_what_was_published(place: &Place) {
    let store = place.open().await;
    filled(&store, "one").await.publish().await.unwrap();
    let first = current(&store).await;
    let draft = filled(&store, "two").await.with(&[evaluation("d1", 1, 1)]).await;
    assert_eq!(draft.publish().await.unwrap(), Published::New(2));
    let second = current(&store).await;
    assert_eq!(second.rows("evaluations"), 7);
    for table in ["datasets", "architectures", "curves"] {
        assert_eq!(first.files(table), second.files(table), "`{table}` did not change and is not copied");
    }
    let rows: Vec<EvaluationRow> = store.read_table(&second).await.unwrap();
    assert!(rows.contains(&evaluation("d1", 1, 1)));
}

pub(crate) async fn a_table_may_not_shrink_beyond_its_tolerance(place: &Place) {
    let store = place.open().await;
    filled(&store, "large").await.publish().await.unwrap();
    let mut smaller = filled(&store, "smaller").await.draft;
    smaller.tables.get_mut("evaluations").unwrap().truncate(5);
    smaller.tables.get_mut("curves").unwrap().truncate(5);
    let checks = |tolerance| Checks {
        shrinkage: BTreeMap::from([("evaluations".to_owned(), tolerance), ("datasets".to_owned(), 0.0)]),
        ..Checks::default()
    };
    let error = store.publish(smaller.clone(), &checks(0.1)).await.unwrap_err().to_string();
    assert!(error.contains("`evaluations` has 5 rows where snapshot 1 has 6, and needs 6"), "{error}");
    assert_eq!(current(&store).await.number, 1);
    assert_eq!(store.publish(smaller, &checks(0.2)).await.unwrap(), Published::New(2));
}

pub(crate) async fn imported_rows_hide_no_loss_of_others_and_may_go(place: &Place) {
    let store = place.open().await;
    let imported = |count: u64| BTreeMap::from([("evaluations".to_owned(), count)]);
    let mut first = filled(&store, "with-imports").await.draft;
    first.imported_rows = imported(2);
    store.publish(first, &Checks::default()).await.unwrap();
    let checks = Checks { shrinkage: BTreeMap::from([("evaluations".to_owned(), 0.0)]), ..Checks::default() };
    // As many rows as before, but one more of them is imported.
    let mut hidden = filled(&store, "hidden").await.draft;
    hidden.imported_rows = imported(3);
    let error = store.publish(hidden, &checks).await.unwrap_err().to_string();
    let rule = "`evaluations` has 3 rows beside imported ones where snapshot 1 has 4, and needs 4";
    assert!(error.contains(rule), "{error}");
    let mut without = filled(&store, "without-imports").await.draft;
    without.tables.get_mut("evaluations").unwrap().truncate(4);
    without.tables.get_mut("curves").unwrap().truncate(4);
    assert_eq!(store.publish(without, &checks).await.unwrap(), Published::New(2));
}

pub(crate) async fn equal_inputs_are_not_published_twice(place: &Place) {
    let store = place.open().await;
    let draft = filled(&store, "one").await;
    assert_eq!(draft.publish().await.unwrap(), Published::New(1));
    assert_eq!(draft.publish().await.unwrap(), Published::Unchanged(1));
    assert_eq!(store.list_snapshots("nightly").await.unwrap().len(), 1);
}

pub(crate) async fn rival_publishers_make_one_snapshot_of_equal_inputs(place: &Place) {
    let store = place.open().await;
    let draft = filled(&store, "one").await;
    let (first, second, third) = tokio::join!(draft.publish(), draft.publish(), draft.publish());
    let outcomes = [first.unwrap(), second.unwrap(), third.unwrap()];
    assert_eq!(outcomes.iter().filter(|it| **it == Published::New(1)).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|it| **it == Published::Unchanged(1)).count(), 2, "{outcomes:?}");
}

pub(crate) async fn rival_publishers_of_other_inputs_follow_each_other(place: &Place) {
    let store = place.open().await;
    let (one, two) = (filled(&store, "one").await, filled(&store, "two").await);
    let (first, second) = tokio::join!(one.publish(), two.publish());
    let mut numbers = [first.unwrap(), second.unwrap()];
    numbers.sort_by_key(|outcome| format!("{outcome:?}"));
    assert_eq!(numbers, [Published::New(1), Published::New(2)]);
    let snapshots = store.list_snapshots("nightly").await.unwrap();
    assert_eq!(snapshots[0].files("curves"), snapshots[1].files("curves"));
}

pub(crate) async fn an_old_snapshot_stays_readable(place: &Place) {
    let store = place.open().await;
    filled(&store, "one").await.publish().await.unwrap();
    let old = current(&store).await;
    let before: Vec<EvaluationRow> = store.read_table(&old).await.unwrap();
    filled(&store, "two").await.with(&[evaluation("d2", 3, 9)]).await.publish().await.unwrap();
    let again = store.snapshot("nightly", 1).await.unwrap().unwrap();
    assert_eq!(again, old);
    assert_eq!(store.read_table::<EvaluationRow>(&again).await.unwrap(), before);
}

pub(crate) async fn a_broken_rule_publishes_nothing(place: &Place) {
    let store = place.open().await;
    filled(&store, "one").await.publish().await.unwrap();
    let before = current(&store).await;

    let wrong_share = EvaluationRow { valid_accuracy: Some(1.5), ..evaluation("d1", 1, 7) };
    let not_a_number = EvaluationRow { valid_loss: Some(f64::NAN), ..evaluation("d1", 1, 7) };
    let cases = [
        (filled(&store, "a").await.with(&[wrong_share]).await, "`valid_accuracy` is 1.5, must lie in 0 to 1"),
        (filled(&store, "b").await.with(&[not_a_number]).await, "`valid_loss` is NaN"),
        (
            filled(&store, "c").await.with(&[evaluation("d9", 1, 7)]).await,
            "`datasets`.`dataset_id` lacks, first `d9`",
        ),
        (
            filled(&store, "d").await.with(&[evaluation("d1", 99, 7)]).await,
            "`architectures`.`arch_index` lacks",
        ),
        (filled(&store, "e").await.with(&[curve("d1", 1, 5, 0)]).await, "`evaluations`.`unit_id` lacks"),
        // The same unit in two result files: the bytes differ, the key does not.
        (
            filled(&store, "f").await.with(&[evaluation("d1", 1, 0), evaluation("d1", 1, 8)]).await,
            "`evaluations` holds 1 rows with a key it already has, first `d1-1-0`",
        ),
    ];
    for (draft, expected) in cases {
        let error = draft.publish().await.unwrap_err();
        assert!(matches!(error, Error::Checks { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}\nmust contain {expected}");
    }

    let checks = Checks {
        expected_rows: BTreeMap::from([("evaluations".to_owned(), 5), ("features".to_owned(), 1)]),
        shrinkage: BTreeMap::new(),
        violations: vec!["the model lost quality".to_owned()],
    };
    let draft = filled(&store, "g").await.draft;
    let error = store.publish(draft, &checks).await.unwrap_err().to_string();
    for part in [
        "`evaluations` must have 5 rows, has 6",
        "`features` must have 1 rows, has 0",
        "the model lost quality",
    ] {
        assert!(error.contains(part), "{error}");
    }

    let unknown = SnapshotDraft {
        pipeline: "nightly".to_owned(),
        inputs_id: "h".to_owned(),
        tables: BTreeMap::from([("evaluation".to_owned(), Vec::new())]),
        ..SnapshotDraft::default()
    };
    let error = store.publish(unknown, &Checks::default()).await.unwrap_err().to_string();
    assert!(error.contains("`evaluation`") && error.contains("`evaluations`"), "{error}");

    let mut damaged = filled(&store, "i").await.with(&[evaluation("d1", 2, 7)]).await.draft;
    let file: FileRef = damaged.tables.get_mut("evaluations").unwrap().pop().unwrap();
    store.delete(&file.path).await.unwrap();
    store.put_if_absent(&file.path, Bytes::from("PAR1 no more")).await.unwrap();
    damaged.tables.get_mut("evaluations").unwrap().push(file.clone());
    let error = store.publish(damaged, &Checks::default()).await.unwrap_err().to_string();
    assert!(error.contains(&file.path) && error.contains("damaged"), "{error}");

    assert_eq!(current(&store).await, before);
}

pub(crate) async fn a_withdrawn_result_leaves_the_next_snapshot(place: &Place) {
    let store = place.open().await;
    let mut draft = filled(&store, "one").await;
    draft.publish().await.unwrap();
    "two".clone_into(&mut draft.draft.inputs_id);
    draft.draft.tables.get_mut("curves").unwrap().clear();
    draft.draft.tables.get_mut("evaluations").unwrap().remove(0);
    assert_eq!(draft.publish().await.unwrap(), Published::New(2));
    let snapshot = current(&store).await;
    let rows: Vec<EvaluationRow> = store.read_table(&snapshot).await.unwrap();
    assert_eq!(rows.len(), 5);
    assert!(!rows.contains(&evaluation("d2", 2, 0)));
    assert_eq!(snapshot.rows("curves"), 0);
    assert_eq!(snapshot.files("curves").len(), 1, "an empty table still has a file with its columns");
    assert!(store.read_table::<CurveRow>(&snapshot).await.unwrap().is_empty());
}

pub(crate) async fn a_model_that_is_not_stored_stops_publication(place: &Place) {
    let store = place.open().await;
    let mut draft = filled(&store, "one").await;
    let weights = Bytes::from("weights");
    let record = ModelRecord::of("predictor", 1, serde_json::json!({}), &weights);
    draft.draft.models.insert("predictor".to_owned(), record.sha256.clone());
    let error = draft.publish().await.unwrap_err().to_string();
    assert!(error.contains("model `predictor`") && error.contains(&record.sha256), "{error}");
    let file = store.put_model("nightly", &record, weights.clone()).await.unwrap();
    store.delete(&file.path).await.unwrap();
    let error = draft.publish().await.unwrap_err().to_string();
    assert!(error.contains(&file.path), "{error}");
    store.put_model("nightly", &record, weights).await.unwrap();
    assert_eq!(draft.publish().await.unwrap(), Published::New(1));
    assert_eq!(current(&store).await.models["predictor"], record.sha256);
}

pub(crate) async fn every_table_survives_a_round_trip(place: &Place) {
    async fn check<T: TableRow + PartialEq + std::fmt::Debug>(store: &Store, rows: &[T]) {
        let file = store.put_rows(T::NAME, rows).await.unwrap();
        assert_eq!((file.rows, file.kind()), (Some(rows.len() as u64), Some(T::NAME)));
        let mut reversed = rows.to_vec();
        reversed.reverse();
        assert_eq!(store.put_rows(T::NAME, &reversed).await.unwrap(), file, "equal rows, equal bytes");
        assert_eq!(store.read_files::<T>(std::slice::from_ref(&file)).await.unwrap(), rows);
    }
    let store = place.open().await;
    check(&store, &[dataset("a"), dataset("b")]).await;
    check(&store, &[architecture(1), architecture(2)]).await;
    check(&store, &[evaluation("a", 1, 0), evaluation("a", 1, 1)]).await;
    check(&store, &[curve("a", 1, 0, 0), curve("a", 1, 0, 1)]).await;
    check(&store, &[feature(0), feature(1)]).await;
    check(&store, &[latency(1), latency(2)]).await;
    check(&store, &[search("a"), search("b")]).await;
    check(&store, &[candidate("a", 1), candidate("a", 2)]).await;
    check(&store, &[model()]).await;
    check(&store, &[training_metric()]).await;
    check(&store, &[run()]).await;

    let file = store.put_rows("features", &[feature(0)]).await.unwrap();
    let data = store.get_data(&file).await.unwrap();
    assert_eq!(decode::<FeatureRow>(&file.path, data.clone()).unwrap(), [feature(0)]);
    let error = decode::<ArchitectureRow>(&file.path, data).unwrap_err().to_string();
    assert!(error.contains(&file.path) && error.contains("`features`"), "{error}");
}
