//! A person's word on tasks: cancelled, dropped, and lifted again.

use super::*;

#[test]
fn all_units_of_a_cancelled_bundle_are_cancelled_and_the_run_ends_without_a_problem() {
    for verdict in [Verdict::Cancelled, Verdict::Dropped] {
        let mut world = World::new(SPECIFICATION);
        let bundle = world.bundle(0);
        world.existing.learn(stopped(&Task::Evaluate(bundle.clone()), verdict));
        let plan = world.plan();
        let of_bundle = |task: &&Task| match task {
            Task::Evaluate(task) => {
                task.dataset == bundle.dataset && task.units.iter().any(|unit| bundle.units.contains(unit))
            }
            _ => false,
        };
        assert_eq!(plan.enqueue.iter().find(of_bundle), None);
        let progress = plan.stages[&Stage::Evaluations];
        let counted = if verdict == Verdict::Cancelled { progress.cancelled } else { progress.dropped };
        assert_eq!((counted, progress.failed, progress.left()), (4, 0, 20));
        assert_eq!(plan.problems, Vec::<String>::new());
        let (outcome, executed) = world.run(stream(5));
        assert!(matches!(outcome, Outcome::Finished(_)));
        assert!(!executed.contains(&Task::Evaluate(bundle).id()));
    }
}

#[test]
fn a_failure_that_is_dropped_is_no_problem_any_more() {
    let mut world = World::new(SPECIFICATION);
    let task = world.plan().enqueue.remove(0);
    world.existing.learn(failed(&task));
    assert_eq!(world.plan().problems.len(), 1);
    world.existing.learn(stopped(&task, Verdict::Dropped));
    let plan = world.plan();
    assert_eq!((plan.problems.len(), plan.stages[&Stage::Features].dropped), (0, 1));
}

#[test]
fn a_lifted_task_is_planned_as_if_it_had_never_been_stopped() {
    let untouched = World::new(SPECIFICATION).plan();
    let mut world = World::new(SPECIFICATION);
    for (number, task) in untouched.enqueue.iter().enumerate() {
        let verdict = [Verdict::Failed, Verdict::Cancelled, Verdict::Dropped][number % 3];
        world.existing.learn(stopped(task, verdict));
    }
    assert_ne!(world.plan(), untouched);
    for task in &untouched.enqueue {
        world.existing.learn(Fact::Lifted { id: task.id() });
    }
    assert_eq!(world.plan(), untouched);
}

#[test]
fn a_cancelled_shard_blocks_its_model_and_says_how_to_go_on() {
    let mut world = World::new(SPECIFICATION);
    let id = loop {
        let plan = world.plan();
        if let Some(shard) = plan.enqueue.iter().find(|task| matches!(task, Task::TrainEpisodes(_))) {
            world.existing.learn(stopped(shard, Verdict::Cancelled));
            break shard.id();
        }
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    };
    let plan = world.plan();
    let Outcome::Blocked(reason) = plan.outcome else { panic!("not blocked") };
    let lifts = format!("`metad2a tasks retry {}` lifts that", &id[..12]);
    assert_eq!(reason, format!("shard 0 of round 0 of the generator was cancelled; {lifts}"));
    assert_eq!(plan.problems, Vec::<String>::new());
}

#[test]
fn every_planned_task_belongs_to_the_stage_of_its_place() {
    let mut world = World::new(SPECIFICATION);
    let mut seen = HashSet::new();
    while world.plan().outcome == Outcome::Running {
        let mut planner = Planner::new(&world.study, world.existing.clone());
        planner.step(&Flight::default()).unwrap();
        for place in planner.open_places() {
            for (_, task) in planner.tasks(place) {
                assert_eq!(Stage::of(&world.study, &task), place.stage);
                seen.insert(place.stage);
            }
        }
        let plan = world.plan();
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
    assert_eq!(seen, HashSet::from(Stage::ALL));
}
