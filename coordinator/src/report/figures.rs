//! Everything that the page tells, collected from a snapshot's rows. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use metad2a_database::Snapshot;
use metad2a_database::tables::EvaluationRow;
use serde::Serialize;

use super::outcome::{ModelReport, mean, model_reports, searched};
use super::provenance::Provenance;
use super::statistics::spearman;
use super::tables::Tables;
use super::target::{Target, representative};

/// A snapshot in figures. Accuracies lie in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) pipeline: String,
    pub(crate) snapshot: u32,
    pub(crate) published_at: DateTime<Utc>,
    /// The snapshot whose content was published again.
    pub(crate) restored_from: Option<u32>,
    /// What the snapshot says of itself.
    pub(crate) notes: Vec<String>,
    pub(crate) datasets: Vec<Dataset>,
    /// Trainings of our own.
    pub(crate) evaluations: u64,
    pub(crate) imported_evaluations: u64,
    /// Status → trainings of our own.
    pub(crate) by_status: BTreeMap<String, u64>,
    pub(crate) devices: Vec<Device>,
    /// By name.
    pub(crate) targets: Vec<Target>,
    pub(crate) models: Vec<Model>,
    pub(crate) agreements: Vec<Agreement>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) set_aside: Vec<SetAside>,
    pub(crate) provenance: Provenance,
}

/// A dataset and what was trained on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Dataset {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) classes: i64,
    /// Training, validation and test pictures.
    pub(crate) pictures: [i64; 3],
    pub(crate) trainings: u64,
    pub(crate) mean_valid_accuracy: Option<f64>,
    pub(crate) best_valid_accuracy: Option<f64>,
}

/// What trained on one kind of device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) trainings: u64,
    /// Training steps only: no validation, no model, no search.
    pub(crate) training_hours: f64,
}

/// A model's figures by round, over all datasets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Model {
    pub(crate) outcome: ModelReport,
    /// The round, from 1, whose checkpoint is published; none where that is of another training.
    pub(crate) published_round: Option<i64>,
    /// Metric → (round from 1, value).
    pub(crate) by_round: BTreeMap<String, Vec<(i64, f64)>>,
}

/// How our trainings order cells against what others measured of the same cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Agreement {
    pub(crate) dataset: String,
    pub(crate) imported_dataset: String,
    pub(crate) protocol: String,
    pub(crate) cells: usize,
    pub(crate) spearman: Option<f64>,
}

/// Trainings that did not complete, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Problem {
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) trainings: u64,
    /// One of the cells.
    pub(crate) arch_index: i64,
}

/// A task that was given up, cancelled or dropped, as the store knows it now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SetAside {
    pub(crate) id: String,
    pub(crate) kind: Option<String>,
    /// `failed`, `cancelled` or `dropped`.
    pub(crate) state: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) reason: Option<String>,
}

impl Figures {
    pub(crate) fn new(snapshot: &Snapshot, tables: &Tables, set_aside: Vec<SetAside>) -> Self {
        let own = || tables.evaluations.iter().filter(|row| row.protocol.is_none());
        let mut by_status = BTreeMap::new();
        for row in own() {
            *by_status.entry(row.status.clone()).or_default() += 1;
        }
        Self {
            pipeline: snapshot.pipeline.clone(),
            snapshot: snapshot.number,
            published_at: snapshot.published_at,
            restored_from: snapshot.restored_from,
            notes: snapshot.notes.clone(),
            datasets: datasets(tables),
            evaluations: own().count() as u64,
            imported_evaluations: tables.imported_evaluations(),
            by_status,
            devices: devices(own()),
            targets: searched(tables).into_iter().map(|outcome| Target::new(tables, outcome)).collect(),
            models: models(tables),
            agreements: agreements(tables),
            problems: problems(own()),
            set_aside,
            provenance: Provenance::new(snapshot, tables),
        }
    }

    /// Training steps on all devices, in hours.
    pub(crate) fn training_hours(&self) -> f64 {
        self.devices.iter().map(|device| device.training_hours).sum()
    }
}

/// By group, in the order of use, and name.
fn datasets(tables: &Tables) -> Vec<Dataset> {
    let mut trained: HashMap<&str, Vec<Option<f64>>> = HashMap::new();
    for row in &tables.evaluations {
        trained.entry(&row.dataset_id).or_default().push(row.valid_accuracy);
    }
    let mut datasets: Vec<Dataset> = tables
        .datasets
        .iter()
        .map(|row| {
            let accuracies = trained.get(row.dataset_id.as_str()).map(Vec::as_slice).unwrap_or_default();
            Dataset {
                name: row.name.clone(),
                group: row.class_group.clone(),
                classes: row.classes,
                pictures: [row.train_pictures, row.valid_pictures, row.test_pictures],
                trainings: accuracies.len() as u64,
                mean_valid_accuracy: mean(accuracies.iter().copied()),
                best_valid_accuracy: accuracies.iter().copied().flatten().max_by(f64::total_cmp),
            }
        })
        .collect();
    let order = |group: &str| {
        ["meta-train", "meta-valid", "meta-test", "target", "imported"]
            .iter()
            .position(|known| *known == group)
    };
    datasets.sort_by(|a, b| order(&a.group).cmp(&order(&b.group)).then(a.name.cmp(&b.name)));
    datasets
}

