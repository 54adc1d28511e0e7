//! Tasks in slices: whatever the cuts, the results are those of one piece.

use std::path::Path;

use metad2a_database::{Checkpoint, now, random_id};
use metad2a_pipeline::tasks::{Evaluate, Model};

use super::models::{freeze, search, training, usual, validation};
use super::pictures::{SOURCE, evaluate, rows_of, units, write_idx};
use super::*;
use crate::protocol::Paused;

/// The record that the supervisor would write.
pub(super) fn record(job: &Job, slice: u32, paused: Paused) -> Checkpoint {
    Checkpoint {
        kind: job.envelope.task.kind().name().into(),
        id: job.id.clone(),
        slice,
        execution_id: random_id(),
        worker: "test".into(),
        device: "cpu".into(),
        files: paused.files,
        started_at: now(),
        recorded_at: now(),
        seconds: 1.0,
        done: paused.done,
        total: paused.total,
    }
}

/// One slice of so many batches; `None` is without end.
fn slice(engine: &mut Engine, job: &Job, batches: Option<u32>) -> Outcome {
    let mut seen = 0;
    let mut is_over = || {
        seen += 1;
        batches.is_some_and(|batches| seen >= batches)
    };
    engine.work(job, &mut Slice::new(&mut |_, _| {}, &mut is_over)).unwrap()
}

pub(super) fn paused(engine: &mut Engine, job: &Job, batches: u32) -> Paused {
    match slice(engine, job, Some(batches)) {
        Outcome::Paused(paused) => paused,
        Outcome::Finished(_) => panic!("the task is longer than {batches} batches"),
    }
}

/// Works in slices, each in an engine of its own, as in another process; returns the last one and how many there were.
pub(super) fn in_slices(store: &str, mut job: Job, batches: u32) -> (Engine, Finished, u32) {
    for number in 0.. {
        let mut engine = engine(store);
        match slice(&mut engine, &job, Some(batches)) {
            Outcome::Finished(finished) => return (engine, finished, number + 1),
            Outcome::Paused(paused) => {
                assert!(paused.done <= paused.total);
                job.checkpoints.insert(0, record(&job, number, paused));
                job.checkpoints.truncate(2);
            }
        }
    }
    unreachable!("every slice does a batch")
}

/// A bundle of two units with the pictures of `folder`.
pub(super) fn bundle(folder: &Path) -> Job {
    let mut envelope = envelope(Task::Evaluate(evaluate(&[0, 1], &units())));
    envelope.sources.insert(SOURCE.into(), write_idx(folder));
    job(envelope)
}

pub(super) fn of(job: &Job) -> &Evaluate {
    let Task::Evaluate(task) = &job.envelope.task else { panic!("a bundle") };
    task
}

#[test]
fn a_bundle_in_slices_gives_the_rows_of_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    let job = bundle(folder.path());
    let mut engine = engine("one piece");
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    let expected = rows_of(&engine, &whole);
    // A unit has two epochs of four batches, two of validation figures and one of test figures.
    for (batches, least) in [(1, 20), (3, 6), (11, 2)] {
        let (engine, finished, slices) = in_slices(&format!("sliced {batches}"), job.clone(), batches);
        assert!(slices >= least, "{slices} slices of {batches} batches");
        assert_eq!(rows_of(&engine, &finished), expected, "slices of {batches} batches");
        assert_eq!((&finished.units, &finished.summary), (&whole.units, &whole.summary));
    }
}

#[test]
fn a_shard_in_slices_ends_with_the_bytes_and_the_loss_of_one_piece() {
    for model in Model::ALL {
        let name = format!("shard {}", model.name());
        let mut engine = engine(&name);
        let set = freeze(&engine, usual);
        let job = job(envelope(Task::TrainEpisodes(training(model, &set, 0, 7, None))));
        let whole = work(&mut engine, job.envelope.clone()).unwrap();
        for (steps, expected) in [(1, 7), (2, 4), (5, 2)] {
            let (_, finished, slices) = in_slices(&name, job.clone(), steps);
            assert_eq!(slices, expected);
            assert_eq!(finished, whole, "{} in slices of {steps} steps", model.name());
        }
    }
}

#[test]
fn a_later_round_in_slices_ends_like_one_piece() {
    let mut engine = engine("rounds in slices");
    let set = freeze(&engine, usual);
    let first = super::models::train(&mut engine, training(Model::Predictor, &set, 0, 3, None));
    let job = job(envelope(Task::TrainEpisodes(training(Model::Predictor, &set, 1, 3, Some(&first)))));
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    let (_, finished, slices) = in_slices("rounds in slices", job, 2);
    assert_eq!((slices, finished), (2, whole));
}

