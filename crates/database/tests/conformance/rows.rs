//! Rows for the other rules: small, valid, and with as many nulls as allowed where `full` is false.

use chrono::{DateTime, Utc};
use metad2a_database::tables::{
    ArchitectureRow, CandidateRow, CurveRow, DatasetRow, EvaluationRow, FeatureRow, LatencyRow, ModelRow,
    RunRow, SearchRow, TrainingMetricRow,
};

/// A time with microseconds, since tables must keep them.
pub(crate) fn time() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_760_000_000_123_456).unwrap()
}

pub(crate) fn dataset(id: &str) -> DatasetRow {
    DatasetRow {
        dataset_id: id.to_owned(),
        name: format!("name of {id}"),
        class_labels: vec![7, 3],
        class_names: vec!["otter".to_owned(), "Übergröße".to_owned()],
        classes: 2,
        image_size: 16,
        ..DatasetRow::default()
    }
}

pub(crate) fn architecture(arch_index: i64) -> ArchitectureRow {
    ArchitectureRow {
        arch_index,
        cell: format!("cell {arch_index}"),
        representative_index: arch_index,
        channels: 8,
        cells_per_stage: 1,
        image_size: 16,
        classes: 2,
        params: 100,
        flops: 1_000_000,
        ..ArchitectureRow::default()
    }
}

pub(crate) fn evaluation(dataset: &str, arch_index: i64, seed: i64) -> EvaluationRow {
    EvaluationRow {
        unit_id: format!("{dataset}-{arch_index}-{seed}"),
        dataset_id: dataset.to_owned(),
        arch_index,
        seed,
        epochs: 3,
        batch_size: 16,
        channels: 8,
        cells_per_stage: 1,
        image_size: 16,
        status: "completed".to_owned(),
        valid_accuracy: Some(0.1 + 0.2),
        valid_loss: Some(1.0 / 3.0),
        finished_at: time(),
        ..EvaluationRow::default()
    }
}

pub(crate) fn curve(dataset: &str, arch_index: i64, seed: i64, epoch: i64) -> CurveRow {
    CurveRow {
        unit_id: format!("{dataset}-{arch_index}-{seed}"),
        dataset_id: dataset.to_owned(),
        arch_index,
        seed,
        epoch,
        train_loss: (epoch > 0).then_some(0.5),
        ..CurveRow::default()
    }
}

pub(crate) fn feature(picture_index: i64) -> FeatureRow {
    FeatureRow {
        source_content_id: "source".to_owned(),
        extractor: "resnet18".to_owned(),
        picture_index,
        picture_hash: format!("hash {picture_index}"),
        vector: vec![f32::MIN_POSITIVE, -0.0, picture_index as f32 / 3.0],
        ..FeatureRow::default()
    }
}

pub(crate) fn latency(arch_index: i64) -> LatencyRow {
    LatencyRow {
        arch_index,
        device: "pixel3".to_owned(),
        batch_size: 1,
        latency_milliseconds: 1.25,
        channels: 16,
        cells_per_stage: 5,
        image_size: 32,
        classes: 10,
        imported_at: time(),
        ..LatencyRow::default()
    }
}

pub(crate) fn search(id: &str) -> SearchRow {
    SearchRow {
        search_id: id.to_owned(),
        candidates_requested: 1,
        finished_at: time(),
        ..SearchRow::default()
    }
}

pub(crate) fn candidate(search: &str, rank: i64) -> CandidateRow {
    CandidateRow {
        search_id: search.to_owned(),
        role: "candidate".to_owned(),
        rank,
        predicted_accuracy: Some(-0.25),
        ..CandidateRow::default()
    }
}

pub(crate) fn model() -> ModelRow {
    ModelRow {
        model: "predictor".to_owned(),
        parent_ids: Vec::new(),
        created_at: time(),
        ..ModelRow::default()
    }
}

pub(crate) fn training_metric() -> TrainingMetricRow {
    TrainingMetricRow { metric: "train_loss".to_owned(), value: -1.5, ..TrainingMetricRow::default() }
}

pub(crate) fn run() -> RunRow {
    RunRow { run_id: "run".to_owned(), started_at: time(), finished_at: None, ..RunRow::default() }
}
