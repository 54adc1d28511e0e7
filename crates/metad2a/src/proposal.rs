//! The search: cells drawn for a dataset, scored and ranked.
//!
//! ```text
//!   rounds of: picture sets ─► codes ─► graphs ─► valid cells ─► representatives ─► accepted ones   (until enough)
//!   then once: picture sets × all candidates ─► predictions ─► mean and spread over the sets ─► rank
//! ```
//!
//! All candidates are scored on the same picture sets: their order does not depend on who saw which pictures, and each
//! set is encoded once.
//!
//! A search may be broken off between two rounds; its [`Draws`] go on elsewhere to the same proposal.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};

use crate::batches::{SetSize, draw_sets};
use crate::data::DatasetFeatures;
use crate::error::{Error, Result, require};
use crate::generator::{Drawing, Generator};
use crate::metrics::{mean, standard_deviation};
use crate::predictor::Predictor;
use crate::validation::repeated;

/// How a dataset is searched for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Candidates wanted.
    pub candidates: usize,
    /// Picture sets over which a prediction is averaged.
    pub sets: usize,
    /// Pictures drawn of each class.
    pub images_per_class: usize,
    /// The most classes drawn of the dataset.
    pub classes_per_dataset: usize,
    /// Graphs drawn at most.
    pub max_draws: usize,
    /// Graphs drawn in one batch.
    pub draws_per_round: usize,
    /// Fresh picture sets for each of these batches. As many as graphs is the published protocol.
    pub sets_per_round: usize,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            candidates: 500,
            sets: 10,
            images_per_class: 20,
            classes_per_dataset: 20,
            max_draws: 20_000,
            draws_per_round: 500,
            sets_per_round: 10,
        }
    }
}

impl SearchConfig {
    /// Checks the counts.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("candidates", self.candidates),
            ("sets", self.sets),
            ("images_per_class", self.images_per_class),
            ("classes_per_dataset", self.classes_per_dataset),
            ("max_draws", self.max_draws),
            ("draws_per_round", self.draws_per_round),
            ("sets_per_round", self.sets_per_round),
        ];
        for (what, count) in counts {
            require((1..=1_000_000).contains(&count), what, &count, "it must be 1 to 1000000")?;
        }
        Ok(())
    }
}

/// A proposed cell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The representative of its canonical class.
    pub cell: Cell,
    /// Mean of the predicted accuracies over the picture sets.
    pub predicted: f64,
    /// Their standard deviation (n - 1); 0 for one set.
    pub predicted_sd: f64,
    /// 1 is the best.
    pub rank: u32,
}

/// The outcome of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Best first. Fewer than asked for where `max_draws` did not yield enough.
    pub candidates: Vec<Candidate>,
    /// Graphs drawn.
    pub drawn: usize,
    /// Valid ones among them.
    pub valid: usize,
    /// Distinct cells among these.
    pub distinct: usize,
    /// Canonical classes among these, whether proposed or not.
    pub canonical: usize,
}

/// The best cells for a dataset.
pub fn propose(
    generator: &Generator,
    predictor: &Predictor,
    dataset: &DatasetFeatures,
    config: &SearchConfig,
    key: &Key,
) -> Result<Proposal> {
    propose_where(generator, predictor, dataset, config, key, &|_| true)
}

/// The best cells for a dataset among those that `accept` takes. It is asked about representatives, once each. Cells
/// that ignore their input are never proposed.
pub fn propose_where(
    generator: &Generator,
    predictor: &Predictor,
    dataset: &DatasetFeatures,
    config: &SearchConfig,
    key: &Key,
    accept: &dyn Fn(Cell) -> bool,
) -> Result<Proposal> {
    let mut draws = Draws::default();
    let search = Proposing { generator, predictor, dataset, config, key, accept };
    search.draw(&mut draws, &mut |_| ControlFlow::Continue(()))?;
    search.rank(draws)
}

/// What the rounds so far have drawn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draws {
    rounds: u64,
    drawn: usize,
    valid: usize,
    distinct: BTreeSet<Cell>,
    /// Accepted representatives, in the order of their first appearance.
    cells: Vec<Cell>,
}

impl Draws {
    /// Candidates so far.
    pub fn candidates(&self) -> usize {
        self.cells.len()
    }

    /// Classes that were drawn already, proposed or not.
    fn canonical(&self) -> HashSet<Cell> {
        self.distinct.iter().map(|cell| cell.representative()).collect()
    }

