//! Bundles whose worse units are stopped at rungs.

use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_networks::{EpochRow, Observer, Run, Status};
use metad2a_pipeline::halving::{Halving, Signal};
use metad2a_pipeline::tasks::{Summary, Unit};
use std::ops::ControlFlow;
use std::path::Path;

use super::super::error::is_permanent;
use super::super::evaluate::LetRun;
use super::pauses::{in_slices, of, paused, record};
use super::pictures::{SOURCE, evaluate, rows_of, unit, units, write_idx};
use super::troubles::{of_unit, out_of_memory, wrong_shapes};
use super::*;

type Rows = (Vec<EvaluationRow>, Vec<CurveRow>);

fn four_units() -> [Unit; 4] {
    let [first, second] = units();
    let third = "|skip_connect~0|+|nor_conv_1x1~0|none~1|+|nor_conv_3x3~0|none~1|none~2|";
    let fourth = "|avg_pool_3x3~0|+|none~0|nor_conv_1x1~1|+|none~0|skip_connect~1|nor_conv_3x3~2|";
    [first, second, unit(third, 3), unit(fourth, 1)]
}

/// Four epochs, and half of the units go on after the first and the second.
fn halved(folder: &Path, units: &[Unit], by: Signal) -> Job {
    let mut task = evaluate(&[0, 1], units);
    task.recipe.epochs = 4;
    task.recipe.halving = Some(Halving { rungs: vec![1, 2], keep: 0.5, by });
    let mut envelope = envelope(Task::Evaluate(task));
    envelope.sources.insert(SOURCE.into(), write_idx(folder));
    job(envelope)
}

fn rows(store: &str, job: &Job) -> (Rows, Summary) {
    let mut engine = engine(store);
    let finished = work(&mut engine, job.envelope.clone()).unwrap();
    (rows_of(&engine, &finished), finished.summary)
}

/// The rows of every unit as a bundle of its own, which nobody stops.
fn alone(job: &Job) -> Vec<(EvaluationRow, Vec<CurveRow>)> {
    let each = of(job).units.iter().map(|unit| {
        let mut single = job.envelope.clone();
        let Task::Evaluate(task) = &mut single.task else { panic!("a bundle") };
        task.units = vec![*unit];
        let ((mut rows, points), _) = rows("alone", &super::job(single));
        (rows.remove(0), points)
    });
    each.collect()
}

/// Which units reach what epoch, by the curves of units that nobody stopped.
fn expected_epochs(job: &Job, alone: &[(EvaluationRow, Vec<CurveRow>)]) -> Vec<i64> {
    let halving = of(job).recipe.halving.as_ref().unwrap();
    let mut epochs = vec![4; alone.len()];
    let mut racing: Vec<usize> = (0..alone.len()).collect();
    for rung in &halving.rungs {
        let figure = |unit: &usize| {
            let until = &alone[*unit].1[..*rung as usize];
            match halving.by {
                Signal::TrainLossSum => until.iter().map(|point| point.train_loss.unwrap()).sum(),
                Signal::ValidAccuracy => until.last().unwrap().valid_accuracy.unwrap(),
            }
        };
        let standings = halving.standings(&racing.iter().map(figure).collect::<Vec<f64>>());
        let (on, out): (Vec<_>, Vec<_>) =
            racing.into_iter().zip(standings).partition(|(_, standing)| standing.goes_on);
        for (unit, _) in out {
            epochs[unit] = i64::from(*rung);
        }
        racing = on.into_iter().map(|(unit, _)| unit).collect();
    }
    epochs
}

#[test]
fn the_worse_units_are_stopped_at_each_rung_and_all_numbers_until_then_are_those_of_a_unit_alone() {
    let folder = tempfile::tempdir().unwrap();
    for by in [Signal::TrainLossSum, Signal::ValidAccuracy] {
        let job = halved(folder.path(), &four_units(), by);
        let (found, summary) = rows("halved", &job);
        assert!(matches!(summary, Summary::Evaluations { units: 4, stopped: 3, diverged: 0, failed: 0, .. }));
        let alone = alone(&job);
        let expected = expected_epochs(&job, &alone);
        for ((whole, curve), epochs) in alone.iter().zip(expected) {
            let (row, points) = of_unit(&found, &whole.unit_id);
            assert_eq!((row.epochs_done, row.recipe_id.as_str()), (epochs, whole.recipe_id.as_str()));
            assert_eq!(points, curve[..epochs as usize]);
            assert_eq!(whole.status, "completed");
            if epochs == 4 {
                assert_eq!(EvaluationRow { task_id: whole.task_id.clone(), ..row }, *whole);
                continue;
            }
            assert_eq!((row.status.as_str(), row.fit_loss, row.test_accuracy), ("stopped", None, None));
            let last = points.last().unwrap();
            assert_eq!((row.train_loss, row.valid_accuracy), (last.train_loss, last.valid_accuracy));
            let sum = points.iter().map(|point| point.train_loss.unwrap()).sum::<f64>();
            assert_eq!(row.train_loss_sum, Some(sum));
        }
    }
}

