//! Helpers of the system tests: a small pipeline in a temporary folder, the real programs, the services that they
//! need and what destroys them, and the tables that they leave.
//!
//! The tests themselves lie in `system/`. They run the programs as a user would, so the programs must be built first:
//! `scripts/test.sh` does that, and everything else that they need.

mod broker;
pub mod chaos;
mod cluster;
mod pictures;
mod process;
mod project;
mod proxy;
mod tables;

pub use broker::PrivateBroker;
pub use cluster::{Cluster, lanes, service};
pub use pictures::{cifar_records, idx_images, idx_labels};
pub use process::Process;
pub use project::{Project, analysts_tools, program, repository};
pub use proxy::{FaultRates, StoreProxy};
pub use tables::{DETERMINISTIC_TABLES, deterministic_tables, deterministic_tables_of};
