//! What a refresh found, did and decided: kept as `<pipeline>/runs/<run-id>/refresh.json`, and printed.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use metad2a_pipeline::model_gate::{Comparison, Verdict};
use metad2a_pipeline::planner::Results;
use metad2a_pipeline::source_changes::SourceChanges;
use metad2a_pipeline::tasks::{Kind, Model};
use serde::Serialize;

/// Raised when a field changes its meaning.
const VERSION: u32 = 1;

/// How a refresh ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RefreshOutcome {
    /// A new snapshot with new models, or with those that were published and trained on the same data.
    Published,
    /// A new snapshot in which at least one old model stays, as the new one did not pass its gate.
    PublishedWithOldModels,
    /// Nothing was new.
    Unchanged,
    /// A data gate failed; the last snapshot stays.
    Refused,
    /// Somebody else is running the pipeline.
    HeldByAnother,
    /// A person or the system stopped it.
    Stopped,
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RefreshRecord {
    pub(crate) version: u32,
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: DateTime<Utc>,
    pub(crate) outcome: RefreshOutcome,
    /// Why there is no new snapshot.
    pub(crate) reason: Option<String>,
    /// The current snapshot at the end; none where nothing was ever published.
    pub(crate) snapshot: Option<u32>,
    pub(crate) sources: SourceChanges,
    /// Tasks that were finished meanwhile, by kind.
    pub(crate) tasks: BTreeMap<Kind, u64>,
    /// Trainings of cells among them.
    pub(crate) evaluations: u64,
    /// Models that were trained.
    pub(crate) trained: Vec<TrainedModel>,
    /// Every rule that the data broke.
    pub(crate) data_gate: Vec<String>,
    pub(crate) model_gates: Vec<GateRecord>,
    /// What was given up, one line each.
    pub(crate) problems: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TrainedModel {
    pub(crate) model: Model,
    pub(crate) checkpoint: String,
    /// The published model that it started from; none where it started from the seed.
    pub(crate) started_from: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct GateRecord {
    pub(crate) model: Model,
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    /// Checkpoint of the model that was judged.
    pub(crate) candidate: String,
    /// The snapshot whose model stays.
    pub(crate) kept_of_snapshot: Option<u32>,
    pub(crate) comparison: Option<Comparison>,
}

impl RefreshRecord {
    pub(crate) fn begin(pipeline: &str, run_id: &str, started_at: DateTime<Utc>) -> Self {
        Self {
            version: VERSION,
            pipeline: pipeline.to_owned(),
            run_id: run_id.to_owned(),
            started_at,
            finished_at: started_at,
            outcome: RefreshOutcome::Failed,
            reason: None,
            snapshot: None,
            sources: SourceChanges::default(),
            tasks: BTreeMap::new(),
            evaluations: 0,
            trained: Vec::new(),
            data_gate: Vec::new(),
            model_gates: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(crate) fn end(&mut self, outcome: RefreshOutcome, reason: Option<String>) {
        (self.outcome, self.reason) = (outcome, reason);
    }

    /// What was finished between two counts.
    pub(crate) fn add_work(
        &mut self,
        before: (&BTreeMap<Kind, u64>, u64),
        after: (&BTreeMap<Kind, u64>, u64),
    ) {
        let finished = after.0.iter().map(|(kind, count)| (*kind, count - before.0.get(kind).unwrap_or(&0)));
        self.tasks = finished.filter(|(_, count)| *count > 0).collect();
        self.evaluations = after.1 - before.1;
    }

    /// What became of the models. `published` are those of the last few snapshots.
    pub(crate) fn add_models(&mut self, results: &Results, published: &[String]) {
        for model in Model::ALL {
            let chosen = results.model(model);
            if let Some(gate) = &chosen.gate {
                self.model_gates.push(GateRecord {
                    model,
                    verdict: gate.judgement.verdict,
                    reason: gate.judgement.reason.clone(),
                    candidate: chosen.candidate.checkpoint.sha256.clone(),
                    kept_of_snapshot: gate.kept,
                    comparison: gate.judgement.comparison.clone(),
                });
            }
            let new = &chosen.candidate;
            let trained_now = self.tasks.contains_key(&Kind::TrainEpisodes);
            if trained_now && !published.contains(&new.checkpoint.sha256) {
                self.trained.push(TrainedModel {
                    model,
                    checkpoint: new.checkpoint.sha256.clone(),
                    started_from: new.started_from.as_ref().map(|parent| parent.checkpoint.sha256.clone()),
                });
            }
        }
    }
}

/// A line for each kind of change.
pub(crate) fn source_lines(sources: &SourceChanges) -> String {
    let mut text = String::new();
    for (what, names) in [
        ("new", &sources.new),
        ("changed", &sources.changed),
        ("unchanged", &sources.unchanged),
        ("lost", &sources.lost),
        ("unreadable", &sources.unreadable),
    ] {
        if !names.is_empty() {
            let _ = writeln!(text, "  {:<22}{}", format!("{what} sources"), names.join(", "));
        }
    }
    text
}

/// The record for a person.
pub(crate) fn table(record: &RefreshRecord) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Refresh of `{}`: {}", record.pipeline, ended(record));
    text.push_str(&source_lines(&record.sources));
    let tasks = record.tasks.iter().map(|(kind, count)| format!("{count} {}", kind.name()));
    let tasks = tasks.collect::<Vec<_>>().join(", ");
    if !tasks.is_empty() {
        let _ = writeln!(text, "  {:<22}{tasks}; {} trainings of cells", "computed", record.evaluations);
    }
    for trained in &record.trained {
        let start = match &trained.started_from {
            Some(parent) => format!("from the published {}", short(parent)),
            None => "from the seed".to_owned(),
        };
        let _ = writeln!(
            text,
            "  {:<22}{} {start}",
            format!("trained {}", trained.model.name()),
            short(&trained.checkpoint)
        );
    }
    for gate in &record.model_gates {
        let verdict = match gate.verdict {
            Verdict::Accepted => "accepted",
            Verdict::Rejected => "rejected",
            Verdict::NotComparable => "not comparable",
        };
        let stays = gate
            .kept_of_snapshot
            .map_or_else(String::new, |number| format!("; that of snapshot {number} stays"));
        let _ = writeln!(
            text,
            "  {:<22}{verdict}{stays}: {}",
            format!("{} gate", gate.model.name()),
            gate.reason
        );
    }
    for broken in &record.data_gate {
        let _ = writeln!(text, "  {:<22}{broken}", "data gate");
    }
    for problem in &record.problems {
        let _ = writeln!(text, "  {:<22}{problem}", "given up");
    }
    text
}

fn ended(record: &RefreshRecord) -> String {
    let current = match record.snapshot {
        Some(number) => format!("snapshot {number}"),
        None => "no snapshot".to_owned(),
    };
    let reason = record.reason.as_deref().unwrap_or_default();
    match record.outcome {
        RefreshOutcome::Published => format!("published {current}"),
        RefreshOutcome::PublishedWithOldModels => format!("published {current}, with an old model"),
        RefreshOutcome::Unchanged => format!("nothing new, {current} stays"),
        RefreshOutcome::Refused => format!("refused, {current} stays"),
        RefreshOutcome::HeldByAnother => reason.to_owned(),
        RefreshOutcome::Stopped => format!("stopped, {current} stays; the next refresh goes on from there"),
        RefreshOutcome::Failed => format!("failed, {current} stays: {reason}"),
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RefreshRecord {
        let mut record = RefreshRecord::begin("nightly", "run", DateTime::UNIX_EPOCH);
        record.snapshot = Some(7);
        record.sources.unchanged = vec!["letters".to_owned()];
        record
    }

    #[test]
    fn the_record_tells_what_was_found_done_and_decided() {
        let mut record = record();
        record.sources.new = vec!["digits".to_owned()];
        record.add_work(
            (&BTreeMap::from([(Kind::Evaluate, 10), (Kind::Validate, 3)]), 40),
            (&BTreeMap::from([(Kind::Evaluate, 16), (Kind::Validate, 3), (Kind::Search, 1)]), 58),
        );
        record.trained.push(TrainedModel {
            model: Model::Predictor,
            checkpoint: "ab".repeat(32),
            started_from: Some("cd".repeat(32)),
        });
        record.model_gates.push(GateRecord {
            model: Model::Predictor,
            verdict: Verdict::Rejected,
            reason: "against snapshot 5: worse".to_owned(),
            candidate: "ab".repeat(32),
            kept_of_snapshot: Some(6),
            comparison: None,
        });
        record.problems.push("evaluate task `x` failed: out of memory".to_owned());
        record.end(RefreshOutcome::PublishedWithOldModels, None);
        insta::assert_snapshot!(table(&record), @"
        Refresh of `nightly`: published snapshot 7, with an old model
          new sources           digits
          unchanged sources     letters
          computed              6 evaluate, 1 search; 18 trainings of cells
          trained predictor     abababababab from the published cdcdcdcdcdcd
          predictor gate        rejected; that of snapshot 6 stays: against snapshot 5: worse
          given up              evaluate task `x` failed: out of memory
        ");
    }

    #[test]
    fn a_refusal_lists_every_broken_rule() {
        let mut record = record();
        record.data_gate =
            vec!["source `a` cannot be used: gone".to_owned(), "`evaluations` has 3 rows".to_owned()];
        record.end(RefreshOutcome::Refused, Some("2 broken rules".to_owned()));
        insta::assert_snapshot!(table(&record), @"
        Refresh of `nightly`: refused, snapshot 7 stays
          unchanged sources     letters
          data gate             source `a` cannot be used: gone
          data gate             `evaluations` has 3 rows
        ");
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json["outcome"], "refused");
        assert_eq!(json["snapshot"], 7);
        assert_eq!(json["data_gate"].as_array().unwrap().len(), 2);
    }
}
