//! Tasks of the models, on a frozen training set of made-up features and accuracies.

use metad2a_database::tables::{EvaluationRow, FeatureRow};
use metad2a_database::{FileRef, Marker, now, random_id};
use metad2a_pipeline::labels::Label;
use metad2a_pipeline::tasks::{
    Blob, Constraints, Dataset, Fractions, Kind, Look, Mode, Model, ModelSettings, PicturesPerClass, Search,
    Summary, TrainEpisodes, Validate,
};
use metad2a_pipeline::training_set::{FrozenSet, Group, TrainingDataset, TrainingSet};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, MacroShape, parameters};

use super::super::error::is_permanent;
use super::super::inputs::blob_of;
use super::*;

const WIDTH: u32 = 8;
const SOURCE: &str = "a source's content id";
const FEATURES: &str = "features-task";
const BUNDLE: &str = "bundle-task";

fn settings() -> ModelSettings {
    ModelSettings {
        mode: Mode::Default,
        label: metad2a_pipeline::labels::Label::ValidAccuracy,
        feature_width: WIDTH,
        hidden: 8,
        latent: 4,
        batch_size: 4,
        learning_rate: 1e-3,
        images_per_class: 2,
        classes_per_dataset: 2,
        top_fraction: 0.5,
        ranking_weight: 0.5,
    }
}

fn dataset(group: Group, classes: [u32; 2]) -> TrainingDataset {
    let dataset = Dataset {
        source: SOURCE.into(),
        classes: classes.to_vec(),
        per_class: PicturesPerClass { train: 5, valid: 5, test: 5 },
        fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
        look: Look::default(),
    };
    let id = dataset.id();
    let units = (0..12).map(|number| format!("{id}-{number}")).collect();
    TrainingDataset { id, group, dataset, features: vec![FEATURES.into()], units }
}

pub(super) fn commit(engine: &Engine, kind: Kind, id: &str, file: FileRef) {
    let marker = Marker {
        kind: kind.name().into(),
        id: id.into(),
        execution_id: random_id(),
        worker: "test".into(),
        attempt: 1,
        files: vec![file],
        units: Vec::new(),
        device: "cpu".into(),
        started_at: now(),
        finished_at: now(),
        seconds: 0.0,
        summary: serde_json::Value::Null,
    };
    engine.runtime.block_on(engine.store.commit(&marker)).unwrap();
}

pub(super) fn evaluation(
    unit: &str,
    dataset: &str,
    cell: Cell,
    valid_accuracy: Option<f64>,
) -> EvaluationRow {
    EvaluationRow {
        unit_id: unit.into(),
        dataset_id: dataset.into(),
        arch_index: i64::from(cell.index().get()),
        cell: cell.to_string(),
        seed: 0,
        recipe_id: "recipe".into(),
        epochs: 1,
        batch_size: 1,
        learning_rate: 0.1,
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
        status: "completed".into(),
        status_reason: None,
        epochs_done: 1,
        train_accuracy: None,
        train_loss: None,
        valid_accuracy,
        valid_loss: None,
        // Never read: a training that looked at it would find the best cells here.
        test_accuracy: Some(1.0),
        test_loss: None,
        fit_loss: None,
        train_loss_sum: None,
        params: 1,
        flops: 1,
        data_hash: "hash".into(),
        train_seconds: 0.0,
        code_version: "0".into(),
        libtorch_version: "0".into(),
        device: "cpu".into(),
        task_id: BUNDLE.into(),
        finished_at: now(),
        ..EvaluationRow::default()
    }
}

/// Freezes a training set of six datasets with twelve cells each, stored in two parts; returns its id.
pub(super) fn freeze(engine: &Engine, accuracy: impl Fn(usize) -> Option<f64>) -> String {
    let set = store_inputs(engine, accuracy);
    let (first, second) = set.datasets.split_at(3);
    let parts = [
        TrainingSet { datasets: first.to_vec(), ..TrainingSet::default() },
        TrainingSet {
            datasets: second.to_vec(),
            evaluations: set.evaluations.clone(),
            ..TrainingSet::default()
        },
    ];
    let parts = parts.map(|part| {
        let json = serde_json::to_vec(&part).unwrap().into();
        blob_of(&engine.runtime.block_on(engine.store.put_data("training-set", "json", json, None)).unwrap())
    });
    decide(engine, &set.id(), &FrozenSet::Stored { parts: parts.into() });
    set.id()
}

