//! Training learns, and can be cut at any step.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use crate::fixture::{WIDTH, episodes, small, world};
use metad2a_model::{
    Adam, CellForm, Drawing, EpisodeConfig, Error, Generator, GeneratorValidation, GraphBatch, ModelConfig,
    Predictor, TrainingMetrics, TrainingSet, train_generator, train_predictor, validate_generator,
    validate_predictor,
};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;

fn weights() -> Key {
    Key::new("test", "weights")
}

fn batches() -> Key {
    Key::new("test", "batches")
}

fn continue_always(_: u64, _: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A model and an optimiser as bytes.
type State = (Vec<u8>, Vec<u8>);

/// Trains from a state, or from the start, and stores the state again.
trait Learner {
    fn train(&self, from: Option<&State>, first: u64, steps: u64) -> (State, TrainingMetrics);
}

struct Setting {
    model: ModelConfig,
    episodes: EpisodeConfig,
    data: TrainingSet,
}

struct OfGenerator(Setting);
struct OfPredictor(Setting);

impl Learner for OfGenerator {
    fn train(&self, from: Option<&State>, first: u64, steps: u64) -> (State, TrainingMetrics) {
        let Setting { model, episodes, data } = &self.0;
        let generator = match from {
            None => Generator::new(model, &weights()),
            Some((stored, _)) => Generator::load(model, stored),
        }
        .expect("a generator");
        let mut adam = match from {
            None => Adam::new(generator.parameters(), episodes.adam()),
            Some((_, stored)) => Adam::load(generator.parameters(), episodes.adam(), stored),
        }
        .expect("an optimiser");
        let observer = &mut continue_always;
        let done = train_generator(&generator, &mut adam, data, episodes, &batches(), first, steps, observer);
        let state = (generator.to_safetensors().expect("bytes"), adam.to_safetensors().expect("bytes"));
        (state, done.expect("it trains"))
    }
}

impl Learner for OfPredictor {
    fn train(&self, from: Option<&State>, first: u64, steps: u64) -> (State, TrainingMetrics) {
        let Setting { model, episodes, data } = &self.0;
        let mut predictor = match from {
            None => Predictor::new(model, &weights()),
            Some((stored, _)) => Predictor::load(model, stored),
        }
        .expect("a predictor");
        let mut adam = match from {
            None => Adam::new(predictor.parameters(), episodes.adam()),
            Some((_, stored)) => Adam::load(predictor.parameters(), episodes.adam(), stored),
        }
        .expect("an optimiser");
        let observer = &mut continue_always;
        let done =
            train_predictor(&mut predictor, &mut adam, data, episodes, &batches(), first, steps, observer);
        let state = (predictor.to_safetensors().expect("bytes"), adam.to_safetensors().expect("bytes"));
        (state, done.expect("it trains"))
    }
}

fn learners() -> Vec<Box<dyn Learner>> {
    let setting = |model: ModelConfig, usual: EpisodeConfig| Setting {
        model: small(model),
        episodes: episodes(usual),
        data: world(5, 8),
    };
    vec![
        Box::new(OfGenerator(setting(ModelConfig::paper_generator(WIDTH), EpisodeConfig::paper()))),
        Box::new(OfGenerator(setting(ModelConfig::default_generator(WIDTH), EpisodeConfig::default()))),
        Box::new(OfPredictor(setting(ModelConfig::paper_predictor(WIDTH), EpisodeConfig::paper()))),
        Box::new(OfPredictor(setting(ModelConfig::default_predictor(WIDTH), EpisodeConfig::default()))),
    ]
}

#[test]
fn a_training_cut_at_any_step_ends_bit_for_bit_like_an_uninterrupted_one() {
    tch::set_num_threads(1);
    for learner in learners() {
        let (whole, _) = learner.train(None, 0, 4);
        for cut in 1..4 {
            let (first, _) = learner.train(None, 0, cut);
            let (second, metrics) = learner.train(Some(&first), cut, 4 - cut);
            assert_eq!(metrics.steps, 4 - cut);
            assert!(second == whole, "cut after step {cut}");
        }
        // The steps differ: the comparison above is not one of constants.
        assert!(learner.train(None, 0, 3).0 != whole);
        assert!(learner.train(None, 1, 4).0 != whole);
    }
}

#[test]
fn every_step_draws_a_batch_of_its_own() {
    tch::set_num_threads(1);
    for learner in learners() {
        for step in 0..3 {
            assert!(learner.train(None, step, 1).0 != learner.train(None, step + 1, 1).0, "step {step}");
        }
    }
}

#[test]
fn the_generators_codes_are_drawn_with_noise() {
    let train = |noise| {
        OfGenerator(Setting {
            model: small(ModelConfig::paper_generator(WIDTH)),
            episodes: EpisodeConfig { noise, ..episodes(EpisodeConfig::paper()) },
            data: world(2, 4),
        })
        .train(None, 0, 1)
    };
    assert!(train(0.0).0 != train(1.0).0);
}

#[test]
fn a_predictor_keeps_the_scale_of_its_first_data_and_the_paper_divides_by_a_hundred_again() {
    let (data, other) = (world(2, 8), world(4, 3));
    let mean = data.rows.iter().map(|row| row.target).sum::<f64>() / data.rows.len() as f64;
    let squares: f64 = data.rows.iter().map(|row| (row.target - mean).powi(2)).sum();
    let spread = (squares / (data.rows.len() - 1) as f64).sqrt();
    for (usual, factor) in [(EpisodeConfig::default(), 1.0), (EpisodeConfig::paper(), 100.0)] {
        let config = episodes(usual);
        let mut predictor =
            Predictor::new(&small(ModelConfig::paper_predictor(WIDTH)), &weights()).expect("a predictor");
        let mut adam = Adam::new(predictor.parameters(), config.adam()).expect("an optimiser");
        for data in [&data, &other] {
            let observer = &mut continue_always;
            train_predictor(&mut predictor, &mut adam, data, &config, &batches(), 0, 0, observer)
                .expect("no step");
            let scale = predictor.target_scale().expect("the first data's");
            assert!((scale.mean - mean).abs() < 1e-12);
            assert!((scale.scale - factor * spread).abs() < 1e-9);
        }
        let stored = predictor.to_safetensors().expect("bytes");
        let loaded = Predictor::load(predictor.config(), &stored).expect("a predictor");
        assert_eq!(loaded.target_scale(), predictor.target_scale());
    }
}

#[test]
fn only_unknown_cells_are_new() {
    let data = world(2, 4);
    let generator =
        Generator::new(&small(ModelConfig::default_generator(WIDTH)), &weights()).expect("a generator");
    let settings = GeneratorValidation { graphs_per_dataset: 20, images_per_class: 3, ..Default::default() };
    let novelty = |known: &HashSet<Cell>| {
        let found = validate_generator(&generator, &data, known, &settings, &batches()).expect("metrics");
        found.novelty
    };
    let found =
        validate_generator(&generator, &data, &HashSet::new(), &settings, &batches()).expect("metrics");
    let ids: Vec<&String> = found.nll_by_dataset.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, data.datasets.iter().map(|dataset| &dataset.id).collect::<Vec<_>>());
    // Every dataset has as many cells among its best, so the mean over graphs is that over datasets.
    let mean = found.nll_by_dataset.iter().map(|(_, nll)| nll).sum::<f64>() / ids.len() as f64;
    assert!((mean - found.nll_per_graph).abs() < 1e-9, "{found:?}");
    assert!((novelty(&HashSet::new()) - 1.0).abs() < 1e-12);
    assert!(novelty(&Cell::all().collect()).abs() < 1e-12);
}

