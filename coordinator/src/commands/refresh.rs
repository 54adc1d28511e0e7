//! `metad2a run --refresh`: the unattended run.
//!
//! ```text
//!   sources ─► data gate ─► what is missing is computed ─► model gates ─► searches ─► data gate of the tables ─► snapshot
//!              │                                           │                         │
//!              └─ refused, nothing is computed             └─ the old model stays    └─ refused, nothing is published
//! ```
//!
//! It finds in the store what was published and what is done, and nothing else is remembered from night to night: a night
//! that was missed, or a refresh that was killed, is made up for by the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use metad2a_database::{Access, Error as StoreError, Published, Store};
use metad2a_pipeline::planner::{Existing, Planner, Results};
use metad2a_pipeline::source_changes::{ShrinkRules, SourceChanges, SourceState, compare};
use metad2a_pipeline::specification::{RefreshChoice, Specification};
use metad2a_pipeline::study::{self, IndexedSource, Study};
use metad2a_queue::{Leadership, Queue};

use super::output::{answer, print};
use super::run::{Watch, compute, host, tell, told};
use crate::cli::{Format, Refresh, Run};
use crate::hint::{self, RunName, Watched};
use crate::progress::Reporter;
use crate::project::{self, Project};
use crate::publication::{RunFacts, publish};
use crate::published::LastPublished;
use crate::refresh_record::{RefreshOutcome, RefreshRecord, table};
use crate::run::End;
use crate::{Exit, imports, ledger, sources};

pub(crate) async fn refresh(arguments: Run) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let facts = RunFacts {
        run_id: metad2a_database::random_id(),
        started_at: metad2a_database::now(),
        tasks_done: 0,
        tasks_failed: 0,
    };
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let pipeline = project.specification.name.clone();
    let record = RefreshRecord::begin(&pipeline, &facts.run_id, facts.started_at);
    let store = Store::open(&project.specification.store, Access::ReadWrite).await?;
    let queue = metad2a_queue::open(&project.specification.queue).await?;
    let holder = format!("process {} on {}", std::process::id(), host());
    let guard = match queue.lead(&pipeline, &holder).await? {
        Leadership::Held(guard) => guard,
        Leadership::HeldBy(other) => {
            let reason = format!("pipeline `{pipeline}` is being run by {other}; nothing was done");
            eprintln!("metad2a: {reason}");
            let mut record = record;
            record.end(RefreshOutcome::HeldByAnother, Some(reason));
            if arguments.format == Format::Json {
                print(&serde_json::to_string_pretty(&record)?)?;
            }
            return Ok(Exit::NotLeader);
        }
    };
    let name = RunName {
        pipeline: pipeline.clone(),
        run_id: facts.run_id.clone(),
        holder,
        started_at: facts.started_at,
    };
    let writer = hint::begin(store.clone(), name).await;
    let watched = writer.watched();
    let mut night = Night { arguments: &arguments, store: &store, queue: &queue, facts, record, watched };
    let ended = night.go(&project).await;
    let ended = night.close(ended, started).await;
    writer.end(told(&ended)).await;
    guard.release().await;
    queue.close().await?;
    ended
}

/// The rules of the file, as the command line changes them.
pub(super) fn rules(choice: &RefreshChoice, flags: &Refresh) -> RefreshChoice {
    RefreshChoice {
        warm_start: choice.warm_start || flags.warm_start,
        shrink_tolerance: if flags.allow_shrink { 1.0 } else { choice.shrink_tolerance },
        ..choice.clone()
    }
}

/// The sources as they are now.
pub(super) struct Today {
    /// Since the last snapshot.
    pub(super) changes: SourceChanges,
    /// What is to be done with them, or the rules that they break.
    pub(super) study: Result<Study, Vec<String>>,
}

impl Today {
    pub(super) async fn look(
        specification: &Specification,
        last: &LastPublished,
        rules: &RefreshChoice,
        flags: &Refresh,
    ) -> anyhow::Result<Self> {
        let mut usable: BTreeMap<String, IndexedSource> = BTreeMap::new();
        let mut found: BTreeMap<String, Result<SourceState, String>> = BTreeMap::new();
        for (name, source) in sources::index_all(specification).await {
            let state = match source {
                Ok(source) => {
                    let state = SourceState {
                        content_id: source.content_id.clone(),
                        classes: source.classes.len() as u64,
                        pictures: source.pictures,
                    };
                    usable.insert(name.clone(), source);
                    Ok(state)
                }
                Err(error) => Err(error.root_cause().to_string()),
            };
            found.insert(name, state);
        }
        let shrink = ShrinkRules { tolerance: rules.shrink_tolerance, allowed: flags.allow_shrink };
        let (changes, broken) = compare(&last.sources(), &found, shrink);
        if !broken.is_empty() {
            return Ok(Self { changes, study: Err(broken) });
        }
        let study = match sources::study(specification.clone(), usable) {
            Ok(mut study) => {
                study.refresh = Some(rules.clone());
                Ok(study)
            }
            Err(error) => match error.downcast::<study::Error>() {
                Ok(error) => Err(vec![error.to_string()]),
                Err(error) => return Err(error),
            },
        };
        Ok(Self { changes, study })
    }
}

/// One refresh that leads its pipeline.
struct Night<'a> {
    arguments: &'a Run,
    store: &'a Store,
    queue: &'a Arc<dyn Queue>,
    facts: RunFacts,
    record: RefreshRecord,
    watched: Watched,
}

