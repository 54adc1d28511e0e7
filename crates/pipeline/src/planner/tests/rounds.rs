//! Rounds of several shards whose workers are lost, late or slow, and coordinators that die at any moment.

use std::collections::HashMap;
use std::time::Duration;

use super::*;

pub(super) const DEADLINE: u64 = 100;

/// Four shards with outer momentum; `more` is added to the generator's keys.
pub(super) fn sharded(more: &str) -> String {
    let keys = format!(
        "generator: {{ shards: 4, shard_deadline_seconds: {DEADLINE}, outer: {{ learning_rate: 0.7, momentum: 0.9 }}, \
         {more} rounds: 6"
    );
    SPECIFICATION.replace("generator: { rounds: 2", &keys)
}

/// A world in which the features and evaluations are done.
pub(super) fn ready_to_train(text: &str) -> World {
    let mut world = World::new(text);
    loop {
        let plan = world.plan();
        if plan.enqueue.iter().any(|task| matches!(task, Task::TrainEpisodes(_))) {
            return world;
        }
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
}

/// A coordinator over a simulated store: what it has published, and when.
struct Coordinator<'a> {
    planner: Planner<'a>,
    /// Id → first and last publication, in seconds.
    published: HashMap<String, (u64, u64)>,
}

impl<'a> Coordinator<'a> {
    fn new(study: &'a Study, store: &Existing) -> Self {
        Self { planner: Planner::new(study, store.clone()), published: HashMap::new() }
    }

    fn flight(&self, now: u64) -> Flight {
        let mut flight = Flight::default();
        for (id, (first, last)) in &self.published {
            let since = |then: u64| Duration::from_secs(now - then);
            flight.add(id.clone(), Age { first: since(*first), last: since(*last) });
        }
        flight
    }

    /// One turn: writes choices into the store, where the first one holds, and returns what it publishes.
    fn turn(&mut self, store: &mut Records, now: u64) -> (Outcome, Vec<Task>) {
        let step = self.planner.step(&self.flight(now)).unwrap();
        for fact in written(&step.freeze, &step.merge) {
            let holding = store.write_once(fact);
            self.planner.learn(holding);
        }
        for id in &step.overdue {
            self.published.get_mut(id).unwrap().1 = now;
        }
        let mut messages = Vec::new();
        for place in self.planner.open_places().collect::<Vec<_>>() {
            for (id, task) in self.planner.tasks(place) {
                let is_new = !self.published.contains_key(&id);
                if is_new || step.overdue.contains(&id) {
                    self.published.entry(id).or_insert((now, now));
                    messages.push(task);
                }
            }
        }
        (step.outcome, messages)
    }
}

/// The simulated store: put-if-absent.
struct Records {
    existing: Existing,
    frozen: HashMap<String, Value>,
}

impl Records {
    fn write_once(&mut self, fact: Fact) -> Fact {
        let Fact::Frozen { id, detail } = fact else { panic!("only choices are written") };
        let holding = self.frozen.entry(id.clone()).or_insert(detail).clone();
        let fact = Fact::Frozen { id, detail: holding };
        self.existing.learn(fact.clone());
        fact
    }

    /// The checkpoints of the generator's rounds, by round.
    fn closed_rounds(&self, study: &Study, training_set: &str) -> Vec<RoundClosed> {
        let specification = &study.specification;
        let training = &specification.generator;
        let id = training_id(Model::Generator, training, training_set, specification.seed, None);
        let decision = |round: u32| content_id("round", 1, &(&id, round));
        let record = |round| self.existing.frozen::<RoundClosed>(&decision(round), "closed round").unwrap();
        (0..specification.generator.rounds).map_while(record).collect()
    }
}

/// What can go wrong in a simulated run, as probabilities a turn.
#[derive(Clone, Copy)]
struct Trouble {
    lost: f64,
    coordinator_dies: f64,
    rival: f64,
}

const CALM: Trouble = Trouble { lost: 0.0, coordinator_dies: 0.0, rival: 0.0 };