#[test]
fn every_learner_gets_better() {
    tch::set_num_threads(1);
    for learner in learners() {
        let (start, before) = learner.train(None, 0, 5);
        let (later, _) = learner.train(Some(&start), 5, 60);
        let (_, after) = learner.train(Some(&later), 65, 5);
        let (before, after) = (before.mean_loss, after.mean_loss);
        assert!(after < 0.9 * before, "{before} to {after}");
    }
}

#[test]
fn a_trained_predictor_ranks_cells_and_speaks_in_accuracies() {
    tch::set_num_threads(1);
    let data = world(6, 60);
    let config = episodes(EpisodeConfig::default());
    let mut predictor =
        Predictor::new(&small(ModelConfig::default_predictor(WIDTH)), &weights()).expect("a predictor");
    let mut adam = Adam::new(predictor.parameters(), config.adam()).expect("an optimiser");
    let observer = &mut continue_always;
    train_predictor(&mut predictor, &mut adam, &data, &config, &batches(), 0, 250, observer)
        .expect("trained");
    let stored = predictor.to_safetensors().expect("bytes");
    let predictor = Predictor::load(predictor.config(), &stored).expect("a predictor");
    let held_out = TrainingSet { datasets: data.datasets.clone(), rows: world(6, 100).rows[300..].to_vec() };
    let metrics = validate_predictor(&predictor, &held_out, &config, &Key::new("v", "v")).expect("metrics");
    assert!(!metrics.is_empty());
    for dataset in metrics {
        assert!(dataset.spearman > 0.8 && dataset.kendall > 0.6 && dataset.pearson > 0.8, "{dataset:?}");
        assert!(dataset.rmse < 0.06, "{dataset:?}");
    }
}

