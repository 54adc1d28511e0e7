//! Trainings that are paused and go on.

use std::ops::ControlFlow;

use metad2a_networks::{
    EpochRow, Error, Observer, PreparedData, Recipe, Run, Status, TrainedUnit, Training, train,
};
use metad2a_search_space::Cell;

use crate::training::{CELL, data, numbers, recipe, trained};

/// Pauses after every so many batches; counts all of them.
struct Pause {
    every: u32,
    batches: u32,
    rows: Vec<EpochRow>,
}

impl Pause {
    fn every(every: u32) -> Self {
        Self { every, batches: 0, rows: Vec::new() }
    }
}

impl Observer for Pause {
    fn epoch(&mut self, row: EpochRow) -> ControlFlow<()> {
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    fn batch(&mut self) -> ControlFlow<()> {
        self.batches += 1;
        if self.batches.is_multiple_of(self.every) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn cell() -> Cell {
    CELL.parse().unwrap()
}

/// Every pause goes through bytes and a training made anew, as in another process.
fn trained_with_pauses(recipe: &Recipe, data: &PreparedData, pause: &mut Pause) -> (TrainedUnit, u32) {
    let mut training = Training::new(cell(), recipe, data, "unit").unwrap();
    let mut pauses = 0;
    loop {
        match training.run(pause).unwrap() {
            Run::Finished(unit) => return (*unit, pauses),
            Run::Paused(paused) => {
                pauses += 1;
                let checkpoint = paused.to_checkpoint().unwrap();
                training = Training::resume(cell(), recipe, data, "unit", &checkpoint).unwrap();
            }
        }
    }
}

fn checkpoint_after(batches: u32) -> Vec<u8> {
    let data = data();
    let training = Training::new(cell(), &recipe(), &data, "unit").unwrap();
    match training.run(&mut Pause::every(batches)).unwrap() {
        Run::Paused(paused) => paused.to_checkpoint().unwrap(),
        Run::Finished(_) => panic!("the training is longer than {batches} batches"),
    }
}

#[test]
fn a_training_paused_after_any_batch_ends_bit_for_bit_like_an_uninterrupted_one() {
    // Validated after every epoch, and in the last one only.
    for validate_every in [1, 0] {
        let recipe = Recipe { validate_every, epochs: 3, ..recipe() };
        let calm = trained(CELL, &recipe, "unit");
        let data = data();
        // 5 batches of training an epoch, one of validation, one of test pictures.
        for every in [1, 2, 3, 7] {
            let mut pause = Pause::every(every);
            let (unit, pauses) = trained_with_pauses(&recipe, &data, &mut pause);
            assert!(numbers(&unit) == numbers(&calm), "paused after every {every} batches");
            assert_eq!(unit.status, Status::Completed);
            assert_eq!(pauses, pause.batches / every);
            assert_eq!(pause.rows, unit.curves, "no epoch is reported twice");
        }
    }
}

#[test]
fn pauses_fall_inside_epochs_and_inside_figures() {
    let data = data();
    let recipe = Recipe { validate_every: 1, epochs: 2, ..recipe() };
    let mut pause = Pause::every(1);
    trained_with_pauses(&recipe, &data, &mut pause);
    // After each of 2 × (5 training + 1 validation) + 1 test batches but the last.
    assert_eq!(pause.batches, 12);
}

/// Pauses after the second epoch's last batch, which training batches, 5 an epoch, and validations make.
fn paused_after_two_epochs<'a>(recipe: &Recipe, data: &'a PreparedData, batches: u32) -> Training<'a> {
    let training = Training::new(cell(), recipe, data, "unit").unwrap();
    match training.run(&mut Pause::every(batches)).unwrap() {
        Run::Paused(paused) => *paused,
        Run::Finished(_) => panic!("the training is longer than {batches} batches"),
    }
}

#[test]
fn a_training_that_is_stopped_while_it_is_paused_is_one_that_its_observer_stopped_there() {
    for (validate_every, batches) in [(0, 10), (1, 12)] {
        let (recipe, data) = (Recipe { validate_every, ..recipe() }, data());
        let mut after_two = |row: EpochRow| {
            if row.epoch == 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let expected = train(cell(), &recipe, &data, "unit", &mut after_two).unwrap();
        let paused = paused_after_two_epochs(&recipe, &data, batches);
        assert_eq!(paused.curves().len(), 2);
        let checkpoint = paused.to_checkpoint().unwrap();
        let stopped =
            Training::resume(cell(), &recipe, &data, "unit", &checkpoint).unwrap().stopped().unwrap();
        assert!(numbers(&stopped) == numbers(&expected));
        assert_eq!(stopped.status, Status::Stopped);
    }
}

#[test]
fn a_training_is_stopped_between_two_epochs_only() {
    let (recipe, data) = (Recipe { validate_every: 0, ..recipe() }, data());
    let new = Training::new(cell(), &recipe, &data, "unit").unwrap();
    for training in [new, paused_after_two_epochs(&recipe, &data, 9)] {
        let error = training.stopped().unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}

#[test]
fn a_loss_that_grows_beyond_all_numbers_survives_a_pause() {
    let recipe = Recipe { learning_rate: 1e30, ..recipe() };
    let calm = trained(CELL, &recipe, "unit");
    let data = data();
    let (unit, pauses) = trained_with_pauses(&recipe, &data, &mut Pause::every(1));
    assert!(pauses > 0);
    assert!(matches!(unit.status, Status::Diverged { .. }), "{:?}", unit.status);
    assert_eq!((unit.status, unit.curves.len()), (calm.status, calm.curves.len()));
}

#[test]
fn a_checkpoint_is_the_same_whoever_makes_it() {
    let without_seconds = |bytes: Vec<u8>| {
        // The tensors follow the header, whose length is its first eight bytes.
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[8 + header..].to_vec()
    };
    assert_eq!(without_seconds(checkpoint_after(7)), without_seconds(checkpoint_after(7)));
    assert_ne!(without_seconds(checkpoint_after(7)), without_seconds(checkpoint_after(8)));
}

#[test]
fn a_foreign_or_damaged_checkpoint_is_refused_and_says_why() {
    let checkpoint = checkpoint_after(7);
    let data = data();
    let refused = |cell: &str, recipe: &Recipe, unit: &str, bytes: &[u8]| {
        let Err(error) = Training::resume(cell.parse().unwrap(), recipe, &data, unit, bytes) else {
            panic!("it was taken")
        };
        let text = error.to_string();
        assert!(matches!(error, Error::Checkpoint { .. }), "{text}");
        assert!(text.starts_with("the checkpoint does not fit the training of unit"), "{text}");
        text
    };
    assert!(refused(CELL, &recipe(), "another", &checkpoint).contains("it is of Basis"));
    let other = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|";
    assert!(refused(other, &recipe(), "unit", &checkpoint).contains("it is of Basis"));
    let longer = Recipe { epochs: 9, ..recipe() };
    assert!(refused(CELL, &longer, "unit", &checkpoint).contains("epochs: 6"));
    refused(CELL, &recipe(), "unit", b"nothing");
    refused(CELL, &recipe(), "unit", &checkpoint[..checkpoint.len() - 5]);
    let network = trained(CELL, &Recipe { epochs: 1, ..recipe() }, "unit").network.to_safetensors().unwrap();
    assert!(!refused(CELL, &recipe(), "unit", &network).is_empty());

    // Of equal length, so that the rest of the file stays where it is.
    let changed = |from: &str, to: &str| {
        let mut bytes = checkpoint.clone();
        let place = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let form = changed(r#"{\"version\":1"#, r#"{\"version\":9"#);
    assert!(refused(CELL, &recipe(), "unit", &form).contains("form 9"));
    let nowhere = changed(r#"\"place\":{\"epoch\":1"#, r#"\"place\":{\"epoch\":4"#);
    assert!(refused(CELL, &recipe(), "unit", &nowhere).contains("no training is at"));
    let renamed = changed("velocity", "velosity");
    assert!(refused(CELL, &recipe(), "unit", &renamed).contains("velocity"));
    let stranger = changed("network.stem.0.weight", "network.stem.0.wei_ht");
    assert!(refused(CELL, &recipe(), "unit", &stranger).contains("stem.0.weight"));
}