pub(super) fn decide(engine: &Engine, id: &str, frozen: &FrozenSet) {
    let detail = serde_json::to_value(frozen).unwrap();
    engine.runtime.block_on(engine.store.decide_once(id, "training-set", detail)).unwrap();
}

/// Stores what a training set of six datasets with twelve cells each is made of.
pub(super) fn store_inputs(engine: &Engine, accuracy: impl Fn(usize) -> Option<f64>) -> TrainingSet {
    let set = TrainingSet {
        datasets: vec![
            dataset(Group::MetaTrain, [0, 1]),
            dataset(Group::MetaTrain, [1, 2]),
            dataset(Group::MetaTrain, [0, 3]),
            dataset(Group::MetaValid, [4, 5]),
            dataset(Group::MetaValid, [6, 7]),
            dataset(Group::MetaValid, [4, 7]),
        ],
        evaluations: vec![BUNDLE.into()],
        imported: Vec::new(),
    };
    let mut stream = Key::new("features", "test").stream(0);
    let features: Vec<FeatureRow> = (0..8)
        .flat_map(|class| (0..3).map(move |picture| (class, picture)))
        .map(|(class, picture)| FeatureRow {
            source_content_id: SOURCE.into(),
            extractor: "test".into(),
            class_label: class,
            picture_index: picture,
            picture_hash: format!("{class}-{picture}"),
            vector: (0..WIDTH).map(|_| stream.uniform() as f32).collect(),
            ..FeatureRow::default()
        })
        .collect();
    let cells: Vec<Cell> = Cell::all().filter(|cell| !cell.is_always_zero()).step_by(997).take(12).collect();
    let mut rows = Vec::new();
    for dataset in &set.datasets {
        for (number, (unit, cell)) in dataset.units.iter().zip(&cells).enumerate() {
            rows.push(evaluation(unit, &dataset.id, *cell, accuracy(number)));
        }
    }
    // A row that nobody listed.
    rows.push(evaluation("another unit", "another dataset", cells[0], Some(0.9)));
    let store = &engine.store;
    let (features, rows) = engine.runtime.block_on(async {
        (
            store.put_rows("features", &features).await.unwrap(),
            store.put_rows("evaluations", &rows).await.unwrap(),
        )
    });
    commit(engine, Kind::ExtractFeatures, FEATURES, features);
    commit(engine, Kind::Evaluate, BUNDLE, rows);
    set
}

#[expect(clippy::unnecessary_wraps, reason = "the other tests' accuracies may be absent")]
pub(super) fn usual(number: usize) -> Option<f64> {
    Some(0.4 + 0.03 * number as f64)
}

pub(super) fn training(
    model: Model,
    training_set: &str,
    round: u32,
    steps: u32,
    from: Option<&Trained>,
) -> TrainEpisodes {
    TrainEpisodes {
        model,
        settings: settings(),
        training_set: training_set.into(),
        seed: 3,
        round,
        shard: 0,
        steps,
        base: from.map(|trained| trained.parameters.clone()),
        optimiser: from.map(|trained| trained.optimiser.clone()),
    }
}

pub(super) struct Trained {
    start: Blob,
    parameters: Blob,
    optimiser: Blob,
}

pub(super) fn train(engine: &mut Engine, task: TrainEpisodes) -> Trained {
    let finished = work(engine, envelope(Task::TrainEpisodes(task))).unwrap();
    let Summary::Shard { start, parameters, optimiser, loss } = finished.summary else {
        panic!("{:?}", finished.summary)
    };
    assert!(loss.is_finite());
    for blob in [&parameters, &optimiser] {
        assert!(finished.files.iter().any(|file| file.sha256 == blob.sha256), "the marker names every file");
    }
    Trained { start, parameters, optimiser }
}

