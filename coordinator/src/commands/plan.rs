//! `metad2a plan`: what `run` would do, without doing it.

use std::collections::BTreeMap;
use std::fmt::Write;

use metad2a_database::{Access, Store};
use metad2a_pipeline::planner::{Existing, Flight, Outcome, Planner, Progress, Stage};
use metad2a_pipeline::source_changes::SourceChanges;
use metad2a_pipeline::tasks::Kind;
use serde::Serialize;

use super::output::answer;
use super::refresh::{Today, rules};
use crate::cli::Plan;
use crate::published::LastPublished;
use crate::refresh_record::source_lines;
use crate::{Exit, imports, ledger, project, sources};

#[derive(Debug, Default, Serialize)]
struct Overview {
    pipeline: String,
    datasets: usize,
    stages: BTreeMap<Stage, Progress>,
    /// Tasks that could run now, by kind.
    open_tasks: BTreeMap<Kind, usize>,
    problems: Vec<String>,
    state: &'static str,
    /// Of a refresh: since the last snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<SourceChanges>,
    /// Of a refresh: the rules that the sources break; it would do nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    data_gate: Vec<String>,
}

pub(crate) async fn plan(arguments: Plan) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let pipeline = project.specification.name.clone();
    // A store that is not there yet is empty, and stays untouched.
    let store = match Store::open(&project.specification.store, Access::ReadOnly).await {
        Ok(store) => Some(store),
        Err(metad2a_database::Error::NoDatabase { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut sources = None;
    let (study, published) = if arguments.refresh.refresh {
        let rules = rules(&project.specification.refresh, &arguments.refresh);
        let last = match &store {
            Some(store) => LastPublished::read(store, &pipeline, rules.snapshots).await?,
            None => LastPublished::default(),
        };
        let today = Today::look(&project.specification, &last, &rules, &arguments.refresh).await?;
        sources = Some(today.changes);
        match today.study {
            Ok(study) => (study, last.models),
            Err(data_gate) => {
                let refused =
                    Overview { pipeline, state: "refused", sources, data_gate, ..Overview::default() };
                answer(arguments.format, &refused, table)?;
                return Ok(Exit::Refused);
            }
        }
    } else {
        (sources::design(project.specification).await?, Vec::new())
    };
    let mut existing = match &store {
        Some(store) => ledger::read(store).await?,
        None => Existing::default(),
    };
    match &store {
        Some(store) => drop(imports::named(store, &study, &existing).await?),
        None => imports::usable(&study, &existing)?,
    }
    if sources.is_some() {
        existing.set_published(published);
    }
    let mut planner = Planner::new(&study, existing);
    let step = planner.step(&Flight::default())?;
    let overview = Overview {
        pipeline,
        datasets: study.datasets.len(),
        stages: step.stages,
        open_tasks: planner.count_open(),
        problems: planner.problems(),
        state: match step.outcome {
            Outcome::Running => "open",
            Outcome::Finished(_) => "finished",
            Outcome::Blocked(_) => "blocked",
        },
        sources,
        data_gate: Vec::new(),
    };
    answer(arguments.format, &overview, table)?;
    Ok(Exit::Done)
}

fn table(overview: &Overview) -> String {
    let mut text = format!("{}: {}", overview.pipeline, overview.state);
    if overview.data_gate.is_empty() {
        let _ = write!(text, ", {} datasets", overview.datasets);
    }
    text.push('\n');
    if let Some(sources) = &overview.sources {
        text.push_str(&source_lines(sources));
    }
    for broken in &overview.data_gate {
        let _ = writeln!(text, "Broken: {broken}");
    }
    if !overview.data_gate.is_empty() {
        return text;
    }
    text.push('\n');
    let _ = writeln!(text, "{:<14}{:>8}{:>8}{:>8}  unit", "stage", "done", "failed", "left");
    for (stage, progress) in &overview.stages {
        let left = progress.left();
        let name = stage.name();
        let _ =
            writeln!(text, "{name:<14}{:>8}{:>8}{left:>8}  {}", progress.done, progress.failed, stage.unit());
    }
    if !overview.open_tasks.is_empty() {
        let tasks = overview.open_tasks.iter().map(|(kind, count)| format!("{count} {}", kind.name()));
        let _ = writeln!(text, "\nTasks that can run now: {}", tasks.collect::<Vec<_>>().join(", "));
    }
    for problem in &overview.problems {
        let _ = writeln!(text, "Given up: {problem}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_stage_with_what_is_left() {
        let overview = Overview {
            pipeline: "small".to_owned(),
            datasets: 3,
            stages: BTreeMap::from([
                (Stage::Features, Progress { done: 2, total: 2, ..Progress::default() }),
                (Stage::Evaluations, Progress { done: 4, failed: 1, total: 24, ..Progress::default() }),
            ]),
            open_tasks: BTreeMap::from([(Kind::Evaluate, 5)]),
            problems: vec!["evaluate task `x` failed: out of memory".to_owned()],
            state: "open",
            ..Overview::default()
        };
        insta::assert_snapshot!(table(&overview), @"
        small: open, 3 datasets

        stage             done  failed    left  unit
        features             2       0       0  class shards
        evaluations          4       1      19  trainings

        Tasks that can run now: 5 evaluate
        Given up: evaluate task `x` failed: out of memory
        ");
    }
    #[test]
    fn a_refused_refresh_names_the_changes_and_the_broken_rules() {
        let overview = Overview {
            pipeline: "nightly".to_owned(),
            state: "refused",
            sources: Some(SourceChanges {
                new: vec!["digits".to_owned()],
                lost: vec!["letters".to_owned()],
                ..SourceChanges::default()
            }),
            data_gate: vec!["source `letters` is gone".to_owned()],
            ..Overview::default()
        };
        insta::assert_snapshot!(table(&overview), @"
        nightly: refused
          new sources           digits
          lost sources          letters
        Broken: source `letters` is gone
        ");
    }
}
