//! A small real training by the planner's rounds and the real outer step, with workers that are killed.

use std::collections::HashMap;

use super::rounds::{DEADLINE, aged, open_shards, ready_to_train, sharded};
use super::*;
use crate::rounds::outer_step;
use crate::tasks::TrainEpisodes;

/// Each shard pulls the parameters towards a goal of its own, with inner momentum as optimiser
/// state; the mean of the goals is what all of them together shall find.
struct Pull {
    goals: Vec<[f32; 2]>,
    parameters: HashMap<String, Vec<f32>>,
}

impl Pull {
    const STEPS: usize = 5;

    fn read(&self, blob: Option<&Blob>) -> Vec<f32> {
        blob.map_or_else(|| vec![0.0; 2], |blob| self.parameters[&blob.sha256].clone())
    }

    fn store(&mut self, name: &str, values: Vec<f32>) -> Blob {
        let blob = blob(name);
        self.parameters.insert(blob.sha256.clone(), values);
        blob
    }

    fn train(&mut self, task: &TrainEpisodes) -> ShardResult {
        let id = Task::TrainEpisodes(task.clone()).id();
        let start = self.read(task.base.as_ref());
        let (mut at, mut speed) = (start.clone(), self.read(task.optimiser.as_ref()));
        for _ in 0..Self::STEPS {
            for axis in 0..2 {
                let pull = self.goals[task.shard as usize][axis] - at[axis];
                speed[axis] = 0.5 * speed[axis] + 0.05 * pull;
                at[axis] += speed[axis];
            }
        }
        ShardResult {
            shard: task.shard,
            start: self.store(&format!("{id} start"), start),
            parameters: self.store(&format!("{id} end"), at),
            optimiser: self.store(&format!("{id} optimiser"), speed),
            task: id,
            loss: 0.0,
        }
    }

    fn close(&mut self, merge: &Merge) -> RoundClosed {
        let ends: Vec<Vec<f32>> =
            merge.shards.iter().map(|shard| self.read(Some(&shard.parameters))).collect();
        let momentum = merge.momentum.as_ref().map_or_else(Vec::new, |blob| self.read(Some(blob)));
        let start = self.read(Some(&merge.shards[0].start));
        let stepped = outer_step(&start, &ends, &momentum, merge.outer).unwrap();
        RoundClosed {
            shards: merge.shards.iter().map(|shard| shard.task.clone()).collect(),
            accepted: merge.accepted.clone(),
            checkpoint: self.store(&format!("{} checkpoint", merge.id), stepped.parameters),
            momentum: Some(self.store(&format!("{} momentum", merge.id), stepped.momentum)),
            optimisers: merge.optimisers.clone(),
            loss: 0.0,
        }
    }
}

/// Where the parameters are after 60 rounds, with `killed` of the four workers lost in each.
fn trained(text: &str, killed: usize, seed: u64) -> Vec<f32> {
    let world = ready_to_train(&text.replace("rounds: 6", "rounds: 60"));
    let mut pull =
        Pull { goals: vec![[1.8, 0.0], [2.2, 0.04], [1.88, -0.04], [2.12, 0.0]], parameters: HashMap::new() };
    let mut planner = Planner::new(&world.study, world.existing.clone());
    let mut chance = stream(seed);
    let mut last = None;
    planner.step(&Flight::default()).unwrap();
    for _ in 0..60 {
        let mut shards = open_shards(&planner);
        let late = aged(&shards, DEADLINE, DEADLINE);
        chance.shuffle(&mut shards);
        for (_, id, task) in shards.into_iter().skip(killed) {
            let Task::TrainEpisodes(task) = task else { panic!("a shard") };
            let ShardResult { start, parameters, optimiser, loss, .. } = pull.train(&task);
            let summary = Summary::Shard { start, parameters, optimiser, loss };
            planner.learn(Fact::Done { id, done: Done { summary, units: Vec::new() } });
        }
        let merge = planner.step(&late).unwrap().merge.remove(0);
        let closed = pull.close(&merge);
        planner.learn(Fact::Frozen { id: merge.id, detail: serde_json::to_value(&closed).unwrap() });
        planner.step(&Flight::default()).unwrap();
        last = Some(closed.checkpoint);
    }
    assert_eq!(open_shards(&planner), []);
    pull.read(last.as_ref())
}

#[test]
fn with_a_quarter_of_the_workers_killed_each_round_the_training_still_converges() {
    // The mean of the goals.
    let close_to_goal = |at: &[f32], within: f32| (at[0] - 2.0).hypot(at[1]) < within;
    let calm = trained(&sharded(""), 0, 0);
    assert!(close_to_goal(&calm, 0.02), "{calm:?}");
    for seed in 0..10 {
        let rough = trained(&sharded("quorum: 3,"), 1, seed);
        // Whoever is missing in the last rounds leaves a bias, a small part of the way of 2 that was gone.
        assert!(close_to_goal(&rough, 0.15), "seed {seed}: {rough:?}");
    }
}
