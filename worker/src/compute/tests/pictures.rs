//! Tasks that read pictures, on IDX files of a few hundred small ones.

use std::path::Path;

use metad2a_database::sha256_hex;
use metad2a_database::tables::{CurveRow, EvaluationRow, FeatureRow};
use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::tasks::{
    Augmentation, Dataset, Evaluate, ExtractFeatures, Extractor, ExtractorKind, Fractions, Look,
    PicturesPerClass, Recipe, Summary, Unit,
};
use metad2a_randomness::Key;

use super::super::error::is_permanent;
use super::*;

pub(super) const SOURCE: &str = "a source's content id";
const SIDE: usize = 8;

/// Pictures of three classes: a bright band whose place is the class, under noise; class 2 has only four pictures.
pub(super) fn write_idx(folder: &Path) -> SourceAddress {
    let mut stream = Key::new("pictures", "noise").stream(0);
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for number in 0..124_u32 {
        let label = if number < 120 { (number % 2) as u8 } else { 2 };
        labels.push(label);
        for position in 0..SIDE * SIDE {
            let bright = if position / SIDE / 3 == usize::from(label) { 120 } else { 0 };
            pixels.push(bright + stream.below(100) as u8);
        }
    }
    let count = (labels.len() as u32).to_be_bytes();
    let side = (SIDE as u32).to_be_bytes();
    let images: Vec<u8> = [&[0, 0, 8, 3][..], &count, &side, &side, &pixels].concat();
    let labels: Vec<u8> = [&[0, 0, 8, 1][..], &count, &labels].concat();
    let paths =
        [("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)].map(|(name, bytes)| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        });
    SourceAddress { name: "bands".into(), format: "idx".into(), paths: paths.to_vec(), fingerprint: None }
}

const FRACTIONS: Fractions = Fractions { train: 0.6, valid: 0.2, test: 0.2 };

pub(super) fn evaluate(classes: &[u32], units: &[Unit]) -> Evaluate {
    Evaluate {
        dataset: Dataset {
            source: SOURCE.into(),
            classes: classes.to_vec(),
            per_class: PicturesPerClass { train: 16, valid: 6, test: 6 },
            fractions: FRACTIONS,
            look: Look::default(),
        },
        recipe: Recipe {
            epochs: 2,
            batch_size: 8,
            channels: 4,
            cells_per_stage: 1,
            image_size: 8,
            augmentation: Augmentation { horizontal_flip: true, crop_padding: 1 },
            ..Recipe::nas_bench_201()
        },
        units: units.to_vec(),
    }
}

pub(super) fn unit(cell: &str, seed: u64) -> Unit {
    Unit { cell: cell.parse().unwrap(), seed }
}

pub(super) fn units() -> [Unit; 2] {
    [
        unit("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|", 0),
        unit("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|", 7),
    ]
}

/// Rows without their measured columns, by unit.
fn rows(store: &str, task: Evaluate, source: &SourceAddress) -> (Vec<EvaluationRow>, Vec<CurveRow>, Summary) {
    let mut engine = engine(store);
    let mut envelope = envelope(Task::Evaluate(task));
    envelope.sources.insert(SOURCE.into(), source.clone());
    let finished = work(&mut engine, envelope).unwrap();
    let (mut rows, curves) = rows_of(&engine, &finished);
    for row in &mut rows {
        row.task_id = String::new();
    }
    (rows, curves, finished.summary)
}

/// The rows of a finished bundle with their measured columns.
pub(super) fn measured_rows_of(engine: &Engine, finished: &Finished) -> Vec<EvaluationRow> {
    engine.runtime.block_on(engine.store.read_files(&finished.files[..1])).unwrap()
}

/// The rows of a finished bundle without their measured columns.
pub(super) fn rows_of(engine: &Engine, finished: &Finished) -> (Vec<EvaluationRow>, Vec<CurveRow>) {
    let [evaluations, curves] = &finished.files[..] else { panic!("two files") };
    assert_eq!(evaluations.kind(), Some("evaluations"));
    let mut rows = measured_rows_of(engine, finished);
    let curves = engine.store.read_files(std::slice::from_ref(curves));
    let mut curves: Vec<CurveRow> = engine.runtime.block_on(curves).unwrap();
    for row in &mut rows {
        *row = EvaluationRow {
            train_seconds: 0.0,
            finished_at: chrono::DateTime::UNIX_EPOCH,
            images_per_second: None,
            peak_memory_bytes: None,
            latency_batch_1_median_milliseconds: None,
            latency_batch_1_p95_milliseconds: None,
            latency_batch_64_median_milliseconds: None,
            latency_batch_64_p95_milliseconds: None,
            ..row.clone()
        };
    }
    for point in &mut curves {
        point.train_seconds = 0.0;
    }
    (rows, curves)
}

#[test]
fn an_evaluation_repeats_and_a_unit_does_not_see_its_companions() {
    let folder = tempfile::tempdir().unwrap();
    let source = write_idx(folder.path());
    let bundle = evaluate(&[0, 1], &units());
    let (first, first_curves, summary) = rows("first", bundle.clone(), &source);
    let (second, second_curves, _) = rows("second", bundle.clone(), &source);
    assert_eq!(first, second);
    assert_eq!(first_curves, second_curves);

    let (alone, _, _) = rows("third", evaluate(&[0, 1], &units()[1..]), &source);
    assert_eq!(alone.len(), 1);
    assert!(first.contains(&alone[0]));

    assert_eq!(first.len(), 2);
    assert_eq!(first_curves.len(), 4);
    assert_eq!(first_curves.iter().map(|point| point.epoch).max(), Some(2));
    let Summary::Evaluations { units: 2, diverged: 0, train_pictures, data_hash, .. } = summary else {
        panic!("{summary:?}")
    };
    assert_eq!(train_pictures, 32);
    for row in &first {
        assert_eq!(
            row.unit_id,
            bundle.unit_id(bundle.units.iter().find(|u| u.cell.to_string() == row.cell).unwrap())
        );
        assert_eq!((row.status.as_str(), row.epochs_done), ("completed", 2));
        assert_eq!(row.data_hash, data_hash);
        assert!(row.valid_accuracy.is_some() && row.test_accuracy.is_some());
        let losses: Vec<f64> = first_curves
            .iter()
            .filter(|point| point.unit_id == row.unit_id)
            .filter_map(|point| point.train_loss)
            .collect();
        let mean = losses.iter().sum::<f64>() / 2.0;
        assert!((row.fit_loss.unwrap() - mean).abs() < 1e-12);
    }
}

#[test]
fn a_training_that_diverges_is_a_row_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let source = write_idx(folder.path());
    let mut task = evaluate(&[0, 1], &units()[..1]);
    task.recipe.learning_rate = 1e30;
    let (rows, _, summary) = rows("diverging", task, &source);
    assert_eq!(rows[0].status, "diverged");
    assert!(rows[0].status_reason.is_some());
    assert_eq!((rows[0].valid_accuracy, rows[0].fit_loss), (None, None));
    assert!(matches!(summary, Summary::Evaluations { diverged: 1, .. }));
}

#[test]
fn a_class_with_too_few_pictures_cannot_be_cured_by_another_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let mut envelope = envelope(Task::Evaluate(evaluate(&[0, 2], &units())));
    envelope.sources.insert(SOURCE.into(), write_idx(folder.path()));
    let error = work(&mut engine("small"), envelope).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
}

