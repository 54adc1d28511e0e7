//! Rows of the derived tables, from the study and what the store says of its results. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use metad2a_database::tables::{
    ArchitectureRow, CandidateRow, DatasetRow, EvaluationRow, ModelRow, SearchRow, TrainingMetricRow,
};
use metad2a_database::{Marker, ModelRecord};
use metad2a_pipeline::planner::{ModelSelected, Results, SearchResult};
use metad2a_pipeline::study::{Study, StudyDataset};
use metad2a_pipeline::tasks::{Model, Recipe, Summary, Unit, unit_id};
use metad2a_pipeline::training_set::Group;
use metad2a_search_space::{Cell, MacroShape, flops, parameters};

/// Shape of the networks trained on a dataset of `classes` classes.
fn shape(recipe: &Recipe, classes: usize) -> MacroShape {
    MacroShape {
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        classes: classes as u64,
    }
}

/// The recipe with which cells are trained on a dataset.
pub(super) fn recipe_of<'a>(study: &'a Study, dataset: &StudyDataset) -> &'a Recipe {
    let specification = &study.specification;
    match dataset.group {
        Group::MetaTrain | Group::MetaValid => specification.recipe(&specification.evaluations.recipe),
        Group::MetaTest | Group::Target => specification.recipe(&specification.search.recipe),
    }
}

/// One row per dataset on which something was trained: only then its pictures were drawn and counted.
pub(super) fn datasets(study: &Study, drawn: &HashMap<String, Summary>) -> Vec<DatasetRow> {
    let mut rows = Vec::new();
    for dataset in &study.datasets {
        let Some(Summary::Evaluations { train_pictures, valid_pictures, test_pictures, data_hash, .. }) =
            drawn.get(&dataset.id)
        else {
            continue;
        };
        let source = &study.sources[&dataset.source];
        let names: HashMap<u32, &String> =
            source.classes.iter().map(|(label, name)| (*label, name)).collect();
        rows.push(DatasetRow {
            dataset_id: dataset.id.clone(),
            name: dataset.name.clone(),
            class_group: dataset.group.name().to_owned(),
            source: dataset.source.clone(),
            source_content_id: source.content_id.clone(),
            class_labels: dataset.dataset.classes.iter().map(|label| i64::from(*label)).collect(),
            class_names: dataset.dataset.classes.iter().map(|label| names[label].clone()).collect(),
            classes: dataset.dataset.classes.len() as i64,
            train_pictures: *train_pictures as i64,
            valid_pictures: *valid_pictures as i64,
            test_pictures: *test_pictures as i64,
            image_size: recipe_of(study, dataset).image_size.into(),
            data_hash: data_hash.clone(),
            provenance: None,
            grey: Some(dataset.dataset.look.grey),
            resolution: dataset.dataset.look.resolution.map(i64::from),
        });
    }
    rows
}

/// Every cell at every shape in which cells were trained, here or where an import comes from.
pub(super) fn architectures(
    study: &Study,
    datasets: &[DatasetRow],
    imported: &BTreeSet<(u64, u64, u64, u64)>,
) -> Vec<ArchitectureRow> {
    let trained: BTreeSet<&str> = datasets.iter().map(|row| row.dataset_id.as_str()).collect();
    let mut shapes: BTreeMap<(u64, u64, u64, u64), MacroShape> = study
        .datasets
        .iter()
        .filter(|dataset| trained.contains(dataset.id.as_str()))
        .map(|dataset| shape(recipe_of(study, dataset), dataset.dataset.classes.len()))
        .map(|shape| ((shape.channels, shape.cells_per_stage, shape.image_size, shape.classes), shape))
        .collect();
    for key in imported {
        let (channels, cells_per_stage, image_size, classes) = *key;
        shapes.insert(*key, MacroShape { channels, cells_per_stage, image_size, classes });
    }
    let mut rows = Vec::new();
    for shape in shapes.values() {
        for cell in Cell::all() {
            rows.push(ArchitectureRow {
                arch_index: cell.index().get().into(),
                cell: cell.to_string(),
                canonical_index: cell.canonical_class().class() as i64,
                representative_index: cell.representative().index().get().into(),
                channels: shape.channels as i64,
                cells_per_stage: shape.cells_per_stage as i64,
                image_size: shape.image_size as i64,
                classes: shape.classes as i64,
                params: parameters(cell, *shape) as i64,
                flops: flops(cell, *shape) as i64,
            });
        }
    }
    rows
}

pub(super) fn models(records: &[(ModelRecord, &ModelSelected)]) -> Vec<ModelRow> {
    records
        .iter()
        .map(|(record, selected)| ModelRow {
            model: record.model.clone(),
            model_id: record.sha256.clone(),
            training_id: Some(selected.training.clone()),
            round: record.round.into(),
            config_json: record.config.to_string(),
            parent_ids: record.parents.clone(),
            trained_on_snapshot: record.snapshot.map(i64::from),
            size_bytes: record.bytes as i64,
            reproducible: Some(record.reproducible),
            created_at: record.created_at,
        })
        .collect()
}