/// Runs to the end and returns the closed rounds of the generator with the outcome.
fn simulate(text: &str, seed: u64, trouble: Trouble) -> (Vec<RoundClosed>, Outcome) {
    let world = ready_to_train(text);
    let mut chance = stream(seed);
    let mut store = Records { existing: world.existing.clone(), frozen: HashMap::new() };
    let (mut queue, mut now): (Vec<Task>, u64) = (Vec::new(), 0);
    let mut coordinators = vec![Coordinator::new(&world.study, &store.existing)];
    for _ in 0..20_000 {
        now += chance.below(20) as u64;
        let turn = chance.below(coordinators.len());
        let (outcome, messages) = coordinators[turn].turn(&mut store, now);
        if let Outcome::Finished(results) = &outcome {
            return (store.closed_rounds(&world.study, &results.training_set), outcome);
        }
        assert_eq!(outcome, Outcome::Running);
        queue.extend(messages);
        if chance.chance(trouble.coordinator_dies) {
            // What is ready is purged; what a worker holds goes on.
            queue.retain(|_| chance.chance(0.3));
            coordinators[turn] = Coordinator::new(&world.study, &store.existing);
        }
        if coordinators.len() == 1 && chance.chance(trouble.rival) {
            coordinators.push(Coordinator::new(&world.study, &store.existing));
        }
        if !queue.is_empty() && chance.chance(0.7) {
            let task = queue.swap_remove(chance.below(queue.len()));
            // A lost worker's shard comes again at the deadline; everything else by the broker.
            if chance.chance(trouble.lost) {
                if !matches!(task, Task::TrainEpisodes(_)) {
                    queue.push(task);
                }
                continue;
            }
            let fact = finished(&task);
            store.existing.learn(fact.clone());
            for coordinator in &mut coordinators {
                coordinator.planner.learn(fact.clone());
            }
        }
    }
    panic!("the pipeline did not come to an end");
}