#[test]
fn a_stopped_row_says_where_it_stood_and_by_what() {
    let folder = tempfile::tempdir().unwrap();
    let ((rows, _), _) = rows("reasons", &halved(folder.path(), &four_units(), Signal::TrainLossSum));
    let mut reasons: Vec<String> = rows.into_iter().filter_map(|row| row.status_reason).collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "after epoch 1: place 3 of 4 by train-loss-sum, and the rung keeps 2",
            "after epoch 1: place 4 of 4 by train-loss-sum, and the rung keeps 2",
            "after epoch 2: place 2 of 2 by train-loss-sum, and the rung keeps 1",
        ]
    );
}

#[test]
fn rungs_are_validated_where_units_are_compared_by_accuracy() {
    let folder = tempfile::tempdir().unwrap();
    for (by, expected) in [(Signal::TrainLossSum, vec![2, 4, 6]), (Signal::ValidAccuracy, vec![2, 3, 4, 6])] {
        let mut job = halved(folder.path(), &units(), by);
        let Task::Evaluate(task) = &mut job.envelope.task else { panic!("a bundle") };
        // Every other epoch is validated anyway.
        task.recipe.epochs = 12;
        task.recipe.halving.as_mut().unwrap().rungs = vec![3, 6];
        let ((_, points), _) = rows("validated", &super::job(job.envelope));
        let winner = points.iter().max_by_key(|point| point.epoch).unwrap().unit_id.clone();
        let validated = points.iter().filter(|point| point.unit_id == winner && point.epoch < 8);
        let epochs = validated.filter(|point| point.valid_accuracy.is_some()).map(|point| point.epoch);
        assert_eq!(epochs.collect::<Vec<_>>(), expected, "{by:?}");
    }
}

#[test]
fn a_halved_bundle_in_slices_gives_the_rows_of_one_piece() {
    let folder = tempfile::tempdir().unwrap();
    for by in [Signal::TrainLossSum, Signal::ValidAccuracy] {
        let job = halved(folder.path(), &four_units(), by);
        let (expected, summary) = rows("halved in one piece", &job);
        for (batches, least) in [(1, 40), (4, 10), (5, 8), (7, 6), (23, 2)] {
            let store = format!("halved {by:?} by {batches}");
            let (engine, finished, slices) = in_slices(&store, job.clone(), batches);
            assert!(slices >= least, "{slices} slices of {batches} batches");
            assert_eq!(rows_of(&engine, &finished), expected, "slices of {batches} batches");
            assert_eq!(finished.summary, summary);
        }
    }
}

/// Works without a pause; `refuse` gets the number of each training that begins or goes on, from 0.
fn work_refusing(
    store: &str,
    job: &Job,
    refuse: impl Fn(usize) -> Option<metad2a_networks::Error>,
) -> anyhow::Result<Rows> {
    let mut trainings = 0;
    let let_run: &mut LetRun<'_> = &mut |training, observer| {
        trainings += 1;
        refuse(trainings - 1).map_or_else(|| training.run(observer), Err)
    };
    let mut engine = engine(store);
    let mut never = || false;
    match engine.evaluate_with(job, of(job), &mut Slice::new(&mut |_, _| {}, &mut never), let_run)? {
        Outcome::Finished(finished) => Ok(rows_of(&engine, &finished)),
        Outcome::Paused(_) => panic!("nobody asked for a pause"),
    }
}

/// Epochs of all units, in their order.
fn epochs_of(job: &Job, rows: &Rows) -> Vec<i64> {
    let task = of(job);
    task.units.iter().map(|unit| of_unit(rows, &task.unit_id(unit)).0.epochs_done).collect()
}

