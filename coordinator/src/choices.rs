//! Writing down what a plan asks to be frozen, before it is used.
//!
//! A process may end between any two of these writes. What was written holds, and the next plan asks for the rest: a
//! training set that no choice names yet is found there, or stays as a record that nobody reads.

use std::collections::BTreeMap;

use anyhow::Context;
use bytes::Bytes;
use metad2a_database::tables::EvaluationRow;
use metad2a_database::{Store, TableRow};
use metad2a_pipeline::around_best::Trained;
use metad2a_pipeline::ids::Id;
use metad2a_pipeline::planner::{Planner, Step, WantedCells};
use metad2a_pipeline::tasks::Kind;
use metad2a_pipeline::training_set::{ChosenSet, FrozenSet};

use crate::ledger::{self, TRAINING_SET, blob_of};
use crate::outage::until_the_store_answers;
use crate::outer_steps::close_round;

/// Writes the choices and closed rounds that a step asks for, and tells the planner what holds; whether there were any.
pub async fn write(store: &Store, planner: &mut Planner<'_>, step: Step) -> anyhow::Result<bool> {
    let any = !(step.freeze.is_empty() && step.merge.is_empty() && step.around_best.is_none());
    if let Some(set) = step.training_set {
        let id = set.id();
        freeze_set(store, &id, set).await.with_context(|| format!("training set `{id}`"))?;
    }
    for freeze in step.freeze {
        self::freeze(store, planner, &freeze.id, freeze.decision, freeze.detail).await?;
    }
    if let Some(wanted) = step.around_best {
        let rows = until_the_store_answers(|| trained(store, &wanted)).await;
        let rows = rows.context("the rows that cells are chosen by")?;
        for freeze in wanted.choose(&rows) {
            self::freeze(store, planner, &freeze.id, freeze.decision, freeze.detail).await?;
        }
    }
    for merge in step.merge {
        let closed = until_the_store_answers(|| close_round(store, &merge)).await;
        let closed =
            closed.with_context(|| format!("round {} of the {}", merge.round, merge.model.name()))?;
        if !closed.accepted.is_empty() {
            let (round, model) = (merge.round, merge.model.name());
            tracing::warn!(round, model, accepted = ?closed.accepted, "a quorum closed a round");
        }
        freeze(store, planner, &merge.id, "round-closed", serde_json::to_value(closed)?).await?;
    }
    Ok(any)
}

/// Stores a set part by part, and then writes down where it lies, unless somebody did before: their set is as good,
/// for its id says what is in it.
async fn freeze_set(store: &Store, id: &str, set: ChosenSet) -> anyhow::Result<()> {
    let mut parts = Vec::new();
    for part in set.into_parts() {
        let json = Bytes::from(serde_json::to_vec(&part)?);
        let put = async || Ok(store.put_data(TRAINING_SET, "json", json.clone(), None).await?);
        parts.push(blob_of(&until_the_store_answers(put).await?));
    }
    let detail = serde_json::to_value(FrozenSet::Stored { parts })?;
    let decide = async || Ok(store.decide_once(id, TRAINING_SET, detail.clone()).await?);
    until_the_store_answers(decide).await?;
    Ok(())
}

/// The trainings that cells are chosen by, each once though two tasks may hold it.
async fn trained(store: &Store, wanted: &WantedCells) -> anyhow::Result<Vec<Trained>> {
    let mut trained = BTreeMap::new();
    for id in &wanted.evaluations {
        let marker = store.marker(Kind::Evaluate.name(), &id.to_string()).await?;
        let marker =
            marker.with_context(|| format!("the marker of evaluate task `{id}` vanished from the store"))?;
        let files: Vec<_> = marker.files_of(EvaluationRow::NAME).cloned().collect();
        for row in store.read_files::<EvaluationRow>(&files).await? {
            let Some(unit) = Id::parse(&row.unit_id).filter(|unit| wanted.units.contains(unit)) else {
                continue;
            };
            let cell = row.cell.parse();
            let cell = cell.with_context(|| format!("the row of unit `{unit}` names no cell"))?;
            trained.insert(unit, Trained { dataset: row.dataset_id, cell, fit_loss: row.fit_loss });
        }
    }
    Ok(trained.into_values().collect())
}

async fn freeze(
    store: &Store,
    planner: &mut Planner<'_>,
    id: &str,
    decision: &str,
    detail: serde_json::Value,
) -> anyhow::Result<()> {
    // Whoever was first holds: a second coordinator continues with the first one's choice.
    let decide = async || Ok(store.decide_once(id, decision, detail.clone()).await?);
    let holding = until_the_store_answers(decide).await?.into_decision();
    if let Some(fact) = ledger::fact_of_decision(holding)? {
        planner.learn(fact);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
