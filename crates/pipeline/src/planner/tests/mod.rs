//! The planner against a simulated world: tasks finish in any order, are lost, or fail; the end is always the same.

mod around_best;
mod convergence;
mod imports;
mod incremental;
mod refresh;
mod rounds;
mod stopped;

use std::collections::{BTreeMap, HashSet};

use metad2a_randomness::{Key, Stream};
use proptest::prelude::*;

use super::*;
use crate::around_best::Trained;
use crate::ids::content_id;
use crate::study::tests::{SPECIFICATION, study_with};
use crate::tasks::{Evaluate, RankedCell, Summary};
use crate::verdict::Verdict;

/// A world that does what plans say, one step at a time.
struct World {
    study: Study,
    existing: Existing,
    executed: Vec<String>,
}

fn blob(name: &str) -> Blob {
    Blob { path: format!("results/{name}"), sha256: content_id("blob", 1, &name), bytes: 1 }
}

/// What a worker would report: a function of the task alone.
fn summary_of(task: &Task) -> Summary {
    let id = task.id();
    match task {
        Task::ExtractFeatures(_) => Summary::Features { pictures: 1 },
        Task::Evaluate(evaluate) => Summary::Evaluations {
            units: evaluate.units.len() as u64,
            diverged: 0,
            failed: 0,
            stopped: 0,
            train_pictures: 1,
            valid_pictures: 1,
            test_pictures: 1,
            data_hash: String::new(),
        },
        Task::TrainEpisodes(_) => Summary::Shard {
            start: blob(&format!("{id} start")),
            parameters: blob(&format!("{id} end")),
            optimiser: blob(&format!("{id} optimiser")),
            loss: 0.5,
        },
        Task::Validate(_) => {
            let score = f64::from(u32::from_str_radix(&id[..4], 16).unwrap());
            Summary::Validation { score, metrics: BTreeMap::from([("spearman".to_owned(), score)]) }
        }
        Task::Search(search) => {
            let ranked = |cell| RankedCell { cell, predicted_accuracy: 0.5, predicted_sd: 0.1 };
            let cells = metad2a_search_space::Cell::all().filter(|cell| cell.representative() == *cell);
            let ranked = cells.take(search.candidates as usize).map(ranked).collect();
            Summary::Search { drawn: 20, valid: 15, distinct: 12, ranked }
        }
    }
}

fn finished(task: &Task) -> Fact {
    let units = match task {
        Task::Evaluate(evaluate) => evaluate.units.iter().map(|unit| evaluate.unit_id(unit)).collect(),
        _ => Vec::new(),
    };
    Fact::Done { id: task.id(), done: Done { summary: summary_of(task), units } }
}

fn failed(task: &Task) -> Fact {
    stopped(task, Verdict::Failed)
}

fn stopped(task: &Task, verdict: Verdict) -> Fact {
    let reasons = vec!["it crashed".to_owned()];
    Fact::Failed { id: task.id(), failure: Failure { verdict, reasons, task: Some(task.clone()) } }
}

/// The records of frozen choices and closed rounds. A checkpoint is a function of what is merged, as it really is.
fn written(freeze: &[Freeze], merge: &[Merge]) -> Vec<Fact> {
    let frozen = |freeze: &Freeze| Fact::Frozen { id: freeze.id.clone(), detail: freeze.detail.clone() };
    let closed = |merge: &Merge| {
        let inputs = format!("{:?} {:?}", merge.shards, merge.momentum);
        let closed = RoundClosed {
            shards: merge.shards.iter().map(|shard| shard.task.clone()).collect(),
            accepted: merge.accepted.clone(),
            checkpoint: blob(&format!("checkpoint of {inputs}")),
            momentum: (merge.outer.momentum > 0.0).then(|| blob(&format!("momentum of {inputs}"))),
            optimisers: merge.optimisers.clone(),
            loss: 0.5,
        };
        Fact::Frozen { id: merge.id.clone(), detail: serde_json::to_value(closed).unwrap() }
    };
    freeze.iter().map(frozen).chain(merge.iter().map(closed)).collect()
}