impl Night<'_> {
    /// Does everything, and says in the record how it ended. What was published is returned for the report.
    async fn go(&mut self, project: &Project) -> anyhow::Result<Option<Published>> {
        let pipeline = &project.specification.name;
        let store = self.store;
        store
            .put_run_file(pipeline, &self.facts.run_id, "pipeline.yaml", project.text.clone().into())
            .await?;
        let flags = &self.arguments.refresh;
        let rules = rules(&project.specification.refresh, flags);
        let last = LastPublished::read(store, pipeline, rules.snapshots).await?;
        self.record.snapshot = last.number();
        let today = Today::look(&project.specification, &last, &rules, flags).await?;
        self.record.sources = today.changes;
        let study = match today.study {
            Ok(study) => study,
            Err(broken) => {
                self.refuse(broken);
                return Ok(None);
            }
        };

        let (mut existing, heads) = ledger::read_with_heads(store).await?;
        existing.set_published(last.models.clone());
        imports::named(store, &study, &existing).await?;
        let before = (existing.count_by_kind().clone(), existing.count_units());
        let mut planner = Planner::new(&study, existing);
        let local = &self.arguments.local;
        let watch = Watch { heads, watched: self.watched.clone() };
        let end = compute(store, self.queue, &mut planner, local, watch, &mut Reporter::new()).await;
        let existing = planner.existing();
        self.record.add_work((&before.0, before.1), (existing.count_by_kind(), existing.count_units()));
        match end? {
            None => {
                self.record.end(RefreshOutcome::Stopped, None);
                Ok(None)
            }
            Some(End::Blocked { reason, problems, log }) => {
                self.record.problems = problems;
                let log = log.map_or_else(String::new, |log| format!("; the worker's log is `{log}`"));
                self.record
                    .end(RefreshOutcome::Failed, Some(format!("the pipeline cannot go on: {reason}{log}")));
                Ok(None)
            }
            Some(End::Finished { results, problems }) => {
                let known: Vec<String> = last.models.iter().map(|model| model.sha256.clone()).collect();
                self.record.add_models(&results, &known);
                self.record.problems = problems;
                self.publish(&study, existing, &results).await
            }
        }
    }

    fn refuse(&mut self, broken: Vec<String>) {
        let count = broken.len();
        let reason = if count == 1 { "1 broken rule".to_owned() } else { format!("{count} broken rules") };
        self.record.data_gate = broken;
        self.record.end(RefreshOutcome::Refused, Some(reason));
    }

    async fn publish(
        &mut self,
        study: &Study,
        existing: &Existing,
        results: &Results,
    ) -> anyhow::Result<Option<Published>> {
        self.facts.tasks_failed = self.record.problems.len() as u64;
        self.facts.tasks_done = existing.count_done();
        let published = match publish(self.store, study, existing, results, &self.facts).await {
            Ok(published) => published,
            Err(error) => match error.downcast::<StoreError>() {
                Ok(StoreError::Checks { violations, .. }) => {
                    self.refuse(violations);
                    return Ok(None);
                }
                Ok(error) => return Err(error.into()),
                Err(error) => return Err(error),
            },
        };
        let keeps_old = self.record.model_gates.iter().any(|gate| gate.kept_of_snapshot.is_some());
        let (number, outcome, reason) = match published {
            Published::New(number) if keeps_old => (number, RefreshOutcome::PublishedWithOldModels, None),
            Published::New(number) => (number, RefreshOutcome::Published, None),
            Published::Unchanged(number) => {
                (number, RefreshOutcome::Unchanged, Some("nothing is new".to_owned()))
            }
        };
        self.record.snapshot = Some(number);
        self.record.end(outcome, reason);
        Ok(Some(published))
    }

    /// Keeps and prints the record, whatever happened.
    async fn close(
        mut self,
        ended: anyhow::Result<Option<Published>>,
        started: Instant,
    ) -> anyhow::Result<Exit> {
        if let Err(error) = &ended {
            self.record.end(RefreshOutcome::Failed, Some(format!("{error:#}")));
        }
        self.record.finished_at = metad2a_database::now();
        let json = serde_json::to_string_pretty(&self.record)?;
        let (pipeline, run_id) = (&self.record.pipeline, &self.record.run_id);
        let kept = self.store.put_run_file(pipeline, run_id, "refresh.json", json.clone().into()).await;
        if let Err(error) = kept {
            tracing::warn!(%error, "`refresh.json` could not be kept; what it says is printed");
        }
        for gate in self.record.model_gates.iter().filter(|gate| gate.kept_of_snapshot.is_some()) {
            tracing::warn!(model = gate.model.name(), reason = %gate.reason, "the new model did not pass its gate");
        }
        for broken in &self.record.data_gate {
            tracing::error!(rule = %broken, "the data did not pass its gate");
        }
        answer(self.arguments.format, &self.record, table)?;
        if let (Ok(Some(published @ Published::New(_))), Format::Table) = (&ended, self.arguments.format) {
            let problems = self.record.problems.clone();
            tell(self.store, pipeline, *published, problems, started, Format::Table).await?;
        }
        ended?;
        Ok(match self.record.outcome {
            RefreshOutcome::Refused => Exit::Refused,
            RefreshOutcome::Failed | RefreshOutcome::Stopped => Exit::Failed,
            RefreshOutcome::HeldByAnother => Exit::NotLeader,
            RefreshOutcome::Published
            | RefreshOutcome::PublishedWithOldModels
            | RefreshOutcome::Unchanged => {
                if self.record.problems.is_empty() {
                    Exit::Done
                } else {
                    Exit::WithDeadLetters
                }
            }
        })
    }
}
