//! `metad2a snapshots diff`: what came and went between two snapshots, and how the figures moved.

mod figures;
mod table;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use metad2a_database::tables::{CandidateRow, DatasetRow, EvaluationRow};
use metad2a_database::{ModelRecord, Snapshot, Store, TableChange};
use serde::Serialize;

use self::figures::{Figures, Moved, measured, model_change, trained};
use crate::Exit;
use crate::cli::snapshots::SnapshotsDiff;
use crate::commands::output::answer;
use crate::site::Site;

#[derive(Debug, Serialize)]
struct Difference {
    pipeline: String,
    before: Side,
    after: Side,
    /// By table.
    tables: BTreeMap<String, TableChange>,
    /// By model.
    models: BTreeMap<String, ModelChange>,
    /// All trainings, by the class group of their datasets.
    groups: BTreeMap<String, Moved<Figures>>,
    /// The measured cells of searches, by role.
    searches: BTreeMap<String, Moved<Figures>>,
}

#[derive(Debug, Serialize)]
struct Side {
    snapshot: u32,
    published_at: DateTime<Utc>,
    restored_from: Option<u32>,
}

/// What became of a published model.
#[derive(Debug, PartialEq, Serialize)]
struct ModelChange {
    /// Its ids.
    checkpoint: Moved<String>,
    /// By name of the figure; one that ends in a dataset's id is of that dataset.
    metrics: BTreeMap<String, Moved<f64>>,
}

/// What a comparison reads of one snapshot.
struct Read {
    datasets: Vec<DatasetRow>,
    evaluations: Vec<EvaluationRow>,
    candidates: Vec<CandidateRow>,
    models: BTreeMap<String, ModelRecord>,
}

pub(super) async fn diff(arguments: SnapshotsDiff) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let (before, after) = (site.snapshot(arguments.before).await?, site.snapshot(arguments.after).await?);
    let store = site.needed_store()?;
    let tables = store.compare_tables(&before, &after).await?;
    let (old, new) = (read(store, &before).await?, read(store, &after).await?);
    let difference = Difference {
        pipeline: site.pipeline().to_owned(),
        before: side(&before),
        after: side(&after),
        tables,
        models: figures::both(&old.models, &new.models)
            .into_iter()
            .map(|(model, records)| (model, model_change(&records)))
            .collect(),
        groups: figures::both(
            &trained(&old.datasets, &old.evaluations),
            &trained(&new.datasets, &new.evaluations),
        ),
        searches: figures::both(&measured(&old.candidates), &measured(&new.candidates)),
    };
    answer(arguments.format, &difference, table::table)?;
    Ok(Exit::Done)
}

fn side(snapshot: &Snapshot) -> Side {
    Side {
        snapshot: snapshot.number,
        published_at: snapshot.published_at,
        restored_from: snapshot.restored_from,
    }
}

async fn read(store: &Store, snapshot: &Snapshot) -> anyhow::Result<Read> {
    let mut models = BTreeMap::new();
    for (model, sha256) in &snapshot.models {
        if let Some(record) = store.model(&snapshot.pipeline, model, sha256).await? {
            models.insert(model.clone(), record);
        }
    }
    Ok(Read {
        datasets: store.read_table(snapshot).await?,
        evaluations: store.read_table(snapshot).await?,
        candidates: store.read_table(snapshot).await?,
        models,
    })
}