/// The records of cells chosen by results: a training's loss is a function of its unit alone.
fn chosen(study: &Study, wanted: Option<&WantedCells>) -> Vec<Fact> {
    let Some(wanted) = wanted else { return Vec::new() };
    let mut rows = Vec::new();
    for bundle in study.bundles() {
        for unit in bundle.units {
            let id = bundle.unit_id(unit);
            if wanted.units.contains(&id) {
                let fit_loss = u32::from_str_radix(&id.to_string()[..4], 16).ok().map(f64::from);
                rows.push(Trained { dataset: bundle.dataset.id.clone(), cell: unit.cell, fit_loss });
            }
        }
    }
    assert_eq!(rows.len(), wanted.units.len());
    let frozen = |freeze: Freeze| Fact::Frozen { id: freeze.id, detail: freeze.detail };
    wanted.choose(&rows).into_iter().map(frozen).collect()
}

impl World {
    fn new(text: &str) -> Self {
        Self { study: study_with(text).unwrap(), existing: Existing::default(), executed: Vec::new() }
    }

    fn plan(&self) -> Plan {
        plan(&self.study, &self.existing).unwrap()
    }

    fn finish(&mut self, task: &Task) {
        self.executed.push(task.id());
        self.existing.learn(finished(task));
    }

    fn fail(&mut self, task: &Task) {
        self.existing.learn(failed(task));
    }

    fn write(&mut self, plan: &Plan) {
        let chosen = chosen(&self.study, plan.around_best.as_ref());
        for fact in written(&plan.freeze, &plan.merge).into_iter().chain(chosen) {
            self.existing.learn(fact);
        }
    }

    /// A bundle of the study as the task that trains all of it.
    fn bundle(&self, position: usize) -> Evaluate {
        let bundle = self.study.bundle(position);
        bundle.evaluate(bundle.units.to_vec())
    }

    /// Runs to the end: each step finishes one open task at random, or only writes what the plan asks for.
    fn run(mut self, mut chance: Stream) -> (Outcome, Vec<String>) {
        for _ in 0..10_000 {
            let plan = self.plan();
            if plan.outcome != Outcome::Running {
                return (plan.outcome, self.executed);
            }
            assert!(
                !(plan.enqueue.is_empty()
                    && plan.freeze.is_empty()
                    && plan.merge.is_empty()
                    && plan.around_best.is_none()),
                "a running pipeline has something to do"
            );
            if plan.enqueue.is_empty() || chance.chance(0.5) {
                self.write(&plan);
            }
            if !plan.enqueue.is_empty() {
                let task = plan.enqueue[chance.below(plan.enqueue.len())].clone();
                self.finish(&task);
            }
        }
        panic!("the pipeline did not come to an end");
    }
}

