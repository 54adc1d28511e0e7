//! Refreshes in the tests' world: gates, models that stay, trainings that go on from published ones.

use super::*;
use crate::model_gate::Verdict;
use crate::tasks::{TrainEpisodes, Validate};

/// How good a checkpoint is on every dataset.
type Score<'a> = &'a dyn Fn(&Blob) -> f64;

/// The tasks that plans asked for until there was nothing left to do.
struct Driven {
    outcome: Outcome,
    trainings: Vec<TrainEpisodes>,
    validations: Vec<Validate>,
    tasks: usize,
}

fn drive(world: &mut World, score: Score<'_>) -> Driven {
    let mut driven =
        Driven { outcome: Outcome::Running, trainings: Vec::new(), validations: Vec::new(), tasks: 0 };
    for _ in 0..1_000 {
        let plan = world.plan();
        if plan.outcome != Outcome::Running {
            driven.outcome = plan.outcome;
            return driven;
        }
        world.write(&plan);
        for task in &plan.enqueue {
            driven.tasks += 1;
            match task {
                Task::Validate(validate) => {
                    driven.validations.push(validate.clone());
                    let summary = validation(&world.study, score(&validate.checkpoint));
                    world.existing.add_done(&task.id(), Done { summary, units: Vec::new() });
                }
                Task::TrainEpisodes(training) => {
                    driven.trainings.push(training.clone());
                    world.finish(task);
                }
                _ => world.finish(task),
            }
        }
    }
    panic!("the pipeline did not come to an end");
}

fn validation(study: &Study, score: f64) -> Summary {
    let of_datasets = study.datasets.iter().flat_map(|dataset| {
        [(format!("spearman.{}", dataset.id), score), (format!("nll_per_graph.{}", dataset.id), -score)]
    });
    Summary::Validation { score, metrics: of_datasets.collect() }
}

fn results(driven: &Driven) -> Results {
    match &driven.outcome {
        Outcome::Finished(results) => (**results).clone(),
        other => panic!("not finished: {other:?}"),
    }
}

/// The models of `results` as snapshot `number` holds them.
fn published(study: &Study, results: &Results, number: u32) -> Vec<Published> {
    let of_model = |model: Model| {
        let chosen = results.model(model);
        Published {
            snapshot: number,
            model,
            sha256: chosen.selected.checkpoint.sha256.clone(),
            known: Ok(PublishedModel {
                selected: chosen.selected.clone(),
                weights: Blob {
                    path: format!("small/models/{}", model.name()),
                    ..chosen.selected.checkpoint.clone()
                },
                settings: chosen.settings.clone(),
                extractor: study.extractor.clone(),
                learnt: chosen.learnt.clone(),
            }),
        }
    };
    Model::ALL.map(of_model).to_vec()
}

const MORE_CELLS: (&str, &str) = ("cells_per_dataset: 4", "cells_per_dataset: 5");

/// A pipeline with one snapshot, and then another specification that is refreshed.
fn refreshed((from, to): (&str, &str), warm_start: bool) -> (World, Results) {
    let mut world = World::new(SPECIFICATION);
    let first = results(&drive(&mut world, &|_| 0.5));
    let published = published(&world.study, &first, 1);
    world.existing.set_published(published);
    world.study = study_with(&SPECIFICATION.replace(from, to)).unwrap();
    world.study.refresh = Some(world.study.specification.refresh.clone());
    world.study.refresh.as_mut().unwrap().warm_start = warm_start;
    (world, first)
}

#[test]
fn a_new_model_that_is_no_worse_is_published_after_the_old_was_measured_beside_it() {
    let (mut world, first) = refreshed(MORE_CELLS, false);
    let driven = drive(&mut world, &|_| 0.5);
    let results = results(&driven);
    for model in Model::ALL {
        let gate = results.model(model).gate.as_ref().unwrap();
        assert_eq!((gate.judgement.verdict, gate.kept), (Verdict::Accepted, None));
        let old = &first.model(model).selected.checkpoint.sha256;
        assert_ne!(results.model(model).selected.checkpoint.sha256, *old);
        let again: Vec<_> = driven.validations.iter().filter(|task| task.checkpoint.sha256 == *old).collect();
        assert_eq!(again.len(), 1, "the old {} is measured once, on the new training set", model.name());
        assert_eq!(again[0].training_set, results.training_set);
    }
}

#[test]
fn a_worse_model_stays_behind_and_the_old_one_searches() {
    let (mut world, first) = refreshed(MORE_CELLS, false);
    let old = first.predictor.selected.checkpoint.sha256.clone();
    let driven = drive(&mut world, &|checkpoint| if checkpoint.sha256 == old { 0.9 } else { 0.5 });
    let results = results(&driven);
    let gate = results.predictor.gate.as_ref().unwrap();
    assert_eq!((gate.judgement.verdict, gate.kept), (Verdict::Rejected, Some(1)));
    assert_ne!(results.predictor.candidate.checkpoint.sha256, old);
    assert_eq!(results.predictor.selected, first.predictor.selected);
    assert_eq!(results.generator.gate.as_ref().unwrap().kept, None, "each model has its own gate");

    // The judgement holds: the next night finds nothing to do, and the same models.
    let published = published(&world.study, &results, 2);
    world.existing.set_published(published);
    let again = drive(&mut world, &|_| panic!("nothing is measured again"));
    assert_eq!(again.tasks, 0);
    let again = self::results(&again);
    assert_eq!(again.predictor.selected, results.predictor.selected);
    assert_eq!(again.searches, results.searches);
}

#[test]
fn without_anything_new_no_gate_and_no_task_stands_in_the_way() {
    let (world, first) = refreshed(("seed: 5", "seed: 5"), false);
    let plan = world.plan();
    assert_eq!((plan.enqueue.len(), plan.freeze.len()), (0, 0));
    let Outcome::Finished(results) = plan.outcome else { panic!("not finished") };
    assert_eq!(*results, first);
}