    fn suffice(&self, config: &SearchConfig) -> bool {
        self.cells.len() >= config.candidates || self.drawn >= config.max_draws
    }
}

/// [`propose_where`] in parts: draw, perhaps in several calls, then rank.
pub struct Proposing<'a> {
    pub generator: &'a Generator,
    pub predictor: &'a Predictor,
    pub dataset: &'a DatasetFeatures,
    pub config: &'a SearchConfig,
    pub key: &'a Key,
    pub accept: &'a dyn Fn(Cell) -> bool,
}

impl std::fmt::Debug for Proposing<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Proposing").field("config", self.config).finish_non_exhaustive()
    }
}

impl Proposing<'_> {
    /// Draws on until there are enough candidates, or until `observer`, who is told after every round, breaks off. Returns
    /// whether there are enough.
    pub fn draw(
        &self,
        draws: &mut Draws,
        observer: &mut dyn FnMut(&Draws) -> ControlFlow<()>,
    ) -> Result<bool> {
        let Self { generator, predictor, dataset, config, key, accept } = *self;
        config.validate()?;
        let width = generator.config().feature_width;
        let found = predictor.config().feature_width;
        require(found == width, "the predictor's feature_width", &found, "it must be the generator's")?;
        dataset.validate(width)?;
        let _guard = tch::no_grad_guard();
        let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
        let mut seen = draws.canonical();
        while !draws.suffice(config) {
            let mut random = key.stream(draws.rounds);
            draws.rounds += 1;
            let count = config.draws_per_round.min(config.max_draws - draws.drawn);
            let sets = vec![dataset; config.sets_per_round.min(count)];
            let sets = draw_sets(&sets, size, width, &mut random, generator.parameters().device())?;
            let (codes, _) = generator.posterior(&sets)?;
            let decoded = generator.decode(&repeated(&codes, count)?, Drawing::Random(&mut random))?;
            draws.drawn += count;
            for cell in decoded.cells()?.into_iter().flatten() {
                draws.valid += 1;
                draws.distinct.insert(cell);
                let cell = cell.representative();
                if seen.insert(cell) && !cell.is_always_zero() && accept(cell) {
                    draws.cells.push(cell);
                }
            }
            if observer(draws).is_break() && !draws.suffice(config) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Scores and ranks what was drawn.
    pub fn rank(&self, draws: Draws) -> Result<Proposal> {
        let canonical = draws.canonical().len();
        let Draws { drawn, valid, distinct, mut cells, .. } = draws;
        // The last round may bring more than asked for: first come, first kept.
        cells.truncate(self.config.candidates);
        let _guard = tch::no_grad_guard();
        let candidates = score(self.predictor, self.dataset, &cells, self.config, self.key)?;
        Ok(Proposal { candidates, drawn, valid, distinct: distinct.len(), canonical })
    }
}

/// The streams of a key are used up from both ends.
const SCORING: u64 = u64::MAX;

fn score(
    predictor: &Predictor,
    dataset: &DatasetFeatures,
    cells: &[Cell],
    config: &SearchConfig,
    key: &Key,
) -> Result<Vec<Candidate>> {
    if cells.is_empty() {
        return Ok(Vec::new());
    }
    let size = SetSize { classes: config.classes_per_dataset, images_per_class: config.images_per_class };
    let mut random = key.stream(SCORING);
    let width = predictor.config().feature_width;
    let sets = vec![dataset; config.sets];
    let sets = draw_sets(&sets, size, width, &mut random, predictor.parameters().device())?;
    let by_set = predictor.predict(&sets, cells)?;
    let mut candidates: Vec<Candidate> = cells
        .iter()
        .enumerate()
        .map(|(place, cell)| {
            let predictions: Vec<f64> = by_set.iter().map(|set| set[place]).collect();
            let (predicted, predicted_sd) = (mean(&predictions), standard_deviation(&predictions));
            Candidate { cell: *cell, predicted, predicted_sd, rank: 0 }
        })
        .collect();
    if let Some(candidate) = candidates.iter().find(|candidate| !candidate.predicted.is_finite()) {
        let rule = format!("the prediction for {} is no number; train the predictor anew", candidate.cell);
        return Err(Error::Data { dataset: dataset.id.clone(), rule });
    }
    candidates.sort_by(|a, b| b.predicted.total_cmp(&a.predicted).then(a.cell.cmp(&b.cell)));
    for (place, candidate) in candidates.iter_mut().enumerate() {
        candidate.rank = place as u32 + 1;
    }
    Ok(candidates)
}
