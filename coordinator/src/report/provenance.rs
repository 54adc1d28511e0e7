//! Where a snapshot's rows come from.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use metad2a_database::Snapshot;
use serde::Serialize;

use super::tables::Tables;

/// Sources, recipes, programs and runs behind a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Provenance {
    pub(crate) inputs_id: String,
    /// Version of the worker, version of libtorch, device: of our own trainings.
    pub(crate) programs: BTreeSet<(String, String, String)>,
    pub(crate) recipes: Vec<Recipe>,
    pub(crate) sources: Vec<Source>,
    /// Dataset → hash of its pictures; empty where imported.
    pub(crate) data_hashes: BTreeMap<String, String>,
    /// Name → id.
    pub(crate) models: BTreeMap<String, String>,
    /// Dataset → seed of its search.
    pub(crate) search_seeds: BTreeMap<String, i64>,
    /// Table → imported rows.
    pub(crate) imported_rows: BTreeMap<String, u64>,
    /// Task id of the import and protocol → rows of `evaluations`.
    pub(crate) imports: Vec<Import>,
    pub(crate) runs: Vec<Run>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Recipe {
    pub(crate) id: String,
    pub(crate) epochs: i64,
    pub(crate) batch_size: i64,
    pub(crate) channels: i64,
    pub(crate) cells_per_stage: i64,
    pub(crate) image_size: i64,
    pub(crate) precision: Option<String>,
    pub(crate) seeds: BTreeSet<i64>,
    pub(crate) trainings: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) content_id: String,
    pub(crate) classes: u64,
    pub(crate) pictures: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Import {
    pub(crate) task_id: String,
    pub(crate) protocol: String,
    pub(crate) rows: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) code_version: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) tasks_done: i64,
    pub(crate) tasks_failed: i64,
    pub(crate) outcome: String,
}

impl Provenance {
    pub(crate) fn new(snapshot: &Snapshot, tables: &Tables) -> Self {
        let mut programs = BTreeSet::new();
        let mut recipes: BTreeMap<&str, Recipe> = BTreeMap::new();
        let mut imports: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for row in &tables.evaluations {
            if let Some(protocol) = &row.protocol {
                *imports.entry((&row.task_id, protocol)).or_default() += 1;
                continue;
            }
            programs.insert((row.code_version.clone(), row.libtorch_version.clone(), row.device.clone()));
            let recipe = recipes.entry(&row.recipe_id).or_insert_with(|| Recipe {
                id: row.recipe_id.clone(),
                epochs: row.epochs,
                batch_size: row.batch_size,
                channels: row.channels,
                cells_per_stage: row.cells_per_stage,
                image_size: row.image_size,
                precision: row.precision.clone(),
                seeds: BTreeSet::new(),
                trainings: 0,
            });
            recipe.seeds.insert(row.seed);
            recipe.trainings += 1;
        }
        let sources = snapshot.sources.iter().map(|(name, source)| Source {
            name: name.clone(),
            content_id: source.content_id.clone(),
            classes: source.classes,
            pictures: source.pictures,
        });
        let runs = tables.runs.iter().map(|row| Run {
            id: row.run_id.clone(),
            code_version: row.code_version.clone(),
            started_at: row.started_at,
            finished_at: row.finished_at,
            tasks_done: row.tasks_done,
            tasks_failed: row.tasks_failed,
            outcome: row.outcome.clone(),
        });
        let import = |((task_id, protocol), rows): ((&str, &str), u64)| Import {
            task_id: task_id.to_owned(),
            protocol: protocol.to_owned(),
            rows,
        };
        Self {
            inputs_id: snapshot.inputs_id.clone(),
            programs,
            recipes: recipes.into_values().collect(),
            sources: sources.collect(),
            data_hashes: tables
                .datasets
                .iter()
                .map(|row| (row.name.clone(), row.data_hash.clone()))
                .collect(),
            models: snapshot.models.clone(),
            search_seeds: tables.searches.iter().map(|row| (row.dataset_name.clone(), row.seed)).collect(),
            imported_rows: snapshot.imported_rows.clone(),
            imports: imports.into_iter().map(import).collect(),
            runs: runs.collect(),
        }
    }
}
