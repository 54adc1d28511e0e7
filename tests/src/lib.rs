//! Helpers of the system tests: a small pipeline in a temporary folder, the real programs, and the tables they leave.
//!
//! The tests themselves lie in `system/`. They run the programs as a user would, so the programs must be built first:
//! `scripts/test.sh` does that, and everything else that they need.

mod pictures;
mod project;
mod tables;

pub use pictures::{idx_images, idx_labels};
pub use project::{Project, program, repository};
pub use tables::{DETERMINISTIC_TABLES, deterministic_tables};