#[test]
fn a_source_or_weights_that_the_message_does_not_name_cannot_be_cured_either() {
    let mut engine = engine("unnamed");
    let error = work(&mut engine, envelope(Task::Evaluate(evaluate(&[0, 1], &units())))).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");

    let folder = tempfile::tempdir().unwrap();
    let task = ExtractFeatures {
        source: SOURCE.into(),
        classes: vec![0],
        fractions: FRACTIONS,
        images_per_class: 2,
        extractor: Extractor {
            kind: ExtractorKind::Resnet18,
            weights_sha256: "ab".repeat(32),
            image_size: 32,
        },
        look: Look::default(),
    };
    let mut unnamed = envelope(Task::ExtractFeatures(task));
    unnamed.sources.insert(SOURCE.into(), write_idx(folder.path()));
    let mut other = unnamed.clone();
    let error = work(&mut engine, unnamed).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");

    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, b"other weights").unwrap();
    other.weights.insert("ab".repeat(32), path.to_str().unwrap().into());
    let error = work(&mut engine, other).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
    assert!(error.to_string().contains("weights.safetensors"), "{error:#}");
}

/// Features of two classes with the shipped extractor.
pub(super) fn features(folder: &Path, images_per_class: u32) -> Envelope {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.weights/efficientnet-lite0.safetensors");
    let sha256 = sha256_hex(&std::fs::read(&path).unwrap());
    let mut envelope = envelope(Task::ExtractFeatures(ExtractFeatures {
        source: SOURCE.into(),
        classes: vec![0, 1],
        fractions: FRACTIONS,
        images_per_class,
        extractor: Extractor {
            kind: ExtractorKind::EfficientnetLite0,
            weights_sha256: sha256.clone(),
            image_size: 64,
        },
        look: Look::default(),
    }));
    envelope.sources.insert(SOURCE.into(), write_idx(folder));
    envelope.weights.insert(sha256, path.to_str().unwrap().into());
    envelope
}

