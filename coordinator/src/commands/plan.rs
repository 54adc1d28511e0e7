//! `metad2a plan`: what `run` would do, without doing it.

use std::collections::BTreeMap;
use std::fmt::Write;

use metad2a_database::{Access, Store};
use metad2a_pipeline::planner::{Existing, Flight, Outcome, Planner, Progress, Stage};
use metad2a_pipeline::tasks::Kind;
use serde::Serialize;

use super::print;
use crate::cli::{Format, Plan};
use crate::{Exit, ledger, project, sources};

#[derive(Debug, Serialize)]
struct Overview {
    pipeline: String,
    datasets: usize,
    stages: BTreeMap<Stage, Progress>,
    /// Tasks that could run now, by kind.
    open_tasks: BTreeMap<Kind, usize>,
    problems: Vec<String>,
    state: &'static str,
}

pub(crate) async fn plan(arguments: Plan) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let study = sources::design(project.specification).await?;
    // A store that is not there yet is empty, and stays untouched.
    let existing = match Store::open(&study.specification.store, Access::ReadOnly).await {
        Ok(store) => ledger::read(&store).await?,
        Err(metad2a_database::Error::NoDatabase { .. }) => Existing::default(),
        Err(error) => return Err(error.into()),
    };
    let mut planner = Planner::new(&study, existing);
    let step = planner.step(&Flight::default())?;
    let overview = Overview {
        pipeline: study.specification.name.clone(),
        datasets: study.datasets.len(),
        stages: step.stages,
        open_tasks: planner.count_open(),
        problems: planner.problems(),
        state: match step.outcome {
            Outcome::Running => "open",
            Outcome::Finished(_) => "finished",
            Outcome::Blocked(_) => "blocked",
        },
    };
    match arguments.format {
        Format::Json => print(&serde_json::to_string_pretty(&overview)?),
        Format::Table => print(&table(&overview)),
    }
    Ok(Exit::Done)
}

fn table(overview: &Overview) -> String {
    let mut text = format!("{}: {}, {} datasets\n\n", overview.pipeline, overview.state, overview.datasets);
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
}