#[test]
fn a_dataset_has_the_features_of_its_own_look() {
    let mut engine = engine("looks");
    let mut set = store_inputs(&engine, usual);
    let grey: Vec<FeatureRow> = (0..2_u8)
        .map(|class| FeatureRow {
            source_content_id: SOURCE.into(),
            extractor: "test".into(),
            class_label: class.into(),
            picture_hash: format!("grey {class}"),
            vector: vec![2.0 + f32::from(class); WIDTH as usize],
            grey: Some(true),
            resolution: Some(8),
            ..FeatureRow::default()
        })
        .collect();
    let file = engine.runtime.block_on(engine.store.put_rows("features", &grey)).unwrap();
    commit(&engine, Kind::ExtractFeatures, "grey-features", file);
    // The same classes as the first, in another look; the rows are told by the units that are listed.
    let grey = &mut set.datasets[0];
    grey.dataset.look = Look { grey: true, resolution: Some(8) };
    grey.features = vec!["grey-features".into()];
    decide(&engine, &set.id(), &FrozenSet::Whole(set.clone()));
    let data = engine.training_data(&set.id(), Label::ValidAccuracy).unwrap();
    let firsts = |dataset: usize| -> Vec<f32> {
        data.train.datasets[dataset].classes.iter().map(|class| class[0][0]).collect()
    };
    assert_eq!(firsts(0), [2.0, 3.0]);
    assert!(firsts(1).iter().chain(&firsts(2)).all(|number| *number < 1.0), "as they are");
}

#[test]
fn two_rounds_of_a_lone_shard_equal_one_round_of_twice_the_steps() {
    for model in Model::ALL {
        let mut engine = engine(model.name());
        let set = freeze(&engine, usual);
        let long = train(&mut engine, training(model, &set, 0, 6, None));
        let first = train(&mut engine, training(model, &set, 0, 3, None));
        // Another process: nothing is carried over but the files.
        let mut engine = self::engine(model.name());
        let second = train(&mut engine, training(model, &set, 1, 3, Some(&first)));
        assert_eq!(first.start, long.start);
        assert_ne!(first.parameters, long.parameters);
        assert_eq!(second.parameters, long.parameters, "{}", model.name());
        assert_eq!(second.optimiser, long.optimiser, "{}", model.name());
    }
}

#[test]
fn shards_start_from_the_same_parameters_and_see_other_episodes() {
    let mut engine = engine("shards");
    let set = freeze(&engine, usual);
    let task = training(Model::Predictor, &set, 0, 2, None);
    let first = train(&mut engine, task.clone());
    let second = train(&mut engine, TrainEpisodes { shard: 1, ..task.clone() });
    assert_eq!(first.start, second.start);
    assert_ne!(first.parameters, second.parameters);
    let other_seed = train(&mut engine, TrainEpisodes { seed: 4, ..task });
    assert_ne!(first.start, other_seed.start);
}

#[test]
fn a_training_set_teaches_the_same_in_parts_and_as_earlier_builds_wrote_it() {
    let mut engine = engine("in parts");
    let id = freeze(&engine, usual);
    let in_parts = train(&mut engine, training(Model::Predictor, &id, 0, 2, None));
    let mut engine = self::engine("whole");
    let set = store_inputs(&engine, usual);
    assert_eq!(set.id(), id);
    decide(&engine, &id, &FrozenSet::Whole(set));
    let whole = train(&mut engine, training(Model::Predictor, &id, 0, 2, None));
    assert_eq!(whole.parameters, in_parts.parameters);
}

#[test]
fn a_part_of_a_training_set_that_is_gone_or_unreadable_is_named() {
    let mut engine = engine("parts");
    let set = store_inputs(&engine, usual);
    let put = engine.store.put_data("training-set", "json", "{}".into(), None);
    let part = blob_of(&engine.runtime.block_on(put).unwrap());
    decide(&engine, &set.id(), &FrozenSet::Stored { parts: vec![part.clone()] });
    let task = Task::TrainEpisodes(training(Model::Predictor, &set.id(), 0, 2, None));
    let unreadable = work(&mut engine, envelope(task.clone())).unwrap_err();
    assert!(is_permanent(&unreadable), "{unreadable:#}");
    assert!(unreadable.to_string().contains(&part.path), "{unreadable:#}");
    engine.runtime.block_on(engine.store.delete(&part.path)).unwrap();
    let gone = work(&mut engine, envelope(task)).unwrap_err();
    assert!(gone.to_string().contains(&part.path), "{gone:#}");
}

#[test]
fn networks_without_a_validation_accuracy_teach_nothing() {
    let mut engine = engine("untaught");
    let set = freeze(&engine, |_| None);
    let task = training(Model::Predictor, &set, 0, 2, None);
    let error = work(&mut engine, envelope(Task::TrainEpisodes(task))).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
    assert!(error.to_string().contains("validation accuracy"), "{error:#}");
}