#[test]
fn a_long_training_on_few_datasets_of_large_features_still_tells_cells_apart() {
    tch::set_num_threads(1);
    let mut data = world(3, 12);
    for dataset in &mut data.datasets {
        for class in &mut dataset.classes {
            let pictures = class.iter().map(|picture| picture.iter().map(|x| 20.0 * x).collect());
            *class = std::sync::Arc::new(pictures.collect());
        }
    }
    let config = episodes(EpisodeConfig::default());
    let mut predictor =
        Predictor::new(&small(ModelConfig::default_predictor(WIDTH)), &weights()).expect("a predictor");
    let mut adam = Adam::new(predictor.parameters(), config.adam()).expect("an optimiser");
    let observer = &mut continue_always;
    train_predictor(&mut predictor, &mut adam, &data, &config, &batches(), 0, 400, observer)
        .expect("trained");
    let metrics = validate_predictor(&predictor, &data, &config, &Key::new("v", "v")).expect("metrics");
    for dataset in metrics {
        assert!(dataset.spearman > 0.5, "{dataset:?}");
    }
}

#[test]
fn a_trained_generator_draws_the_best_cells() {
    tch::set_num_threads(1);
    let data = world(3, 30);
    let mut config = episodes(EpisodeConfig::default());
    config.top_fraction = 0.1;
    // As written, so that a drawn cell's probability is the cell's own and not its class's.
    let shape = ModelConfig { cells: CellForm::AsWritten, ..ModelConfig::default_generator(WIDTH) };
    let generator = Generator::new(&small(shape), &weights()).expect("a generator");
    let mut adam = Adam::new(generator.parameters(), config.adam()).expect("an optimiser");
    let settings = GeneratorValidation {
        top_fraction: 0.1,
        images_per_class: 3,
        classes_per_dataset: 4,
        graphs_per_dataset: 50,
    };
    let known: HashSet<_> = data.rows.iter().map(|row| row.cell).collect();
    let key = Key::new("v", "v");
    let before = validate_generator(&generator, &data, &known, &settings, &key).expect("metrics");
    assert!((before.nll_per_graph - 6.0 * 5_f64.ln()).abs() < 1.0, "{before:?}");
    let observer = &mut continue_always;
    train_generator(&generator, &mut adam, &data, &config, &batches(), 0, 150, observer).expect("trained");
    let after = validate_generator(&generator, &data, &known, &settings, &key).expect("metrics");
    // Three cells per dataset: at best ln 3.
    assert!(after.nll_per_graph < 4.0, "{after:?}");
    assert!((after.validity - 1.0).abs() < 1e-12, "{after:?}");
    assert!(after.uniqueness < before.uniqueness && after.novelty <= 1.0, "{before:?} {after:?}");

    // Cells are drawn as often as their loss says.
    let code = tch::Tensor::zeros([1, 16], (tch::Kind::Float, tch::Device::Cpu));
    let mut random = Key::new("test", "frequencies").stream(0);
    let decoded =
        generator.decode(&code.expand([2000, 16], false), Drawing::Random(&mut random)).expect("graphs");
    let mut counts = HashMap::new();
    for cell in decoded.cells().expect("cells") {
        *counts.entry(cell.expect("every graph is valid")).or_insert(0) += 1;
    }
    let (cell, count) = counts.into_iter().max_by_key(|(_, count)| *count).expect("cells were drawn");
    assert!(count > 100, "one of few cells is drawn often, but {cell} only {count} times");
    let graph = GraphBatch::of_cells(&[cell], generator.config(), tch::Device::Cpu).expect("a graph");
    let loss = generator.loss(&code, &code, None, &graph, 1.0).expect("a loss");
    let probability = (-loss.reconstruction.double_value(&[])).exp();
    assert!((f64::from(count) / 2000.0 - probability).abs() < 0.04, "{count} of 2000, but {probability}");
}

