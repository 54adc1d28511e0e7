//! Units that cannot be trained, memory that is short, and what is measured beside the figures.

use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_pipeline::tasks::Summary;
use tch::{Kind, Tensor};

use super::super::error::is_permanent;
use super::super::evaluate::LetRun;
use super::pauses::{bundle, of, paused, record};
use super::pictures::{measured_rows_of, rows_of};
use super::*;

type Refusal = fn() -> metad2a_networks::Error;

/// libtorch's own error where more is asked for than any address space holds.
pub(super) fn out_of_memory() -> metad2a_networks::Error {
    Tensor::f_empty([1_i64 << 50], (Kind::Float, Device::Cpu)).unwrap_err().into()
}

pub(super) fn wrong_shapes() -> metad2a_networks::Error {
    let ones = |count: i64| Tensor::ones([count], (Kind::Float, Device::Cpu));
    ones(2).f_add(&ones(3)).unwrap_err().into()
}

fn broken_device() -> metad2a_networks::Error {
    metad2a_networks::Error::Device("CUDA error: unspecified launch failure".into())
}

/// Works without a pause; the training of the unit at `place`, from 0, is refused.
fn work_refusing(engine: &mut Engine, job: &Job, place: usize, refusal: Refusal) -> anyhow::Result<Finished> {
    let mut trainings = 0;
    let let_run: &mut LetRun<'_> = &mut |training, observer| {
        trainings += 1;
        if trainings == place + 1 { Err(refusal()) } else { training.run(observer) }
    };
    match engine.evaluate_with(job, of(job), &mut Slice::new(&mut |_, _| {}, &mut || false), let_run)? {
        Outcome::Finished(finished) => Ok(finished),
        Outcome::Paused(_) => panic!("nobody asked for a pause"),
    }
}

/// The rows and points of one unit.
pub(super) fn of_unit(
    rows: &(Vec<EvaluationRow>, Vec<CurveRow>),
    unit: &str,
) -> (EvaluationRow, Vec<CurveRow>) {
    let row = rows.0.iter().find(|row| row.unit_id == unit).unwrap();
    (row.clone(), rows.1.iter().filter(|point| point.unit_id == unit).cloned().collect())
}

#[test]
fn a_unit_that_is_refused_becomes_a_row_and_its_companions_are_as_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let job = bundle(folder.path());
    let mut engine = engine("refused");
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    let expected = rows_of(&engine, &whole);
    for place in [0, 1] {
        let finished = work_refusing(&mut engine, &job, place, wrong_shapes).unwrap();
        assert_eq!(finished.units, whole.units, "a failed unit is not asked for again");
        assert!(matches!(finished.summary, Summary::Evaluations { units: 2, failed: 1, diverged: 0, .. }));
        let rows = rows_of(&engine, &finished);
        let (row, points) = of_unit(&rows, &whole.units[place]);
        assert_eq!((row.status.as_str(), row.epochs_done, points.len()), ("failed", 0, 0));
        assert!(row.status_reason.unwrap().contains("size of tensor"), "libtorch's own reason");
        assert_eq!((row.train_accuracy, row.valid_accuracy, row.test_accuracy), (None, None, None));
        assert_eq!((row.fit_loss, row.train_loss_sum), (None, None));
        let companion = &whole.units[1 - place];
        assert_eq!(of_unit(&rows, companion), of_unit(&expected, companion));
    }
}

#[test]
fn a_training_without_enough_memory_costs_attempts_and_in_the_last_one_becomes_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    job.envelope.max_attempts = 2;
    let mut engine = engine("memory");
    let error = work_refusing(&mut engine, &job, 0, out_of_memory).unwrap_err();
    assert!(!is_permanent(&error), "{error:#}");
    assert!(format!("{error:#}").contains("cannot train cell `|nor_conv_3x3~0|"), "{error:#}");
    job.envelope.failures.push(format!("{error:#}"));
    let finished = work_refusing(&mut engine, &job, 0, out_of_memory).unwrap();
    let rows = rows_of(&engine, &finished);
    let (row, _) = of_unit(&rows, &finished.units[0]);
    assert_eq!(row.status, "failed");
    assert!(row.status_reason.unwrap().contains("smaller `batch_size` (now 8)"));
    assert_eq!(of_unit(&rows, &finished.units[1]).0.status, "completed");
}