#[test]
#[ignore = "needs weights: scripts/weights/fetch.sh"]
fn features_repeat_and_keep_the_hashes_of_their_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let envelope = features(folder.path(), 3);
    let mut engine = engine("features");
    let first = work(&mut engine, envelope.clone()).unwrap();
    assert_eq!(first, work(&mut self::engine("features again"), envelope).unwrap());
    assert_eq!(first.summary, Summary::Features { pictures: 6 });
    let rows: Vec<FeatureRow> = engine.runtime.block_on(engine.store.read_files(&first.files)).unwrap();
    let classes: Vec<i64> = rows.iter().map(|row| row.class_label).collect();
    assert_eq!(classes, [0, 0, 0, 1, 1, 1]);
    for row in &rows {
        assert_eq!(row.vector.len(), ExtractorKind::EfficientnetLite0.width() as usize);
        assert!(row.vector.iter().any(|number| *number > 0.0));
        assert_eq!(row.picture_hash.len(), 64);
    }
}

#[test]
#[ignore = "needs weights: scripts/weights/fetch.sh"]
fn features_of_a_look_are_of_other_vectors_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = engine("looks");
    let mut of = |look: Look| -> Vec<FeatureRow> {
        let mut envelope = features(folder.path(), 3);
        let Task::ExtractFeatures(task) = &mut envelope.task else { panic!("features") };
        task.look = look;
        let finished = work(&mut engine, envelope).unwrap();
        engine.runtime.block_on(engine.store.read_files(&finished.files)).unwrap()
    };
    let (usual, blurred) = (of(Look::default()), of(Look { grey: true, resolution: Some(2) }));
    for (usual, blurred) in usual.iter().zip(&blurred) {
        assert_eq!(usual.picture_hash, blurred.picture_hash, "the same pictures");
        assert_ne!(usual.vector, blurred.vector);
        assert_eq!((usual.grey, usual.resolution), (None, None));
        assert_eq!((blurred.grey, blurred.resolution), (Some(true), Some(2)));
    }
    assert_eq!(of(Look { grey: true, resolution: None })[0].vector, usual[0].vector, "it was grey before");
}

#[test]
fn a_source_that_changed_since_the_task_was_published_is_refused_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let address = SourceAddress { fingerprint: Some("00".repeat(32)), ..write_idx(folder.path()) };
    let mut envelope = envelope(Task::Evaluate(evaluate(&[0, 1], &units())));
    envelope.sources.insert(SOURCE.into(), address);
    let error = work(&mut engine("changed"), envelope).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
    assert!(format!("{error:#}").contains("changed while the pipeline was running"), "{error:#}");
}