#[test]
fn the_observer_stops_a_training_after_its_step() {
    let data = world(2, 4);
    let config = episodes(EpisodeConfig::paper());
    let generator =
        Generator::new(&small(ModelConfig::paper_generator(WIDTH)), &weights()).expect("a generator");
    let mut adam = Adam::new(generator.parameters(), config.adam()).expect("an optimiser");
    let mut seen = Vec::new();
    let observer = &mut |step, _| {
        seen.push(step);
        if step == 12 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let done = train_generator(&generator, &mut adam, &data, &config, &batches(), 10, 20, observer);
    assert_eq!(done.expect("it trains").steps, 3);
    assert_eq!(seen, [10, 11, 12]);
    assert_eq!(adam.steps_taken(), 3);
}

#[test]
fn data_that_cannot_be_learnt_from_is_refused_by_name() {
    let config = episodes(EpisodeConfig::default());
    let refused = |data: &TrainingSet| {
        let mut predictor =
            Predictor::new(&small(ModelConfig::default_predictor(WIDTH)), &weights()).expect("a predictor");
        let mut adam = Adam::new(predictor.parameters(), config.adam()).expect("an optimiser");
        let observer = &mut continue_always;
        train_predictor(&mut predictor, &mut adam, data, &config, &batches(), 0, 1, observer)
            .expect_err("bad data")
            .to_string()
    };
    let mut data = world(2, 4);
    data.rows[0].target = f64::NAN;
    assert!(refused(&data).contains("`d0`"));
    let mut data = world(2, 4);
    data.datasets[1].classes[1] = std::sync::Arc::new(vec![vec![0.0; 3]]);
    assert!(refused(&data).contains("picture 0 of class 1 has 3 features"));
    let mut data = world(2, 4);
    data.datasets[1].classes.clear();
    assert!(refused(&data).contains("`d1`"));
    let mut data = world(2, 4);
    data.rows[0].dataset = 9;
    assert!(refused(&data).contains("`9`"));
    let mut data = world(2, 4);
    data.rows.clear();
    assert!(refused(&data).contains("no dataset has a row"));
}

#[test]
fn a_model_of_another_configuration_is_refused() {
    let config = small(ModelConfig::default_predictor(WIDTH));
    let stored = Predictor::new(&config, &weights()).and_then(|model| model.to_safetensors()).expect("bytes");
    let other = ModelConfig { graph: metad2a_model::GraphForm::Constant, ..config };
    assert!(matches!(Predictor::load(&other, &stored), Err(Error::Checkpoint { file: "predictor", .. })));
    assert!(matches!(Generator::load(&other, b"nothing"), Err(Error::Checkpoint { file: "generator", .. })));
}
