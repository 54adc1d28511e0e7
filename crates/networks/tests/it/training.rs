//! Training units.

use std::ops::ControlFlow;

use metad2a_networks::{
    Augmentation, EpochRow, Figures, Observer, Pictures, Precision, PreparedData, Recipe, Run, Status,
    TrainedUnit, Training, TrainingData, train,
};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use tch::{Device, Kind, Tensor};

/// All operations; both convolutions of node 0 are computed together, a kernel of one pixel inside one of three.
pub(crate) const CELL: &str =
    "|nor_conv_1x1~0|+|avg_pool_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|skip_connect~1|nor_conv_1x1~2|";
const ALWAYS_ZERO: &str = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|none~2|";

/// Noise with a bright upper or lower half: two classes that a mirrored or shifted picture keeps.
fn pictures(count: usize, split: &str) -> Pictures {
    let mut stream = Key::new("pictures", split).stream(0);
    let labels: Vec<i64> = (0..count as i64).map(|place| place % 2).collect();
    let mut pixels = Vec::new();
    for &label in &labels {
        for _channel in 0..3 {
            for row in 0..8 {
                let bright = if (row < 4) == (label == 0) { 60 } else { 0 };
                pixels.extend((0..8).map(|_| (60 + bright + stream.below(80)) as u8));
            }
        }
    }
    Pictures { pixels, labels, size: 8 }
}

pub(crate) fn data() -> PreparedData {
    tch::set_num_threads(1);
    let data = TrainingData {
        train: pictures(70, "train"),
        valid: pictures(20, "valid"),
        test: pictures(30, "test"),
        classes: 2,
    };
    PreparedData::new(&data, Device::Cpu).unwrap()
}

pub(crate) fn recipe() -> Recipe {
    Recipe {
        epochs: 6,
        batch_size: 16,
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
        augmentation: Augmentation { horizontal_flip: true, crop_padding: 1 },
        ..Recipe::nas_bench_201()
    }
}