fn stream(seed: u64) -> Stream {
    Key::new("planner", "order").stream(seed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_order_of_completion_gives_the_same_results_and_does_nothing_twice(seed in 0..1_000_000_u64) {
        let (calm, executed_calmly) = World::new(SPECIFICATION).run(stream(0));
        let (other, executed) = World::new(SPECIFICATION).run(stream(seed));
        prop_assert!(matches!(calm, Outcome::Finished(_)));
        prop_assert_eq!(calm, other);
        let once: HashSet<&String> = executed.iter().collect();
        prop_assert_eq!(once.len(), executed.len());
        prop_assert_eq!(once, executed_calmly.iter().collect());
    }
}

#[test]
fn a_finished_pipeline_has_nothing_left_to_do() {
    let mut world = World::new(SPECIFICATION);
    while world.plan().outcome == Outcome::Running {
        let plan = world.plan();
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
    let plan = world.plan();
    assert_eq!((plan.enqueue.len(), plan.freeze.len(), plan.merge.len()), (0, 0, 0));
    assert!(plan.stages.values().all(|progress| progress.done == progress.total && progress.failed == 0));
    let Outcome::Finished(results) = plan.outcome else { panic!("not finished") };
    assert_eq!(results.searches.len(), 1);
    assert_eq!(results.searches[0].chosen.len(), 2);
    assert_eq!(results.generator.selected.history.len(), 2);
}

#[test]
fn a_new_pipeline_starts_with_features_and_evaluations_only() {
    let plan = World::new(SPECIFICATION).plan();
    let kinds: HashSet<&str> = plan.enqueue.iter().map(|task| task.kind().name()).collect();
    assert_eq!(kinds, HashSet::from(["extract-features", "evaluate"]));
    assert_eq!(plan.stages[&Stage::Evaluations], Progress { total: 24, ..Progress::default() });
    assert_eq!(plan.stages[&Stage::Measurements].total, 4);
}

#[test]
fn only_the_missing_units_of_a_bundle_are_enqueued() {
    let mut world = World::new(SPECIFICATION);
    let bundle = world.bundle(0);
    world.finish(&Task::Evaluate(Evaluate { units: vec![bundle.units[1]], ..bundle.clone() }));
    let plan = world.plan();
    let left = plan.enqueue.iter().find_map(|task| match task {
        Task::Evaluate(task) if task.units.contains(&bundle.units[0]) => Some(task.units.clone()),
        _ => None,
    });
    assert_eq!(left.unwrap(), [bundle.units[0], bundle.units[2], bundle.units[3]]);
}

#[test]
fn units_of_a_bundle_that_was_given_up_run_alone_and_the_run_goes_on_without_the_bad_one() {
    let mut world = World::new(SPECIFICATION);
    let bundle = world.bundle(0);
    world.fail(&Task::Evaluate(bundle.clone()));
    let singles: Vec<Task> = world
        .plan()
        .enqueue
        .into_iter()
        .filter(|task| matches!(task, Task::Evaluate(task) if task.units.len() == 1))
        .collect();
    assert_eq!(singles.len(), 4);
    world.fail(&singles[0]);
    for task in &singles[1..] {
        world.finish(task);
    }
    assert_eq!(world.plan().stages[&Stage::Evaluations].failed, 1);
    let (outcome, _) = world.run(stream(3));
    assert!(matches!(outcome, Outcome::Finished(_)));
}

#[test]
fn a_failed_shard_blocks_its_model_and_says_why() {
    let mut world = World::new(SPECIFICATION);
    loop {
        let plan = world.plan();
        let shard = plan.enqueue.iter().find(|task| matches!(task, Task::TrainEpisodes(_)));
        if let Some(shard) = shard {
            world.fail(shard);
            break;
        }
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
    let Outcome::Blocked(reason) = world.plan().outcome else { panic!("not blocked") };
    assert_eq!(reason, "shard 0 of round 0 of the generator failed: it crashed");
}

#[test]
fn with_all_meta_valid_evaluations_failed_nothing_can_be_learnt() {
    let mut world = World::new(SPECIFICATION);
    for _ in 0..3 {
        for task in world.plan().enqueue {
            match &task {
                Task::Evaluate(evaluate) if is_meta_valid(&world.study, evaluate) => world.fail(&task),
                _ => world.finish(&task),
            }
        }
    }
    let Outcome::Blocked(reason) = world.plan().outcome else { panic!("not blocked") };
    assert!(reason.starts_with("no meta-valid dataset"), "{reason}");
}

fn is_meta_valid(study: &Study, evaluate: &Evaluate) -> bool {
    let group = crate::training_set::Group::MetaValid;
    study.datasets.iter().any(|dataset| dataset.group == group && dataset.dataset == evaluate.dataset)
}

#[test]
fn more_rounds_go_on_from_the_last_round_of_the_same_training() {
    let mut world = World::new(SPECIFICATION);
    while world.plan().outcome == Outcome::Running {
        let plan = world.plan();
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
    let longer = SPECIFICATION.replace("generator: { rounds: 2", "generator: { rounds: 3");
    world.study = study_with(&longer).unwrap();
    let plan = world.plan();
    assert_eq!(plan.stages[&Stage::Generator], Progress { done: 2, total: 3, ..Progress::default() });
    let [Task::TrainEpisodes(task)] = plan.enqueue.as_slice() else { panic!("{:?}", plan.enqueue) };
    assert_eq!(task.round, 2);
}

#[test]
fn a_damaged_decision_is_named() {
    let mut world = World::new(SPECIFICATION);
    for task in world.plan().enqueue {
        world.finish(&task);
    }
    let choice = world.plan().freeze.pop().unwrap();
    world.existing.add_frozen(choice.id.clone(), serde_json::json!({"training": 1}));
    let error = plan(&world.study, &world.existing).unwrap_err();
    assert!(
        error.to_string().starts_with(&format!("decision `{}` is not a training set's id", choice.id)),
        "{error}"
    );
}