#[test]
fn a_validation_in_slices_gives_the_figures_of_one_piece() {
    for model in Model::ALL {
        let name = format!("validation in slices, {}", model.name());
        let mut engine = engine(&name);
        let job = job(envelope(Task::Validate(validation(&mut engine, model))));
        let whole = work(&mut engine, job.envelope.clone()).unwrap();
        // Three datasets, one of which is a batch.
        for (datasets, expected) in [(1, 3), (2, 2), (3, 1)] {
            let (_, finished, slices) = in_slices(&name, job.clone(), datasets);
            assert_eq!((slices, &finished), (expected, &whole), "{} by {datasets}", model.name());
        }
    }
}

#[test]
fn a_search_in_slices_ranks_the_cells_of_one_piece() {
    let mut engine = engine("search in slices");
    // More than a round of drawing brings.
    let job = job(envelope(Task::Search(search(&mut engine, 1_500))));
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    for rounds in [1, 2] {
        let (_, finished, slices) = in_slices("search in slices", job.clone(), rounds);
        assert!(slices > 1, "slices of {rounds} rounds");
        assert_eq!(finished, whole, "slices of {rounds} rounds");
    }
}

/// Every way in which the newest checkpoint may be unusable: the task goes on from the one before, or begins anew.
#[test]
fn a_damaged_or_foreign_checkpoint_costs_time_and_changes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let name = "damaged";
    let mut engine = engine(name);
    let expected = {
        let whole = work(&mut engine, job.envelope.clone()).unwrap();
        rows_of(&engine, &whole)
    };
    let first = record(&job, 0, paused(&mut engine, &job, 6));
    job.checkpoints = vec![first.clone()];
    let second = record(&job, 1, paused(&mut engine, &job, 6));
    assert!(second.done > first.done);
    let foreign = {
        let mut other = bundle(folder.path());
        let Task::Evaluate(task) = &mut other.envelope.task else { panic!("a bundle") };
        task.units.reverse();
        other.id = other.envelope.task.id();
        record(&other, 1, paused(&mut engine, &other, 6))
    };
    let write = |checkpoint: &mut Checkpoint, place: usize, data: &'static [u8]| {
        let ext = ["state.json", "safetensors"][place];
        let put = engine.store.put_checkpoint_file(&checkpoint.id, ext, data.into());
        checkpoint.files[place] = engine.runtime.block_on(put).unwrap();
    };
    let mut without_sense = second.clone();
    write(&mut without_sense, 0, b"{}");
    let mut without_tensors = second.clone();
    write(&mut without_tensors, 1, b"nothing");
    let mut without_files = second.clone();
    without_files.files.clear();
    let mut cut = second.clone();
    cut.files[1].sha256 = "00".repeat(32);
    let mut missing = second.clone();
    missing.files[0].path = "checkpoints/nowhere/0.json".into();

    for (what, bad) in [
        ("foreign", foreign),
        ("without sense", without_sense),
        ("without tensors", without_tensors),
        ("without files", without_files),
        ("cut", cut),
        ("missing", missing),
    ] {
        let job_of = |checkpoints| Job { checkpoints, ..job.clone() };
        let task = of(&job);
        let loaded = |checkpoints| {
            let job = job_of(checkpoints);
            let found =
                engine.resumed(&job, |checkpoint| Ok(engine.load::<serde_json::Value>(checkpoint)?.0));
            found.unwrap().map(|state| state["task"].clone())
        };
        if what == "missing" || what == "cut" || what == "without files" {
            assert_eq!(loaded(vec![bad.clone()]), None, "{what}");
            assert_eq!(loaded(vec![bad.clone(), first.clone()]), Some(job.id.clone().into()), "{what}");
        }
        for checkpoints in [vec![bad.clone(), first.clone()], vec![bad]] {
            let mut engine = self::engine(name);
            let Outcome::Finished(finished) = slice(&mut engine, &job_of(checkpoints), None) else {
                panic!("nobody asked for a pause")
            };
            assert_eq!(rows_of(&engine, &finished), expected, "{what}");
            assert_eq!(finished.units.len(), task.units.len());
        }
    }
}

#[test]
fn what_goes_on_from_a_checkpoint_does_not_repeat_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let mut engine = engine("no repetition");
    let mut count = |job: &Job| {
        let mut batches = 0;
        let mut is_over = || {
            batches += 1;
            false
        };
        engine.work(job, &mut Slice::new(&mut |_, _| {}, &mut is_over)).unwrap();
        batches
    };
    let whole = count(&job);
    let first = record(&job, 0, paused(&mut self::engine("no repetition"), &job, 9));
    job.checkpoints = vec![first];
    // A unit's very last batch asks nothing, so nine questions are nine batches, or nine and a unit's last.
    assert_eq!(count(&job), whole - 9);
}

#[test]
#[ignore = "needs weights: scripts/weights/fetch.sh"]
fn features_in_slices_are_those_of_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    // More pictures than one call of the extractor takes.
    let job = job(super::pictures::features(folder.path(), 60));
    let mut engine = engine("features in one piece");
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    let (_, finished, slices) = in_slices("features in slices", job, 1);
    assert_eq!((slices, finished), (2, whole));
}