#[test]
fn an_accelerator_that_failed_is_blamed_on_no_unit_even_in_the_last_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let job = bundle(folder.path());
    assert_eq!(job.envelope.max_attempts, 1);
    let error = work_refusing(&mut engine("device"), &job, 1, broken_device).unwrap_err();
    assert!(!is_permanent(&error), "{error:#}");
}

#[test]
fn a_recipe_that_breaks_a_rule_fails_the_task_and_makes_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let Task::Evaluate(task) = &mut job.envelope.task else { panic!("a bundle") };
    task.recipe.momentum = 0.0;
    let error = work(&mut engine("recipe"), job.envelope).unwrap_err();
    assert!(is_permanent(&error), "{error:#}");
    assert!(format!("{error:#}").contains("`momentum` must be above 0"), "{error:#}");
}

#[test]
fn the_row_of_a_failed_unit_survives_a_pause_of_its_companion() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let mut engine = engine("failed and paused");
    let expected = {
        let finished = work_refusing(&mut engine, &job, 0, wrong_shapes).unwrap();
        rows_of(&engine, &finished)
    };
    let mut batches = 0;
    let mut is_over = || {
        batches += 1;
        batches == 5
    };
    let mut trainings = 0;
    let let_run: &mut LetRun<'_> = &mut |training, observer| {
        trainings += 1;
        if trainings == 1 { Err(wrong_shapes()) } else { training.run(observer) }
    };
    let outcome =
        engine.evaluate_with(&job, of(&job), &mut Slice::new(&mut |_, _| {}, &mut is_over), let_run).unwrap();
    let Outcome::Paused(paused) = outcome else { panic!("a pause was asked for") };
    job.checkpoints = vec![record(&job, 0, paused)];
    let mut other = self::engine("failed and paused");
    let outcome = other.work(&job, &mut Slice::new(&mut |_, _| {}, &mut || false)).unwrap();
    let Outcome::Finished(finished) = outcome else { panic!("nobody asked for a pause") };
    assert_eq!(rows_of(&other, &finished), expected);
}

#[test]
fn what_fitted_is_remembered_for_the_recipe_and_dataset_alone() {
    let folder = tempfile::tempdir().unwrap();
    let job = bundle(folder.path());
    let mut engine = engine("remembered");
    // The pictures at once that each training begins with; the first finds that two fit.
    let mut begun = |job: &Job, fitting: Option<i64>| {
        let mut seen = Vec::new();
        let let_run: &mut LetRun<'_> = &mut |training, observer| {
            seen.push(training.evaluation_batch());
            match fitting.filter(|_| seen.len() == 1) {
                Some(pictures) => training.with_evaluation_batch(pictures).run(observer),
                None => training.run(observer),
            }
        };
        engine.evaluate_with(job, of(job), &mut Slice::new(&mut |_, _| {}, &mut || false), let_run).unwrap();
        seen
    };
    assert_eq!(begun(&job, Some(2)), [256, 2]);
    assert_eq!(begun(&job, None), [2, 2]);
    let mut other = job.clone();
    let Task::Evaluate(task) = &mut other.envelope.task else { panic!("a bundle") };
    task.recipe.channels = 8;
    assert_eq!(begun(&other, None), [256, 256]);
}