#[test]
fn a_warm_training_starts_from_the_published_model_and_only_once() {
    let (mut world, first) = refreshed(MORE_CELLS, true);
    let driven = drive(&mut world, &|_| 0.5);
    let results = results(&driven);
    for model in Model::ALL {
        let old = &first.model(model).selected.checkpoint.sha256;
        let of_model: Vec<_> = driven.trainings.iter().filter(|task| task.model == model).collect();
        let start = of_model.iter().find(|task| task.round == 0).unwrap();
        assert_eq!(start.base.as_ref().unwrap().sha256, *old);
        assert_eq!(start.optimiser, None);
        let selected = &results.model(model).selected;
        assert_eq!(selected.started_from.as_ref().unwrap().checkpoint.sha256, *old);
        assert!(of_model.iter().all(|task| task.round == 0 || task.base != start.base));
    }
    // The new models are published now; without new data they do not become parents themselves.
    let published = published(&world.study, &results, 2);
    world.existing.set_published(published);
    assert_eq!(drive(&mut world, &|_| 0.5).tasks, 0);

    let (mut cold, _) = refreshed(MORE_CELLS, false);
    let cold = self::results(&drive(&mut cold, &|_| 0.5));
    assert_ne!(cold.predictor.selected.training, results.predictor.selected.training);
}

#[test]
fn a_model_that_has_learnt_from_held_out_classes_is_no_parent() {
    let (mut world, first) = refreshed(MORE_CELLS, true);
    let valid =
        world.study.datasets.iter().find(|dataset| dataset.group == crate::training_set::Group::MetaValid);
    let class = format!("class {}", valid.unwrap().dataset.classes[0]);
    let mut published = published(&world.study, &first, 1);
    for published in &mut published {
        let known = published.known.as_mut().unwrap();
        known.learnt.get_mut("glyphs").unwrap().insert(class.clone());
    }
    world.existing.set_published(published);
    let driven = drive(&mut world, &|_| 0.5);
    assert!(driven.trainings.iter().filter(|task| task.round == 0).all(|task| task.base.is_none()));
    // It is still measured: what flatters it is said, and counts against the new model.
    let judgement = results(&driven).predictor.gate.unwrap().judgement;
    assert_eq!(judgement.verdict, Verdict::Accepted);
    assert!(judgement.reason.ends_with("which favours it"), "{}", judgement.reason);
}

#[test]
fn a_model_that_cannot_be_compared_stays_and_one_that_cannot_be_used_blocks() {
    let (mut world, first) = refreshed(MORE_CELLS, false);
    let mut published = published(&world.study, &first, 1);
    for published in &mut published {
        published.known.as_mut().unwrap().settings.images_per_class += 1;
    }
    world.existing.set_published(published.clone());
    let gate = results(&drive(&mut world, &|_| 0.5)).predictor.gate.unwrap();
    assert_eq!((gate.judgement.verdict, gate.kept), (Verdict::NotComparable, Some(1)));

    let (mut world, _) = refreshed(MORE_CELLS, false);
    for published in &mut published {
        published.known = Err("an older version published it".to_owned());
    }
    world.existing.set_published(published);
    let Outcome::Blocked(reason) = drive(&mut world, &|_| 0.5).outcome else { panic!("not blocked") };
    assert!(reason.contains("an older version published it"), "{reason}");
    assert!(reason.ends_with("`metad2a run` without `--refresh` publishes the new one"), "{reason}");
}

#[test]
fn only_meta_training_classes_count_as_learnt() {
    let (world, first) = refreshed(MORE_CELLS, false);
    let of = |group: crate::training_set::Group| {
        let datasets = world.study.datasets.iter().filter(move |dataset| dataset.group == group);
        let labels = datasets.flat_map(|dataset| dataset.dataset.classes.clone());
        labels.map(|label| format!("class {label}")).collect::<std::collections::BTreeSet<_>>()
    };
    let learnt = &first.predictor.learnt;
    assert_eq!(learnt.keys().collect::<Vec<_>>(), ["glyphs"], "the target is held out");
    assert_eq!(learnt["glyphs"], of(crate::training_set::Group::MetaTrain));
    assert!(learnt["glyphs"].is_disjoint(&of(crate::training_set::Group::MetaValid)));
}

/// The shell follows places: the measurements of the gate appear in them and go away again.
#[test]
fn the_tasks_of_a_gate_are_open_until_they_are_done() {
    let (mut world, _) = refreshed(MORE_CELLS, false);
    let mut planner = Planner::new(&world.study, std::mem::take(&mut world.existing));
    let mut open: BTreeMap<Place, Vec<(String, Task)>> = BTreeMap::new();
    let mut gate_tasks = 0;
    for _ in 0..1_000 {
        let step = planner.step(&Flight::default()).unwrap();
        for place in planner.take_changes() {
            open.insert(place, planner.tasks(place));
        }
        if step.outcome != Outcome::Running {
            assert!(matches!(step.outcome, Outcome::Finished(_)), "{:?}", step.outcome);
            assert_eq!(gate_tasks, 2);
            assert!(open.values().all(Vec::is_empty), "{open:?}");
            return;
        }
        let mut facts = written(&step.freeze, &step.merge);
        for (_, task) in open.values().flatten() {
            let is_gate =
                matches!(task, Task::Validate(task) if task.checkpoint.path.starts_with("small/models"));
            gate_tasks += u32::from(is_gate);
            facts.push(finished(task));
        }
        for fact in facts {
            planner.learn(fact);
        }
    }
    panic!("the pipeline did not come to an end");
}