fn devices<'a>(rows: impl Iterator<Item = &'a EvaluationRow>) -> Vec<Device> {
    let mut devices: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for row in rows {
        let (trainings, seconds) = devices.entry(&row.device).or_default();
        *trainings += 1;
        *seconds += row.train_seconds;
    }
    let device = |(name, (trainings, seconds)): (&str, (u64, f64))| Device {
        name: name.to_owned(),
        trainings,
        training_hours: seconds / 3600.0,
    };
    devices.into_iter().map(device).collect()
}

fn models(tables: &Tables) -> Vec<Model> {
    let reports = model_reports(&tables.training_metrics, &tables.models);
    reports
        .into_iter()
        .map(|outcome| {
            let mut by_round: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
            let own = tables.training_metrics.iter().filter(|row| row.model == outcome.model);
            for row in own.filter(|row| row.dataset_id.is_none()) {
                by_round.entry(row.metric.clone()).or_default().push((row.round + 1, row.value));
            }
            for points in by_round.values_mut() {
                points.sort_by_key(|point| point.0);
            }
            let published = tables.models.iter().filter(|row| {
                row.model == outcome.model
                    && tables
                        .training_metrics
                        .iter()
                        .any(|metric| Some(&metric.training_id) == row.training_id.as_ref())
            });
            Model { published_round: published.map(|row| row.round + 1).max(), outcome, by_round }
        })
        .collect()
}

/// Cells with a figure of ours and one of theirs; cells that compute the same function count once. Over datasets of the
/// same classes of the same source, since others name theirs as they like.
fn agreements(tables: &Tables) -> Vec<Agreement> {
    type Cells = HashMap<i64, Vec<f64>>;
    let mut ours: HashMap<&str, Cells> = HashMap::new();
    let mut theirs: BTreeMap<(&str, &str), Cells> = BTreeMap::new();
    for row in &tables.evaluations {
        let Some(class) = representative(row.arch_index) else { continue };
        let Some(accuracy) = row.test_accuracy.or(row.valid_accuracy) else { continue };
        let cells = match &row.protocol {
            None => ours.entry(&row.dataset_id).or_default(),
            Some(protocol) => theirs.entry((&row.dataset_id, protocol)).or_default(),
        };
        cells.entry(i64::from(class.get())).or_default().push(accuracy);
    }
    let average = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let mut agreements = Vec::new();
    for ((imported, protocol), their_cells) in &theirs {
        let Some(other) = tables.datasets.iter().find(|row| row.dataset_id == *imported) else { continue };
        let alike = tables.datasets.iter().filter(|row| {
            row.provenance.is_none()
                && row.source == other.source
                && row.class_labels.iter().collect::<BTreeSet<_>>() == other.class_labels.iter().collect()
        });
        for dataset in alike {
            let Some(own_cells) = ours.get(dataset.dataset_id.as_str()) else { continue };
            let pairs: Vec<(f64, f64)> = own_cells
                .iter()
                .filter_map(|(class, own)| Some((average(own), average(their_cells.get(class)?))))
                .collect();
            agreements.push(Agreement {
                dataset: dataset.name.clone(),
                imported_dataset: other.name.clone(),
                protocol: (*protocol).to_owned(),
                cells: pairs.len(),
                spearman: spearman(&pairs),
            });
        }
    }
    agreements
}

/// Most frequent first.
fn problems<'a>(rows: impl Iterator<Item = &'a EvaluationRow>) -> Vec<Problem> {
    let mut found: BTreeMap<(&str, &str), Problem> = BTreeMap::new();
    for row in rows.filter(|row| row.status != "completed") {
        let reason = row.status_reason.as_deref().unwrap_or("no reason was recorded");
        let problem = found.entry((&row.status, reason)).or_insert_with(|| Problem {
            status: row.status.clone(),
            reason: reason.to_owned(),
            trainings: 0,
            arch_index: row.arch_index,
        });
        problem.trainings += 1;
    }
    let mut problems: Vec<Problem> = found.into_values().collect();
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.trainings));
    problems
}

#[cfg(test)]
#[path = "figures_tests.rs"]
pub(crate) mod tests;