#[test]
fn latency_is_measured_where_it_is_asked_for_and_changes_no_figure() {
    let folder = tempfile::tempdir().unwrap();
    let job = bundle(folder.path());
    let mut engine = engine("latency");
    let mut rows = |measure_latency| {
        let envelope = Envelope { measure_latency, ..job.envelope.clone() };
        assert_eq!(envelope.task.id(), job.id);
        let finished = work(&mut engine, envelope).unwrap();
        (measured_rows_of(&engine, &finished), rows_of(&engine, &finished))
    };
    let (without, expected) = rows(false);
    let (with, figures) = rows(true);
    assert_eq!(figures, expected);
    let latencies = |row: &EvaluationRow| {
        [
            row.latency_batch_1_median_milliseconds,
            row.latency_batch_1_p95_milliseconds,
            row.latency_batch_64_median_milliseconds,
            row.latency_batch_64_p95_milliseconds,
        ]
    };
    for row in &without {
        assert_eq!(latencies(row), [None; 4]);
        assert!(row.images_per_second.unwrap() > 0.0);
        // 32 pictures, two epochs.
        let expected = 64.0 / row.train_seconds;
        assert!((row.images_per_second.unwrap() / expected - 1.0).abs() < 1e-9);
    }
    for row in &with {
        let [median, p95, median_of_64, p95_of_64] = latencies(row).map(Option::unwrap);
        assert!(0.0 < median && median <= p95 && 0.0 < median_of_64 && median_of_64 <= p95_of_64);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_peak_of_a_paused_unit_is_the_highest_of_its_slices() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let Task::Evaluate(task) = &mut job.envelope.task else { panic!("a bundle") };
    task.units.truncate(1);
    job.id = job.envelope.task.id();
    let mut engine = engine("peak");
    let mut checkpoint = record(&job, 0, paused(&mut engine, &job, 3));
    let mut state = engine.load::<serde_json::Value>(&checkpoint).unwrap().0;
    let told_by = |state: &mut serde_json::Value| state["paused"][0]["peak_memory_bytes"].take();
    let Some(peak) = told_by(&mut state.clone()).as_u64() else {
        // A system that does not let a process forget its peak tells none.
        assert!(told_by(&mut state).is_null());
        return;
    };
    assert!(peak > 1 << 20, "{peak}");
    // As if the first slice had used a terabyte, and then as if it was a slice of a version that told nothing.
    for (told, expected) in [(serde_json::json!(1_u64 << 40), Some(1 << 40)), (serde_json::Value::Null, None)]
    {
        state["paused"][0]["peak_memory_bytes"] = told;
        let bytes = serde_json::to_vec(&state).unwrap();
        let put = engine.store.put_checkpoint_file(&checkpoint.id, "state.json", bytes.into());
        checkpoint.files[0] = engine.runtime.block_on(put).unwrap();
        job.checkpoints = vec![checkpoint.clone()];
        let outcome = engine.work(&job, &mut Slice::new(&mut |_, _| {}, &mut || false)).unwrap();
        let Outcome::Finished(finished) = outcome else { panic!("nobody asked for a pause") };
        assert_eq!(measured_rows_of(&engine, &finished)[0].peak_memory_bytes, expected);
    }
}

/// The first forms of a bundle's checkpoint, as the versions before this one wrote them.
#[test]
fn a_checkpoint_of_an_older_form_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let mut job = bundle(folder.path());
    let mut engine = engine("older forms");
    let whole = work(&mut engine, job.envelope.clone()).unwrap();
    let expected = rows_of(&engine, &whole);
    let newest = record(&job, 0, paused(&mut engine, &job, 15));
    for form in [1, 2] {
        let mut checkpoint = newest.clone();
        let mut state = engine.load::<serde_json::Value>(&checkpoint).unwrap().0;
        state["version"] = form.into();
        let peak = state["paused"][0]["peak_memory_bytes"].take();
        let keys = state.as_object_mut().unwrap();
        keys.retain(|key, _| key != "paused" && key != "rungs_passed");
        if form == 2 {
            keys.insert("peak_memory_bytes".into(), peak);
        }
        let finished = state["finished"].as_array_mut().unwrap();
        assert_eq!(finished.len(), 1);
        if form == 1 {
            let row = finished[0]["evaluation"].as_object_mut().unwrap();
            row.retain(|name, _| {
                !(name.starts_with("latency_") || name == "images_per_second" || name == "peak_memory_bytes")
            });
        }
        let bytes = serde_json::to_vec(&state).unwrap();
        let put = engine.store.put_checkpoint_file(&checkpoint.id, "state.json", bytes.into());
        checkpoint.files[0] = engine.runtime.block_on(put).unwrap();
        job.checkpoints = vec![checkpoint];
        let mut trainings = 0;
        let let_run: &mut LetRun<'_> = &mut |training, observer| {
            trainings += 1;
            training.run(observer)
        };
        let mut never = || false;
        let outcome = engine
            .evaluate_with(&job, of(&job), &mut Slice::new(&mut |_, _| {}, &mut never), let_run)
            .unwrap();
        let Outcome::Finished(finished) = outcome else { panic!("nobody asked for a pause") };
        assert_eq!(trainings, 1, "the first unit is not trained again");
        assert_eq!(rows_of(&engine, &finished), expected, "form {form}");
    }
}
