//! What a store holds after a coordinator that ended in the middle of deciding, and what the next one makes of it.

use std::collections::BTreeMap;

use metad2a_database::tables::EvaluationRow;
use metad2a_database::{Access, Marker, now, random_id, sha256_hex};
use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::planner::{Done, Existing, Fact, Flight};
use metad2a_pipeline::specification::Specification;
use metad2a_pipeline::study::{IndexedSource, Study};
use metad2a_pipeline::tasks::{Evaluate, Summary, Task, Unit};
use metad2a_pipeline::training_set::{Group, TrainingSet};

use super::*;
use crate::ledger::file_of;

const SPECIFICATION: &str = "
version: 1
name: small
seed: 5
store: 'memory:'
queue: 'memory:'
sources: { many: { format: idx, paths: [pictures, labels], use: meta } }
extractor: { kind: resnet18, weights: w }
datasets:
  meta_train: { count: 2, least_classes: 5, most_classes: 8 }
  meta_valid: { count: 1, least_classes: 3, most_classes: 3 }
recipes: { short: { epochs: 2 } }
evaluations: { recipe: short, anchors: 2, cells_per_dataset: 4, bundle: 4 }
search: { recipe: short }
";

fn study() -> Study {
    study_of(SPECIFICATION)
}

fn study_of(specification: &str) -> Study {
    let source = IndexedSource {
        content_id: sha256_hex(b"many"),
        classes: (0..40).map(|label| (label, format!("class {label}"))).collect(),
        pictures: 800,
        address: SourceAddress {
            name: "many".to_owned(),
            format: "idx".to_owned(),
            paths: Vec::new(),
            fingerprint: None,
        },
    };
    let specification = Specification::parse("pipeline.yaml", specification).unwrap();
    Study::design(specification, BTreeMap::from([("many".to_owned(), source)]), sha256_hex(b"w")).unwrap()
}

/// Everything before the training is done.
/// The summary of a bundle whose units were all trained to their end.
fn trained(units: usize) -> Summary {
    Summary::Evaluations {
        units: units as u64,
        diverged: 0,
        failed: 0,
        stopped: 0,
        train_pictures: 1,
        valid_pictures: 1,
        test_pictures: 1,
        data_hash: String::new(),
    }
}

fn planner(study: &Study) -> Planner<'_> {
    let mut existing = Existing::default();
    for task in &study.extractions {
        let done = Done { summary: Summary::Features { pictures: 1 }, units: Vec::new() };
        existing.learn(Fact::Done { id: Task::ExtractFeatures(task.clone()).id(), done });
    }
    for bundle in study.bundles() {
        let task = bundle.evaluate(bundle.units.to_vec());
        let units = task.units.iter().map(|unit| task.unit_id(unit)).collect();
        let summary = trained(task.units.len());
        existing.learn(Fact::Done { id: Task::Evaluate(task).id(), done: Done { summary, units } });
    }
    Planner::new(study, existing)
}

fn step(planner: &mut Planner<'_>) -> Step {
    planner.step(&Flight::default()).unwrap()
}

/// The set that the store's choice names, as a worker reads it; none where nothing was chosen.
async fn chosen(store: &Store, step: &Step) -> Option<TrainingSet> {
    let choice = store.decision(&step.freeze[0].id).await.unwrap()?;
    let id = choice.detail.as_str().unwrap().to_owned();
    let record = store.decision(&id).await.unwrap().expect("a choice names a set that is there");
    assert_eq!((record.decision.as_str(), record.number), (ledger::TRAINING_SET, 0));
    let FrozenSet::Stored { parts } = serde_json::from_value(record.detail).unwrap() else {
        panic!("the record says where the set lies");
    };
    let mut set = TrainingSet::default();
    for part in &parts {
        let json = store.get_data(&file_of(part)).await.unwrap();
        set.append(serde_json::from_slice(&json).unwrap());
    }
    assert_eq!(set.id(), id);
    Some(set)
}