fn checkpoints(rounds: &[RoundClosed]) -> Vec<String> {
    rounds.iter().map(|closed| closed.checkpoint.sha256.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn lost_workers_and_coordinators_that_die_or_rival_leave_every_checkpoint_as_it_is(
        seed in 0..1_000_000_u64,
    ) {
        let (calm, outcome) = simulate(&sharded(""), 0, CALM);
        let trouble = Trouble { lost: 0.25, coordinator_dies: 0.05, rival: 0.02 };
        let (rough, outcome_of_rough) = simulate(&sharded(""), seed, trouble);
        prop_assert_eq!(checkpoints(&calm), checkpoints(&rough));
        prop_assert_eq!(calm.len(), 6);
        prop_assert_eq!(outcome, outcome_of_rough);
    }

    #[test]
    fn with_a_quorum_rounds_close_without_lost_shards_and_all_coordinators_agree_on_which(
        seed in 0..1_000_000_u64,
    ) {
        let trouble = Trouble { lost: 0.25, coordinator_dies: 0.05, rival: 0.02 };
        let (rounds, outcome) = simulate(&sharded("quorum: 3,"), seed, trouble);
        let Outcome::Finished(results) = outcome else { panic!("not finished") };
        prop_assert!(!results.generator.selected.is_reproducible());
        prop_assert!(results.predictor.selected.is_reproducible());
        let mut expected: Vec<Option<Blob>> = vec![None; 4];
        for (closed, metrics) in rounds.iter().zip(&results.generator.selected.history) {
            prop_assert!(closed.shards.len() >= 3);
            prop_assert_eq!(metrics.missing_shards as usize, 4 - closed.shards.len());
            prop_assert_eq!(closed.accepted.is_empty(), closed.shards.len() == 4);
            // A shard that was not accepted keeps the state of its last accepted round.
            let all = [0, 1, 2, 3];
            let accepted: &[u32] = if closed.accepted.is_empty() { &all } else { &closed.accepted };
            for (shard, task) in accepted.iter().zip(&closed.shards) {
                expected[*shard as usize] = Some(blob(&format!("{task} optimiser")));
            }
            prop_assert_eq!(&closed.optimisers, &expected);
        }
    }
}

/// The generator's shards that a planner has open, by number, with their ids.
pub(super) fn open_shards(planner: &Planner<'_>) -> Vec<(u32, String, Task)> {
    let places = planner.open_places().filter(|place| place.stage == Stage::Generator);
    let tasks = places.flat_map(|place| planner.tasks(place));
    tasks
        .filter_map(|(id, task)| match &task {
            Task::TrainEpisodes(shard) => Some((shard.shard, id, task)),
            _ => None,
        })
        .collect()
}

pub(super) fn aged(shards: &[(u32, String, Task)], first: u64, last: u64) -> Flight {
    let age = Age { first: Duration::from_secs(first), last: Duration::from_secs(last) };
    let mut flight = Flight::default();
    for (_, id, _) in shards {
        flight.add(id.clone(), age);
    }
    flight
}

#[test]
fn a_missing_shard_is_published_again_under_its_id_at_the_deadline_and_not_before() {
    let world = ready_to_train(&sharded(""));
    let mut planner = Planner::new(&world.study, world.existing.clone());
    planner.step(&Flight::default()).unwrap();
    let shards = open_shards(&planner);
    planner.learn(finished(&shards[1].2));
    let overdue =
        |planner: &mut Planner<'_>, last| planner.step(&aged(&shards, 3 * DEADLINE, last)).unwrap().overdue;
    assert_eq!(overdue(&mut planner, DEADLINE - 1), Vec::<String>::new());
    let missing: Vec<String> = [0, 2, 3].map(|shard| shards[shard].1.clone()).into();
    assert_eq!(overdue(&mut planner, DEADLINE), missing);
    assert_eq!(open_shards(&planner).len(), 3);
}

#[test]
fn a_quorum_waits_for_the_deadline_and_a_late_result_changes_nothing() {
    let world = ready_to_train(&sharded("quorum: 3,"));
    let mut planner = Planner::new(&world.study, world.existing.clone());
    planner.step(&Flight::default()).unwrap();
    let shards = open_shards(&planner);
    for shard in [0, 1, 3] {
        planner.learn(finished(&shards[shard].2));
    }
    assert_eq!(planner.step(&aged(&shards, DEADLINE - 1, 0)).unwrap().merge, []);
    let merge = planner.step(&aged(&shards, DEADLINE, 0)).unwrap().merge.remove(0);
    assert_eq!(merge.accepted, [0, 1, 3]);
    assert_eq!(merge.optimisers[2], None);
    for fact in written(&[], &[merge]) {
        planner.learn(fact);
    }
    planner.learn(finished(&shards[2].2));
    assert_eq!(planner.step(&Flight::default()).unwrap().stages[&Stage::Generator].done, 1);
    let next = open_shards(&planner);
    let optimisers: Vec<bool> = next
        .iter()
        .map(|(_, _, task)| matches!(task, Task::TrainEpisodes(task) if task.optimiser.is_some()))
        .collect();
    assert_eq!(optimisers, [true, true, false, true]);
}

#[test]
fn a_shard_that_was_given_up_costs_only_itself_where_the_quorum_allows_it_and_stays_told() {
    let world = ready_to_train(&sharded("quorum: 3,"));
    let mut store = world.existing.clone();
    let mut planner = Planner::new(&world.study, world.existing.clone());
    planner.step(&Flight::default()).unwrap();
    let shards = open_shards(&planner);
    let facts =
        [failed(&shards[2].2), finished(&shards[0].2), finished(&shards[1].2), finished(&shards[3].2)];
    for fact in facts {
        planner.learn(fact.clone());
        store.learn(fact);
    }
    // Nobody is left to wait for, so the deadline does not matter.
    let merge = planner.step(&Flight::default()).unwrap().merge;
    assert_eq!(merge[0].accepted, [0, 1, 3]);
    let mut world = World { existing: store, ..world };
    world.write(&Plan { merge, ..world.plan() });
    let expected = "shard 2 of round 0 of the generator failed: it crashed";
    assert_eq!(world.plan().problems, [expected]);
    while world.plan().outcome == Outcome::Running {
        let plan = world.plan();
        world.write(&plan);
        for task in &plan.enqueue {
            world.finish(task);
        }
    }
    let line = format!("task `{}` of the training of the generator failed: it crashed", shards[2].1);
    assert_eq!(world.plan().problems, [line]);
}

#[test]
fn with_too_few_shards_left_for_the_quorum_the_training_blocks() {
    let world = ready_to_train(&sharded("quorum: 3,"));
    let mut planner = Planner::new(&world.study, world.existing.clone());
    planner.step(&Flight::default()).unwrap();
    let shards = open_shards(&planner);
    planner.learn(failed(&shards[0].2));
    assert_eq!(planner.step(&Flight::default()).unwrap().outcome, Outcome::Running);
    planner.learn(failed(&shards[2].2));
    let Outcome::Blocked(reason) = planner.step(&Flight::default()).unwrap().outcome else {
        panic!("goes on")
    };
    assert_eq!(reason, "shard 0 of round 0 of the generator failed: it crashed");
}

#[test]
fn a_quorum_is_a_training_of_its_own_and_all_shards_as_the_quorum_are_not() {
    let id = |more: &str| {
        let world = World::new(&sharded(more));
        training_id(Model::Generator, &world.study.specification.generator, "set", 1, None)
    };
    assert_eq!(id(""), id("quorum: 4,"));
    assert_ne!(id(""), id("quorum: 3,"));
    assert_ne!(id("quorum: 2,"), id("quorum: 3,"));
}
