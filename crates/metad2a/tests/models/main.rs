//! The crate through its public API. One binary, as each loads libtorch.

mod fixture;
mod proposal;
mod training;
