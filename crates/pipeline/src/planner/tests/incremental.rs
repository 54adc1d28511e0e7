//! A planner that learns one fact at a time knows what one that reads everything at once knows.

use std::collections::BTreeSet;

use metad2a_search_space::Cell;
use serde::Serialize;

use super::around_best::with_second_wave;
use super::*;
use crate::ids::Id;
use crate::study::StudyDataset;
use crate::training_set::{Group, TrainingDataset, TrainingSet};

/// Facts may be learnt between any two steps, in any order, more than once.
fn next_facts(world: &World, plan: &Plan, stopped_before: &[String], chance: &mut Stream) -> Vec<Fact> {
    if plan.enqueue.is_empty() || chance.chance(0.3) {
        let chosen = chosen(&world.study, plan.around_best.as_ref());
        return written(&plan.freeze, &plan.merge).into_iter().chain(chosen).collect();
    }
    let task = &plan.enqueue[chance.below(plan.enqueue.len())];
    match chance.below(14) {
        // Nothing can go on without any of these, so they are spared.
        0 | 1 if !matches!(task, Task::TrainEpisodes(_) | Task::Validate(_)) => vec![failed(task)],
        2 if matches!(task, Task::Evaluate(_)) => {
            // A record that does not hold its task.
            let failure = Failure { verdict: Verdict::Cancelled, reasons: Vec::new(), task: None };
            vec![Fact::Failed { id: task.id(), failure }]
        }
        5 if !matches!(task, Task::TrainEpisodes(_) | Task::Validate(_)) => {
            let verdict = [Verdict::Cancelled, Verdict::Dropped][chance.below(2)];
            vec![stopped(task, verdict)]
        }
        // Whatever was stopped at any time, and perhaps is done by now.
        6 if !stopped_before.is_empty() => {
            vec![Fact::Lifted { id: stopped_before[chance.below(stopped_before.len())].clone() }]
        }
        // Finished after all, or by another pipeline in other company.
        3 => vec![failed(task), finished(task), finished(task)],
        4 => {
            let bundle = world.bundle(chance.below(world.study.bundles().len()));
            let one = bundle.units[chance.below(bundle.units.len())];
            vec![finished(&Task::Evaluate(Evaluate { units: vec![one], ..bundle }))]
        }
        _ => vec![finished(task)],
    }
}

/// A chosen set as workers read it.
fn read_back(chosen: &ChosenSet) -> TrainingSet {
    let record = serde_json::to_vec(chosen).unwrap();
    serde_json::from_slice(&record).unwrap()
}