/// The validation of a model that has hardly learnt anything.
pub(super) fn validation(engine: &mut Engine, model: Model) -> Validate {
    let training_set = freeze(engine, usual);
    let trained = train(engine, training(model, &training_set, 0, 2, None));
    Validate { model, settings: settings(), training_set, seed: 3, checkpoint: trained.parameters }
}

/// A search with models that have hardly learnt anything.
pub(super) fn search(engine: &mut Engine, candidates: u32) -> Search {
    let set = freeze(engine, usual);
    let mut trained = |model| train(engine, training(model, &set, 0, 2, None)).parameters;
    Search {
        dataset: "a dataset".into(),
        source: SOURCE.into(),
        classes: vec![4, 5],
        look: Look::default(),
        features: vec![FEATURES.into()],
        generator: trained(Model::Generator),
        generator_settings: settings(),
        predictor: trained(Model::Predictor),
        predictor_settings: settings(),
        candidates,
        sets: 2,
        seed: 1,
        constraints: Constraints::default(),
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
    }
}

#[test]
fn a_validation_scores_a_checkpoint_the_same_every_time() {
    for model in Model::ALL {
        let mut engine = engine(&format!("validate {}", model.name()));
        let task = Task::Validate(validation(&mut engine, model));
        let first = work(&mut engine, envelope(task.clone())).unwrap();
        assert_eq!(first, work(&mut engine, envelope(task)).unwrap());
        let Summary::Validation { score, metrics } = first.summary else { panic!("{:?}", first.summary) };
        assert!(score.is_finite() && score > f64::MIN);
        let expected = match model {
            Model::Predictor => ["spearman", "kendall", "pearson", "rmse"],
            Model::Generator => ["nll_per_graph", "validity", "uniqueness", "novelty"],
        };
        for name in expected {
            assert!(metrics.contains_key(name), "{name} in {metrics:?}");
        }
    }
}

#[test]
fn a_search_ranks_distinct_cells_within_their_limits() {
    let mut engine = engine("search");
    let usual = search(&mut engine, 10);
    let shape = MacroShape { channels: 4, cells_per_stage: 1, image_size: 8, classes: 2 };
    let mut costs: Vec<u64> = Cell::all().map(|cell| parameters(cell, shape)).collect();
    costs.sort_unstable();
    let limit = costs[costs.len() / 2];
    let task = |max_parameters| {
        Task::Search(Search { constraints: Constraints { max_parameters, max_flops: None }, ..usual.clone() })
    };
    let free = work(&mut engine, envelope(task(None))).unwrap();
    assert_eq!(free, work(&mut engine, envelope(task(None))).unwrap());
    let limited = work(&mut engine, envelope(task(Some(limit)))).unwrap();
    for (finished, limit) in [(free, u64::MAX), (limited, limit)] {
        let Summary::Search { ranked, .. } = finished.summary else { panic!("{:?}", finished.summary) };
        assert!(!ranked.is_empty());
        assert!(ranked.iter().all(|candidate| parameters(candidate.cell, shape) <= limit));
        assert!(ranked.windows(2).all(|pair| pair[0].predicted_accuracy >= pair[1].predicted_accuracy));
        let mut cells: Vec<Cell> = ranked.iter().map(|candidate| candidate.cell).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), ranked.len());
    }
}

#[test]
fn a_dataset_without_features_is_named() {
    let mut engine = engine("featureless");
    let set = freeze(&engine, usual);
    let trained = train(&mut engine, training(Model::Predictor, &set, 0, 1, None));
    let task = Task::Search(Search {
        dataset: "a dataset".into(),
        source: SOURCE.into(),
        classes: vec![4, 99],
        look: Look::default(),
        features: vec![FEATURES.into()],
        generator: trained.parameters.clone(),
        generator_settings: settings(),
        predictor: trained.parameters,
        predictor_settings: settings(),
        candidates: 1,
        sets: 1,
        seed: 1,
        constraints: Constraints::default(),
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
    });
    let error = work(&mut engine, envelope(task)).unwrap_err();
    assert!(is_permanent(&error));
    assert_eq!(error.to_string(), "dataset `a dataset`: class 99 is in none of its feature tables");
}