#[tokio::test]
async fn a_training_set_is_written_before_it_is_chosen_and_the_run_goes_on_with_it() {
    let (store, study) = (Store::open("memory:", Access::ReadWrite).await.unwrap(), study());
    let mut planner = planner(&study);
    let first = step(&mut planner);
    let wanted = first.training_set.clone().expect("all its parts are there");
    assert!(write(&store, &mut planner, first.clone()).await.unwrap());
    let set = chosen(&store, &first).await.unwrap();
    assert_eq!(serde_json::to_value(&set).unwrap(), serde_json::to_value(&wanted).unwrap());
    let second = step(&mut planner);
    assert_eq!((second.training_set, second.freeze), (None, Vec::new()));
    assert!(planner.open_places().next().is_some(), "the models are trained");
}

#[tokio::test]
async fn a_coordinator_that_ended_between_a_set_and_its_choice_is_continued() {
    let (store, study) = (Store::open("memory:", Access::ReadWrite).await.unwrap(), study());
    let mut ended = planner(&study);
    let half = Step { freeze: Vec::new(), ..step(&mut ended) };
    write(&store, &mut ended, half).await.unwrap();
    let records = store.list("decisions").await.unwrap();
    assert_eq!(records.len(), 1);

    let existing = ledger::read(&store).await.unwrap();
    assert_eq!(existing.count_done(), 0, "the record of a set is no fact of a plan");
    let mut next = planner(&study);
    let asked = step(&mut next);
    write(&store, &mut next, asked.clone()).await.unwrap();
    assert!(chosen(&store, &asked).await.is_some());
    assert_eq!(store.list("decisions").await.unwrap().len(), 2, "the set is there once");
    assert!(step(&mut next).training_set.is_none());
}

#[tokio::test]
async fn of_two_coordinators_that_choose_different_sets_both_train_the_first_ones() {
    let (store, study) = (Store::open("memory:", Access::ReadWrite).await.unwrap(), study());
    let (mut slow, mut fast) = (planner(&study), planner(&study));
    let late = step(&mut slow);
    // The fast one knows a unit less: it has given up one that the slow one saw finished.
    let mut early = step(&mut fast);
    let set = early.training_set.as_mut().unwrap();
    set.datasets[0].units.pop();
    early.freeze[0].detail = set.id().into();
    assert_ne!(early.freeze[0].detail, late.freeze[0].detail);
    write(&store, &mut fast, early.clone()).await.unwrap();
    write(&store, &mut slow, late.clone()).await.unwrap();
    assert_eq!(chosen(&store, &late).await.unwrap().id(), early.freeze[0].detail.as_str().unwrap());
    step(&mut slow);
    step(&mut fast);
    let open = |planner: &Planner<'_>| -> Vec<_> {
        planner.open_places().flat_map(|place| planner.tasks(place)).collect()
    };
    assert!(!open(&slow).is_empty());
    assert_eq!(open(&slow), open(&fast));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_chosen_while_its_set_cannot_be_written() {
    for in_the_way in ["results/training-set", "decisions/SET"] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file:{}", folder.path().display());
        let (store, study) = (Store::open(&url, Access::ReadWrite).await.unwrap(), study());
        let mut planner = planner(&study);
        let asked = step(&mut planner);
        let id = asked.training_set.as_ref().unwrap().id();
        // A file where a folder has to be.
        let path = folder.path().join(in_the_way.replace("SET", &id));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "in the way").unwrap();
        let writing = write(&store, &mut planner, asked.clone());
        let ended = tokio::time::timeout(std::time::Duration::from_mins(10), writing).await;
        assert!(!matches!(ended, Ok(Ok(_))), "the set is not written");
        assert_eq!(chosen(&store, &asked).await, None);

        std::fs::remove_file(&path).unwrap();
        write(&store, &mut planner, asked.clone()).await.unwrap();
        assert!(chosen(&store, &asked).await.is_some());
    }
}

