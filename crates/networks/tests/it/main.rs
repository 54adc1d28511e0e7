//! One test program: every further one would link libtorch again.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod extractors;
mod golden;
mod pauses;
mod training;
mod weights;