/// The learning curves of both models.
pub(super) fn training_metrics(results: &Results) -> Vec<TrainingMetricRow> {
    let mut rows = Vec::new();
    for model in Model::ALL {
        let selected = &results.model(model).selected;
        for round in &selected.history {
            let figure = |metric: &str, dataset: Option<&str>, value: f64| TrainingMetricRow {
                model: model.name().to_owned(),
                training_id: selected.training.clone(),
                round: round.round.into(),
                metric: metric.to_owned(),
                dataset_id: dataset.map(str::to_owned),
                value,
            };
            rows.push(figure("train_loss", None, round.loss));
            if selected.quorum.is_some() {
                rows.push(figure("missing_shards", None, round.missing_shards.into()));
            }
            rows.extend(round.validation.iter().map(|(name, value)| {
                let (metric, dataset) =
                    name.split_once('.').map_or((name.as_str(), None), |(metric, id)| (metric, Some(id)));
                figure(&format!("valid_{metric}"), dataset, *value)
            }));
        }
    }
    rows
}

/// A finished search with its marker.
pub(super) struct Searched<'a> {
    pub(super) search: &'a SearchResult,
    pub(super) marker: &'a Marker,
    pub(super) summary: &'a Summary,
}

pub(super) fn searches(study: &Study, results: &Results, searched: &[Searched<'_>]) -> Vec<SearchRow> {
    let mut rows = Vec::new();
    for Searched { search, marker, summary } in searched {
        let Summary::Search { drawn, valid, distinct, ranked } = summary else { continue };
        rows.push(SearchRow {
            search_id: search.task.clone(),
            dataset_id: search.dataset.id.clone(),
            dataset_name: search.dataset.name.clone(),
            generator_id: results.generator.selected.checkpoint.sha256.clone(),
            predictor_id: results.predictor.selected.checkpoint.sha256.clone(),
            seed: study.specification.seed as i64,
            candidates_requested: study.specification.search.candidates.into(),
            graphs_drawn: *drawn as i64,
            graphs_valid: *valid as i64,
            cells_distinct: *distinct as i64,
            cells_canonical: ranked.len() as i64,
            search_seconds: marker.seconds,
            device: marker.device.clone(),
            finished_at: marker.finished_at,
        });
    }
    rows
}

/// All ranked cells, the trained ones with the figures of their first seed's training, and the random ones.
pub(super) fn candidates(
    study: &Study,
    searched: &[Searched<'_>],
    evaluations: &[EvaluationRow],
) -> Vec<CandidateRow> {
    let by_unit: HashMap<&str, &EvaluationRow> =
        evaluations.iter().map(|row| (row.unit_id.as_str(), row)).collect();
    let mut rows = Vec::new();
    for Searched { search, summary, .. } in searched {
        let Summary::Search { ranked, .. } = summary else { continue };
        let recipe = recipe_of(study, &search.dataset);
        let row = |cell: Cell, role: &str, rank: usize| {
            let shape = shape(recipe, search.dataset.dataset.classes.len());
            CandidateRow {
                search_id: search.task.clone(),
                dataset_id: search.dataset.id.clone(),
                role: role.to_owned(),
                rank: rank as i64,
                arch_index: cell.index().get().into(),
                cell: cell.to_string(),
                predicted_accuracy: None,
                predicted_accuracy_sd: None,
                params: parameters(cell, shape) as i64,
                flops: flops(cell, shape) as i64,
                latency_milliseconds: None,
                unit_id: None,
                valid_accuracy: None,
                test_accuracy: None,
                train_seconds: None,
            }
        };
        let measured = |mut row: CandidateRow, cell: Cell| {
            let seed = study.specification.search.seeds[0];
            let unit = unit_id(&search.dataset.dataset, recipe, &Unit { cell, seed });
            if let Some(training) = by_unit.get(unit.as_str()) {
                row.valid_accuracy = training.valid_accuracy;
                row.test_accuracy = training.test_accuracy;
                row.train_seconds = Some(training.train_seconds);
                row.unit_id = Some(unit);
            }
            row
        };
        for (position, ranked) in ranked.iter().enumerate() {
            let is_chosen = position < search.chosen.len();
            let mut row = row(ranked.cell, if is_chosen { "chosen" } else { "candidate" }, position + 1);
            row.predicted_accuracy = Some(ranked.predicted_accuracy);
            row.predicted_accuracy_sd = Some(ranked.predicted_sd);
            rows.push(if is_chosen { measured(row, ranked.cell) } else { row });
        }
        for (position, cell) in search.random.iter().enumerate() {
            rows.push(measured(row(*cell, "random", position + 1), *cell));
        }
    }
    rows
}
