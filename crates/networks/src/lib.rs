//! The networks of NAS-Bench-201, how they are trained, and the feature extractors of a data set's pictures.
//!
//! ```text
//!   Cell, NetworkShape ──► Network ──┐
//!   Pictures ──► PreparedData ───────┼──► train ──► TrainedUnit (curves, figures, network)
//!   Recipe, unit id ─────────────────┘     ▲  │ between any two batches
//!                                          └──┘ checkpoint (safetensors)
//!
//!   RGB pictures ──► Extractor (EfficientNet-Lite0 or ResNet-18) ──► one feature vector per picture
//! ```
//!
//! Three properties are relied upon elsewhere:
//!
//! * A network is the published one, layer by layer and name by name, so that published weights load.
//! * A unit's numbers depend on its inputs and its unit id only: every random number comes from
//!   [`metad2a_randomness`], never from libtorch's generator, which all networks of a process share. On one device and
//!   one thread they repeat bit for bit.
//! * Weights are read from safetensors only; nothing is ever unpickled.
//!
//! A network is computed in three ways that give the same up to rounding ([`Computation`]): by libtorch's autograd,
//! operation by operation or fused, and with passes written out for processors, which trainings use there.
//!
//! Deliberately absent: the choice of threads (the program's business), opening CUDA libraries (the program's too),
//! decoding of pictures, and any knowledge of tasks and stores.

mod augmentation;
mod blocks;
mod by_hand;
mod error;
mod extractor;
mod fused;
mod latency;
mod layers;
mod network;
mod optimizer;
mod pictures;
mod recipe;
mod training;
mod weights;

pub use error::Error;
pub use extractor::{Extractor, ExtractorKind, RgbPicture};
pub use latency::Latency;
pub use network::{Computation, Network, NetworkShape, Step};
pub use pictures::{Pictures, PreparedData, TrainingData};
pub use recipe::{Augmentation, Precision, Recipe};
pub use training::{EpochRow, Figures, Observer, Run, Status, TrainedUnit, Training, train};

/// The result of everything fallible here.
pub type Result<T, E = Error> = std::result::Result<T, E>;
