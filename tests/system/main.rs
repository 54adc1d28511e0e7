//! The whole system through its programs: calm runs, killed runs, bad input, and what a person reads.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]
#![expect(clippy::print_stdout, reason = "seeds and times are told")]

mod chaos;
mod command_line;
mod cookbook;
mod data;
mod database;
mod imports;
mod killed;
mod lost;
mod operator;
mod operator_cluster;
mod poison;
mod refresh;
mod report;
mod runs;
mod snapshots;
mod upgrade;
