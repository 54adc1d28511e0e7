//! `MetaD2A` for NAS-Bench-201 (Lee, Hyung and Hwang, ICLR 2021): a generator that draws cells for a dataset and a
//! predictor of their accuracies, both from features of the dataset's pictures.
//!
//! ```text
//!   DatasetFeatures ──► set encoder ──► dataset vector ──► decoder ──► cells            (Generator)
//!   (classes of pictures)                      └──────────┐
//!   cells ──► graphs ──► graph encoder ──► graph vector ──┴─► head ──► accuracies       (Predictor)
//!
//!   train_generator, train_predictor ─ learn        validate_* ─ measure        propose ─ generate, score and rank
//! ```
//!
//! **Two modes.** [`ModelConfig::paper_generator`], [`ModelConfig::paper_predictor`] and [`EpisodeConfig::paper`] are
//! the published models and their training: golden tests hold every output and gradient to an independent `PyTorch`
//! implementation, and published weights load by their names. The default mode mends what the paper's database and
//! code got wrong: the cell's true graph, one cell for all that train alike, several rows of a dataset per batch with
//! a loss on their order, and only the best cells of a dataset for the generator.
//!
//! **Invariants.** All graphs of a batch advance together, vertex by vertex; nothing loops over graphs. Randomness is
//! keyed by (key, step) alone, so a training that was cut anywhere goes on bit for bit (on one CPU thread).
//!
//! Deliberately absent: libtorch's random generator, dropout (the model has none), learning rate schedules, choosing a
//! device or a number of threads (the program does), files and networks.

mod adam;
mod batches;
mod checkpoint;
mod config;
mod data;
mod episode;
mod error;
mod generator;
mod graphs;
mod layers;
mod losses;
pub mod metrics;
mod parameters;
mod predictor;
mod proposal;
mod set_encoder;
mod training;
mod validation;

pub use adam::{Adam, AdamConfig};
pub use checkpoint::TargetScale;
pub use config::{CellForm, GraphForm, ModelConfig};
pub use data::{DatasetFeatures, Row, TrainingSet};
pub use episode::{EpisodeConfig, Mode};
pub use error::{Error, Result};
pub use generator::{Decoded, Drawing, Generator, GeneratorLoss};
pub use graphs::GraphBatch;
pub use parameters::Parameters;
pub use predictor::Predictor;
pub use proposal::{Candidate, Draws, Proposal, Proposing, SearchConfig, propose, propose_where};
pub use set_encoder::SetBatch;
pub use training::{StepObserver, TrainingMetrics, train_generator, train_predictor};
pub use validation::{
    DatasetMetrics, DatasetObserver, GeneratorMetrics, GeneratorTally, GeneratorValidation,
    go_on_validating_generator, go_on_validating_predictor, validate_generator, validate_predictor,
};