#[test]
fn a_refused_unit_is_out_of_the_race_and_loses_no_companion() {
    let folder = tempfile::tempdir().unwrap();
    let units = four_units();
    let job = halved(folder.path(), &units, Signal::TrainLossSum);
    let without = halved(folder.path(), &units[1..], Signal::TrainLossSum);
    // The first training is the first unit's: two of the other three go on, as if they were a bundle.
    let found =
        work_refusing("refused at once", &job, |training| (training == 0).then(wrong_shapes)).unwrap();
    let expected = epochs_of(&without, &rows("three", &without).0);
    assert_eq!(epochs_of(&job, &found)[1..], expected);
    assert_eq!(of_unit(&found, &of(&job).unit_id(&units[0])).0.status, "failed");
    // The fifth training is that of the first unit after the first rung: its only companion there completes.
    let found = work_refusing("refused later", &job, |training| (training == 4).then(wrong_shapes)).unwrap();
    let mut statuses: Vec<String> = found.0.iter().map(|row| row.status.clone()).collect();
    statuses.sort();
    assert_eq!(statuses, ["completed", "failed", "stopped", "stopped"]);
    let error = work_refusing(
        "memory",
        &Job { envelope: Envelope { max_attempts: 2, ..job.envelope.clone() }, ..job },
        |training| (training == 5).then(out_of_memory),
    )
    .unwrap_err();
    assert!(!is_permanent(&error), "{error:#}");
}

#[test]
fn a_unit_that_diverged_is_no_companion_any_more() {
    struct Never;
    impl Observer for Never {
        fn epoch(&mut self, _row: EpochRow) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }

        fn batch(&mut self) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let units = four_units();
    let job = halved(folder.path(), &units, Signal::TrainLossSum);
    let without = halved(folder.path(), &units[1..], Signal::TrainLossSum);
    let mut is_first = true;
    let let_run: &mut LetRun<'_> = &mut |training, observer| {
        if !std::mem::take(&mut is_first) {
            return training.run(observer);
        }
        let mut run = training.run(&mut Never)?;
        let Run::Finished(trained) = &mut run else { panic!("nobody pauses it") };
        trained.status = Status::Diverged { epoch: 3, reason: "the loss".into() };
        Ok(run)
    };
    let mut engine = engine("diverged");
    let mut never = || false;
    let outcome = engine.evaluate_with(&job, of(&job), &mut Slice::new(&mut |_, _| {}, &mut never), let_run);
    let Outcome::Finished(finished) = outcome.unwrap() else { panic!("nobody asked for a pause") };
    let found = rows_of(&engine, &finished);
    assert_eq!(epochs_of(&job, &found)[1..], epochs_of(&without, &rows("three", &without).0));
}

#[test]
fn what_other_companions_decided_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let units = four_units();
    let job = halved(folder.path(), &units, Signal::TrainLossSum);
    let (expected, _) = rows("no companions", &job);
    // Of two units one is stopped after 5 batches each, of four in these slices it may not be.
    for few in [&units[..2], &units[2..]] {
        let other = halved(folder.path(), few, Signal::TrainLossSum);
        let mut engine = engine("no companions");
        let checkpoint = record(&other, 0, paused(&mut engine, &other, 14));
        let foreign = Job { checkpoints: vec![checkpoint], ..job.clone() };
        let mut never = || false;
        let outcome = engine.work(&foreign, &mut Slice::new(&mut |_, _| {}, &mut never)).unwrap();
        let Outcome::Finished(finished) = outcome else { panic!("nobody asked for a pause") };
        assert_eq!(rows_of(&engine, &finished), expected);
    }
}

#[test]
fn a_checkpoint_with_rungs_that_its_units_did_not_pass_is_not_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = halved(folder.path(), &four_units(), Signal::TrainLossSum);
    let (expected, _) = rows("rungs", &job);
    let mut engine = engine("rungs");
    // In the second unit's first epoch.
    let mut checkpoint = record(&job, 0, paused(&mut engine, &job, 7));
    let mut state = engine.load::<serde_json::Value>(&checkpoint).unwrap().0;
    for rungs in [1, 3] {
        state["rungs_passed"] = rungs.into();
        let put = engine.store.put_checkpoint_file(
            &checkpoint.id,
            "state.json",
            serde_json::to_vec(&state).unwrap().into(),
        );
        checkpoint.files[0] = engine.runtime.block_on(put).unwrap();
        job.checkpoints = vec![checkpoint.clone()];
        let mut never = || false;
        let outcome = engine.work(&job, &mut Slice::new(&mut |_, _| {}, &mut never)).unwrap();
        let Outcome::Finished(finished) = outcome else { panic!("nobody asked for a pause") };
        assert_eq!(rows_of(&engine, &finished), expected, "{rungs} rungs");
    }
}

#[test]
fn rungs_that_break_a_rule_fail_the_task_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = halved(folder.path(), &four_units(), Signal::TrainLossSum);
    let Task::Evaluate(task) = &mut job.envelope.task else { panic!("a bundle") };
    task.recipe.epochs = 2;
    let error = work(&mut engine("broken rungs"), job.envelope).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
    assert_eq!(
        error.to_string(),
        "the recipe's `halving.rungs` must be ascending epochs, at least one, each from 1 and before the last \
         (`epochs` is 2), got `[1, 2]`"
    );
}