#[tokio::test]
async fn the_files_of_a_training_set_are_kept_as_long_as_its_record() {
    let (store, study) = (Store::open("memory:", Access::ReadWrite).await.unwrap(), study());
    let mut planner = planner(&study);
    let asked = step(&mut planner);
    write(&store, &mut planner, asked).await.unwrap();
    let inventory = store.inventory(&study.specification.name).await.unwrap();
    assert!(!inventory.results.is_empty());
    for file in &inventory.results {
        assert!(inventory.named.contains(&file.path), "{}", file.path);
    }
}

/// Commits a bundle of the study. The loss of a cell is its number: the first cells are the best.
async fn train(store: &Store, task: &Evaluate) {
    let units: Vec<String> = task.units.iter().map(|unit| task.unit_id(unit)).collect();
    let row = |(unit, id): (&Unit, &String)| EvaluationRow {
        unit_id: id.clone(),
        dataset_id: task.dataset.id(),
        cell: unit.cell.to_string(),
        fit_loss: Some(f64::from(unit.cell.index().get())),
        ..EvaluationRow::default()
    };
    let rows: Vec<EvaluationRow> = task.units.iter().zip(&units).map(row).collect();
    let summary = trained(rows.len());
    let marker = Marker {
        kind: Kind::Evaluate.name().to_owned(),
        id: Task::Evaluate(task.clone()).id(),
        execution_id: random_id(),
        worker: "test".to_owned(),
        attempt: 1,
        files: vec![store.put_rows("evaluations", &rows).await.unwrap()],
        units,
        device: "cpu".to_owned(),
        started_at: now(),
        finished_at: now(),
        seconds: 0.0,
        summary: serde_json::to_value(summary).unwrap(),
    };
    store.commit(&marker).await.unwrap();
}

#[tokio::test]
async fn cells_around_the_best_are_chosen_from_the_stores_rows_and_hold_for_every_later_coordinator() {
    let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
    let around = "cells_per_dataset: 12, with_live_3x3: 0.0, around_best: { share: 0.5, top: 0.1 }";
    let study = study_of(&SPECIFICATION.replace("cells_per_dataset: 4", around));
    let mut rows = Vec::new();
    for bundle in study.bundles() {
        train(&store, &bundle.evaluate(bundle.units.to_vec())).await;
        if bundle.dataset.group == Group::MetaTrain {
            rows.extend(bundle.units.iter().map(|unit| Trained {
                dataset: bundle.dataset.id.clone(),
                cell: unit.cell,
                fit_loss: Some(f64::from(unit.cell.index().get())),
            }));
        }
    }
    let mut planner = Planner::new(&study, ledger::read(&store).await.unwrap());
    let asked = step(&mut planner);
    let choices = asked.around_best.as_ref().unwrap().choose(&rows);
    assert_eq!(choices.len(), 3, "one for each dataset");
    assert!(write(&store, &mut planner, asked).await.unwrap());
    for choice in &choices {
        let record = store.decision(&choice.id).await.unwrap().unwrap();
        assert_eq!((record.number, record.decision.as_str()), (0, "cells-around-best"));
        assert_eq!(record.detail, choice.detail);
        assert_eq!(record.detail.as_array().unwrap().len(), 6);
    }
    let open = |planner: &mut Planner<'_>| -> Vec<Task> {
        assert_eq!(step(planner).around_best, None);
        planner.open_places().flat_map(|place| planner.tasks(place)).map(|(_, task)| task).collect()
    };
    let tasks = open(&mut planner);
    let trainings =
        tasks.iter().map(|task| if let Task::Evaluate(task) = task { task.units.len() } else { 0 });
    assert_eq!(trainings.sum::<usize>(), 3 * 6);
    let mut next = Planner::new(&study, ledger::read(&store).await.unwrap());
    assert_eq!(open(&mut next), tasks);
}