/// The training set that a plan chooses, made in the plain way: of texts, dataset by dataset.
fn expected_training_set(study: &Study, existing: &Existing, plan: &Plan) -> Option<TrainingSet> {
    let choice = plan.freeze.iter().find(|freeze| freeze.decision == "training-set-choice")?;
    let mut evaluations = BTreeSet::new();
    let learnt = |dataset: &&StudyDataset| matches!(dataset.group, Group::MetaTrain | Group::MetaValid);
    let mut datasets = Vec::new();
    for dataset in study.datasets.iter().filter(learnt) {
        let bundles = study.bundles().filter(|bundle| bundle.dataset.id == dataset.id);
        let mut units: Vec<Id> =
            bundles.flat_map(|bundle| bundle.units.iter().map(move |unit| bundle.unit_id(unit))).collect();
        if let Some(block) = study.wanted_blocks().into_iter().find(|block| block.key == dataset.block()) {
            let cells: Vec<Cell> = existing.frozen(&block.id, "list of cells").unwrap().unwrap();
            let second_wave = study.evaluated_units(&cells);
            let bundle = study.evaluation(dataset, &second_wave);
            units.extend(second_wave.iter().map(|unit| bundle.unit_id(unit)));
        }
        let held: Vec<(Id, Id)> =
            units.into_iter().filter_map(|unit| Some((unit, existing.holder_of(unit)?))).collect();
        if held.len() >= 2 && dataset.features.iter().all(|id| existing.is_done(id)) {
            evaluations.extend(held.iter().map(|(_, holder)| holder.to_string()));
            datasets.push(TrainingDataset {
                id: dataset.id.clone(),
                group: dataset.group,
                dataset: dataset.dataset.clone(),
                features: dataset.features.clone(),
                units: held.iter().map(|(unit, _)| unit.to_string()).collect(),
            });
        }
    }
    let set =
        TrainingSet { datasets, evaluations: evaluations.into_iter().collect(), ..TrainingSet::default() };
    assert_eq!(choice.detail, set.id(), "the choice names the set by the id of what is read");
    Some(set)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn learning_fact_by_fact_gives_the_same_plan_as_reading_everything(
        seed in 0..1_000_000_u64, second_wave in any::<bool>(),
    ) {
        let sharded = SPECIFICATION
            .replace("generator: { rounds: 2", "generator: { shards: 3, quorum: 2, rounds: 2");
        let world = World::new(&if second_wave { with_second_wave(&sharded) } else { sharded });
        let mut chance = stream(seed);
        let mut existing = Existing::default();
        let mut planner = Planner::new(&world.study, Existing::default());
        let mut stopped_before = Vec::new();
        let mut open: BTreeMap<Place, Vec<(String, Task)>> = BTreeMap::new();
        for _ in 0..10_000 {
            let step = planner.step(&Flight::default()).unwrap();
            let whole = plan(&world.study, &existing).unwrap();
            prop_assert_eq!(&step.training_set, &whole.training_set);
            prop_assert_eq!(&step.freeze, &whole.freeze);
            prop_assert_eq!(step.training_set.as_ref().map(read_back), expected_training_set(&world.study, &existing, &whole));
            prop_assert_eq!(&step.around_best, &whole.around_best);
            prop_assert_eq!(&step.merge, &whole.merge);
            prop_assert_eq!(&step.stages, &whole.stages);
            prop_assert_eq!(&step.outcome, &whole.outcome);
            prop_assert_eq!(planner.problems(), whole.problems.clone());
            // The shell follows the changes alone.
            for place in planner.take_changes() {
                open.insert(place, planner.tasks(place));
            }
            let followed: Vec<Task> = open.values().flatten().map(|(_, task)| task.clone()).collect();
            prop_assert_eq!(&followed, &whole.enqueue);
            if whole.outcome != Outcome::Running {
                return Ok(());
            }
            for fact in next_facts(&world, &whole, &stopped_before, &mut chance) {
                if let Fact::Failed { id, .. } = &fact {
                    stopped_before.push(id.clone());
                }
                planner.learn(fact.clone());
                existing.learn(fact);
            }
        }
        prop_assert!(false, "the pipeline did not come to an end");
    }
}

#[test]
fn an_event_is_entered_without_looking_at_the_rest_of_the_study() {
    let world = World::new(SPECIFICATION);
    let mut planner = Planner::new(&world.study, Existing::default());
    planner.step(&Flight::default()).unwrap();
    assert_eq!(planner.take_changes().len(), planner.open_places().count());
    planner.learn(finished(&Task::Evaluate(world.bundle(2))));
    planner.step(&Flight::default()).unwrap();
    assert_eq!(planner.take_changes(), [Place { stage: Stage::Evaluations, number: 2 }]);
    assert_eq!(planner.tasks(Place { stage: Stage::Evaluations, number: 2 }), []);
}

#[test]
fn a_study_keeps_its_id_though_its_bundles_are_hashed_one_by_one() {
    #[derive(Serialize)]
    struct Basis {
        extractions: Vec<String>,
        bundles: Vec<Evaluate>,
    }
    let world = World::new(SPECIFICATION);
    let extractions = world.study.extractions.iter().cloned();
    let extractions: Vec<String> = extractions.map(|task| Task::ExtractFeatures(task).id()).collect();
    let bundles: Vec<Evaluate> = (0..world.study.bundles().len()).map(|place| world.bundle(place)).collect();
    assert_eq!(world.study.id(), content_id("study", 1, &Basis { extractions, bundles }));
}
