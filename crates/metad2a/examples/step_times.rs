//! How much processor time training steps and a search take, on one thread:
//! `cargo run --release -p metad2a-model --example step_times`. Linux only.

use std::ops::ControlFlow;
use std::sync::Arc;

use metad2a_model::{
    Adam, DatasetFeatures, EpisodeConfig, Generator, ModelConfig, Predictor, Row, SearchConfig, TrainingSet,
    propose, train_generator, train_predictor,
};
use metad2a_randomness::Key;
use metad2a_search_space::Cell;

const WIDTH: i64 = 1280;

/// Time that this thread has spent on a processor, in milliseconds: other programs do not count.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells");
    let nanoseconds = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
    nanoseconds.expect("a number") as f64 / 1e6
}

fn world() -> TrainingSet {
    let mut random = Key::new("speed", "pictures").stream(0);
    let classes: Vec<Arc<Vec<Vec<f32>>>> = (0..40)
        .map(|_| {
            let picture = |_| (0..WIDTH).map(|_| random.uniform() as f32).collect();
            Arc::new((0..20).map(picture).collect())
        })
        .collect();
    let datasets = (0..50)
        .map(|place| DatasetFeatures { id: place.to_string(), classes: random.sample(&classes, 20) })
        .collect();
    let cells: Vec<Cell> = Cell::all().collect();
    let rows = (0..800)
        .map(|row| Row { dataset: row % 50, cell: random.sample(&cells, 1)[0], target: random.uniform() })
        .collect();
    TrainingSet { datasets, rows }
}

#[expect(clippy::print_stdout, reason = "its whole purpose")]
fn main() {
    const STEPS: u64 = 10;
    tch::set_num_threads(1);
    let data = world();
    let key = Key::new("speed", "batches");
    let observer = &mut |_, _| ControlFlow::Continue(());
    let wide = ModelConfig { hidden: 512, ..ModelConfig::default_predictor(WIDTH) };
    for (name, config, episodes) in [
        ("generator, default", ModelConfig::default_generator(WIDTH), EpisodeConfig::default()),
        ("generator, paper", ModelConfig::paper_generator(WIDTH), EpisodeConfig::paper()),
    ] {
        let generator = Generator::new(&config, &key).expect("a generator");
        let mut adam = Adam::new(generator.parameters(), episodes.adam()).expect("an optimiser");
        let mut train = |first, steps| {
            train_generator(&generator, &mut adam, &data, &episodes, &key, first, steps, observer)
                .expect("it trains");
        };
        train(0, 2);
        let start = spent();
        train(2, STEPS);
        println!("{name}: {:.1} ms", (spent() - start) / STEPS as f64);
    }
    for (name, config, episodes) in [
        ("predictor, default, hidden 128", ModelConfig::default_predictor(WIDTH), EpisodeConfig::default()),
        ("predictor, default, hidden 512", wide, EpisodeConfig::default()),
        ("predictor, paper", ModelConfig::paper_predictor(WIDTH), EpisodeConfig::paper()),
    ] {
        let mut predictor = Predictor::new(&config, &key).expect("a predictor");
        let mut adam = Adam::new(predictor.parameters(), episodes.adam()).expect("an optimiser");
        let mut train = |first, steps| {
            train_predictor(&mut predictor, &mut adam, &data, &episodes, &key, first, steps, observer)
                .expect("it trains");
        };
        train(0, 2);
        let start = spent();
        train(2, STEPS);
        println!("{name}: {:.1} ms", (spent() - start) / STEPS as f64);
    }
    let generator = Generator::new(&ModelConfig::default_generator(WIDTH), &key).expect("a generator");
    let predictor = Predictor::new(&ModelConfig::default_predictor(WIDTH), &key).expect("a predictor");
    let start = spent();
    let found = propose(&generator, &predictor, &data.datasets[0], &SearchConfig::default(), &key);
    let found = found.expect("a proposal").candidates.len();
    println!("propose {found}: {:.0} ms", spent() - start);
}