pub(crate) fn trained(cell: &str, recipe: &Recipe, unit: &str) -> TrainedUnit {
    let cell = cell.parse::<Cell>().unwrap();
    train(cell, recipe, &data(), unit, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Everything that must repeat, to the last bit.
pub(crate) fn numbers(unit: &TrainedUnit) -> (Vec<[u64; 5]>, Vec<Option<Figures>>, Vec<u8>) {
    let bits = |value: Option<f64>| value.map_or(0, f64::to_bits);
    let row = |row: &EpochRow| {
        let valid = (bits(row.valid_loss), bits(row.valid_accuracy));
        [
            row.learning_rate.to_bits(),
            row.train_loss.to_bits(),
            row.train_accuracy.to_bits(),
            valid.0,
            valid.1,
        ]
    };
    let figures = vec![unit.train, unit.valid, unit.test];
    (unit.curves.iter().map(row).collect(), figures, unit.network.to_safetensors().unwrap())
}

#[test]
fn a_network_learns_and_reports_every_epoch_and_each_split() {
    let unit = trained(CELL, &recipe(), "unit");
    assert_eq!(unit.status, Status::Completed);
    assert_eq!(unit.curves.iter().map(|row| row.epoch).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let last = unit.curves[5];
    assert!(last.train_loss < unit.curves[0].train_loss);
    assert_eq!(unit.train, Some(Figures { loss: last.train_loss, accuracy: last.train_accuracy }));
    let valid = unit.valid.unwrap();
    assert_eq!((Some(valid.loss), Some(valid.accuracy)), (last.valid_loss, last.valid_accuracy));
    assert!(valid.accuracy > 0.9 && unit.test.unwrap().accuracy > 0.9, "{valid:?} {:?}", unit.test);
    let seconds: f64 = unit.curves.iter().map(|row| row.seconds).sum();
    assert!((seconds - unit.train_seconds).abs() < 1e-9 && seconds > 0.0);
}

#[test]
fn a_unit_repeats_bit_for_bit_whatever_is_trained_beside_it() {
    let alone = numbers(&trained(CELL, &recipe(), "unit"));
    let (beside, companion) = std::thread::scope(|scope| {
        let companion = scope.spawn(|| numbers(&trained(ALWAYS_ZERO, &recipe(), "companion")));
        tch::manual_seed(7);
        let beside = numbers(&trained(CELL, &recipe(), "unit"));
        (beside, companion.join().unwrap())
    });
    assert!(alone == beside);
    assert!(alone != companion);
    let other = numbers(&trained(CELL, &recipe(), "another unit"));
    assert!(other.0[0] != alone.0[0], "the unit id keys all random numbers");
}

#[test]
fn a_training_in_bfloat16_repeats_learns_and_keeps_its_weights_in_float32() {
    let recipe = Recipe { precision: Precision::Bfloat16, ..recipe() };
    let unit = trained(CELL, &recipe, "unit");
    assert!(numbers(&unit) == numbers(&trained(CELL, &recipe, "unit")));
    assert!(
        numbers(&unit)
            != numbers(&trained(CELL, &Recipe { precision: Precision::Float32, ..recipe }, "unit"))
    );
    assert!(unit.valid.unwrap().accuracy > 0.9, "{:?}", unit.valid);
    for (name, tensor) in unit.network.parameters().iter().chain(unit.network.statistics()) {
        assert_eq!(tensor.kind(), Kind::Float, "{name}");
    }
}

#[test]
fn validation_follows_the_recipe_and_always_covers_the_last_epoch() {
    for (every, expected) in [(0, [false, false, true]), (2, [false, true, true]), (1, [true; 3])] {
        let recipe = Recipe { epochs: 3, validate_every: every, ..recipe() };
        let unit = trained(CELL, &recipe, "unit");
        let validated: Vec<bool> = unit.curves.iter().map(|row| row.valid_loss.is_some()).collect();
        assert_eq!(validated, expected, "every {every}");
        // Validating more often changes no other number.
        let rare = trained(CELL, &Recipe { validate_every: 0, ..recipe }, "unit");
        assert_eq!(rare.test, unit.test);
    }
    let after_the_first = Recipe { epochs: 3, validate_every: 0, validate_after: vec![1], ..recipe() };
    let unit = trained(CELL, &after_the_first, "unit");
    let validated: Vec<bool> = unit.curves.iter().map(|row| row.valid_loss.is_some()).collect();
    assert_eq!(validated, [true, false, true]);
}

#[test]
fn the_callback_stops_a_training_which_then_has_no_test_figures() {
    let cell = CELL.parse::<Cell>().unwrap();
    let recipe = Recipe { validate_every: 0, ..recipe() };
    let mut seen = 0;
    let mut stop_after_two = |row: EpochRow| {
        seen += 1;
        if row.epoch == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let unit = train(cell, &recipe, &data(), "unit", &mut stop_after_two).unwrap();
    assert_eq!((seen, unit.curves.len(), unit.status), (2, 2, Status::Stopped));
    assert!(unit.train.is_some() && unit.valid.is_some() && unit.test.is_none());

    let mut stop_at_the_end = |row: EpochRow| {
        if row.epoch + 1 == recipe.epochs { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let unit = train(cell, &recipe, &data(), "unit", &mut stop_at_the_end).unwrap();
    assert_eq!(unit.status, Status::Completed, "nothing was left to stop");
    assert!(unit.test.is_some());
}

#[test]
fn a_loss_that_is_not_finite_ends_the_training_as_diverged() {
    let recipe = Recipe { learning_rate: 1e30, ..recipe() };
    let unit = trained(CELL, &recipe, "unit");
    let Status::Diverged { epoch, reason } = &unit.status else { panic!("{:?}", unit.status) };
    assert_eq!(*epoch as usize, unit.curves.len());
    assert!(reason.contains("not finite"), "{reason}");
    assert_eq!((unit.train, unit.valid, unit.test), (None, None, None));
    assert!(unit.curves.iter().all(|row| row.train_loss.is_finite()));
}

#[test]
fn a_cell_that_passes_nothing_on_stays_at_chance() {
    let unit = trained(ALWAYS_ZERO, &recipe(), "unit");
    assert_eq!(unit.status, Status::Completed);
    assert!((unit.test.unwrap().accuracy - 0.5).abs() < 1e-9);
}

#[test]
fn pictures_of_another_size_than_the_recipes_are_refused() {
    let recipe = Recipe { image_size: 16, ..recipe() };
    let cell = CELL.parse::<Cell>().unwrap();
    let error = train(cell, &recipe, &data(), "unit", &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "`image_size` must be that of the pictures (8), got `16`");
}

#[test]
fn a_trained_network_gives_its_figures_again_with_the_data_sets_own_normalisation() {
    let unit = trained(CELL, &recipe(), "unit");
    let (data, test) = (data(), pictures(30, "test"));
    let mean = Tensor::from_slice(&data.mean()).reshape([1, 3, 1, 1]);
    let deviation = Tensor::from_slice(&data.deviation()).reshape([1, 3, 1, 1]);
    let pixels = Tensor::from_slice(&test.pixels).reshape([30, 3, 8, 8]).to_kind(tch::Kind::Double);
    let images = ((pixels - mean) / deviation).to_kind(tch::Kind::Float);
    let logits = unit.network.forward(&images, false).unwrap();
    let right = logits.argmax(1, false).eq_tensor(&Tensor::from_slice(&test.labels)).sum(tch::Kind::Int64);
    let accuracy = right.int64_value(&[]) as f64 / 30.0;
    assert!((accuracy - unit.test.unwrap().accuracy).abs() < 1e-9);
}

#[test]
fn fewer_pictures_at_once_change_the_figures_by_rounding_alone() {
    let recipe = Recipe { epochs: 2, ..recipe() };
    let data = data();
    let cell: Cell = CELL.parse().unwrap();
    let usual = trained(CELL, &recipe, "unit");
    for pictures in [1, 3, 16] {
        let mut training =
            Training::new(cell, &recipe, &data, "unit").unwrap().with_evaluation_batch(pictures);
        assert_eq!(training.evaluation_batch(), pictures);
        let unit = loop {
            match training.run(&mut Never).unwrap() {
                Run::Finished(unit) => break *unit,
                Run::Paused(paused) => training = *paused,
            }
        };
        assert_eq!(unit.network.to_safetensors().unwrap(), usual.network.to_safetensors().unwrap());
        for (one, other) in [(unit.valid, usual.valid), (unit.test, usual.test)] {
            let (one, other) = (one.unwrap(), other.unwrap());
            assert_eq!(one.accuracy.to_bits(), other.accuracy.to_bits(), "{pictures} at once");
            assert!((one.loss - other.loss).abs() < 1e-6, "{pictures} at once: {one:?}, {other:?}");
        }
    }
}

/// Lets every training run.
struct Never;

impl Observer for Never {
    fn epoch(&mut self, _row: EpochRow) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
