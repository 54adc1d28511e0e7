//! The search keeps its promises whatever the models think: untrained ones will do.

use std::collections::{HashMap, HashSet};

use crate::fixture::{WIDTH, datasets, small};
use metad2a_model::{
    Drawing, Generator, ModelConfig, Predictor, Proposal, SearchConfig, SetBatch, propose, propose_where,
};
use metad2a_randomness::Key;
use metad2a_search_space::{Cell, Operation};

fn models(paper: bool) -> (Generator, Predictor) {
    let (generator, predictor) = if paper {
        (ModelConfig::paper_generator(WIDTH), ModelConfig::paper_predictor(WIDTH))
    } else {
        (ModelConfig::default_generator(WIDTH), ModelConfig::default_predictor(WIDTH))
    };
    let key = Key::new("search", "weights");
    let generator = Generator::new(&small(generator), &key).expect("a generator");
    (generator, Predictor::new(&small(predictor), &key).expect("a predictor"))
}

fn config() -> SearchConfig {
    SearchConfig {
        candidates: 30,
        sets: 3,
        images_per_class: 3,
        classes_per_dataset: 3,
        max_draws: 400,
        draws_per_round: 40,
        sets_per_round: 2,
    }
}

fn search(paper: bool, config: &SearchConfig, accept: &dyn Fn(Cell) -> bool) -> Proposal {
    let (generator, predictor) = models(paper);
    let key = Key::new("search", "draws");
    propose_where(&generator, &predictor, &datasets(1)[0], config, &key, accept).expect("a proposal")
}

#[test]
fn candidates_are_distinct_representatives_best_first() {
    tch::set_num_threads(1);
    for paper in [false, true] {
        let found = search(paper, &config(), &|_| true);
        let cells: HashSet<Cell> = found.candidates.iter().map(|candidate| candidate.cell).collect();
        assert_eq!(cells.len(), found.candidates.len());
        for (place, candidate) in found.candidates.iter().enumerate() {
            assert_eq!(candidate.cell, candidate.cell.representative());
            assert!(!candidate.cell.is_always_zero());
            assert_eq!(candidate.rank as usize, place + 1);
            assert!(candidate.predicted_sd > 0.0);
        }
        assert!(found.candidates.is_sorted_by(|a, b| a.predicted >= b.predicted));
        assert!(found.canonical <= found.distinct && found.distinct <= found.valid, "{found:?}");
        assert!(found.valid <= found.drawn && found.drawn <= 400);
    }
    assert_eq!(search(false, &config(), &|_| true).candidates.len(), 30);
}

#[test]
fn only_accepted_cells_are_proposed_and_their_scores_do_not_depend_on_the_others() {
    tch::set_num_threads(1);
    let all = search(false, &SearchConfig { candidates: 1000, ..config() }, &|_| true);
    let scores: HashMap<Cell, f64> =
        all.candidates.iter().map(|found| (found.cell, found.predicted)).collect();
    let accept = |cell: Cell| cell.operations()[0] == Operation::NorConv3x3;
    let some = search(false, &SearchConfig { candidates: 1000, ..config() }, &accept);
    assert!(!some.candidates.is_empty() && some.candidates.len() < all.candidates.len());
    for candidate in some.candidates {
        assert!(accept(candidate.cell));
        assert!((scores[&candidate.cell] - candidate.predicted).abs() < 1e-6);
    }
}

#[test]
fn too_few_draws_give_what_there_is() {
    let found = search(false, &SearchConfig { max_draws: 7, ..config() }, &|_| true);
    assert_eq!(found.drawn, 7);
    assert!(found.candidates.len() <= 7 && !found.candidates.is_empty());
    let nothing = search(false, &config(), &|_| false);
    assert_eq!((nothing.candidates.len(), nothing.drawn), (0, 400));
}

#[test]
fn every_round_draws_anew_and_cells_that_ignore_their_input_are_left_out() {
    tch::set_num_threads(1);
    let asked = SearchConfig { candidates: 10_000, max_draws: 2000, ..config() };
    let found = search(false, &asked, &|_| true);
    assert!(found.distinct > 10 * asked.draws_per_round, "{} of {}", found.distinct, found.drawn);
    assert!(found.candidates.iter().all(|candidate| !candidate.cell.is_always_zero()));
    assert!(found.candidates.len() < found.canonical, "the draws held a cell that ignores its input");
}

#[test]
fn the_same_key_gives_the_same_proposal_and_another_key_another() {
    tch::set_num_threads(1);
    let (generator, predictor) = models(false);
    let dataset = &datasets(1)[0];
    let run = |purpose| {
        propose(&generator, &predictor, dataset, &config(), &Key::new("search", purpose)).expect("a proposal")
    };
    assert_eq!(run("a"), run("a"));
    assert_ne!(run("a"), run("b"));
}

#[test]
fn the_spread_over_one_picture_set_is_zero() {
    let found = search(false, &SearchConfig { sets: 1, ..config() }, &|_| true);
    assert!(found.candidates.iter().all(|candidate| candidate.predicted_sd.abs() < 1e-12));
}

#[test]
fn the_default_model_sees_no_difference_between_cells_that_train_alike() {
    tch::set_num_threads(1);
    let (_, predictor) = models(false);
    let pictures = tch::Tensor::ones([1, 2, 3, WIDTH], (tch::Kind::Float, tch::Device::Cpu));
    let sets = SetBatch::of_tensor(&pictures).expect("a set");
    let cells: Vec<Cell> = Cell::all().step_by(977).collect();
    let twins: Vec<Cell> = cells.iter().map(|cell| cell.representative()).collect();
    assert_ne!(cells, twins);
    let (one, other) = (predictor.predict(&sets, &cells), predictor.predict(&sets, &twins));
    assert_eq!(one.expect("predictions"), other.expect("predictions"));
}

#[test]
fn drawing_at_random_follows_the_probabilities() {
    tch::set_num_threads(1);
    let (generator, _) = models(false);
    let count = 4000;
    let codes = tch::Tensor::zeros([count, 16], (tch::Kind::Float, tch::Device::Cpu));
    let mut random = Key::new("search", "frequencies").stream(0);
    let decoded = generator.decode(&codes, Drawing::Random(&mut random)).expect("graphs");
    // All graphs share the code, so the first operation's frequencies are the softmax of one row of logits; greedy
    // drawing takes its largest.
    let greedy = generator.decode(&codes, Drawing::Greedy).expect("graphs");
    let counts = decoded.types.select(1, 1).bincount::<tch::Tensor>(None, 7);
    assert_eq!(counts.int64_value(&[0]) + counts.int64_value(&[1]), 0);
    assert_eq!(counts.argmax(0, false).int64_value(&[]), greedy.types.int64_value(&[0, 1]));
    assert!((2..7).all(|kind| counts.int64_value(&[kind]) > count / 20), "{counts:?}");
}
