//! The coordinator: plans, enqueues, merges training rounds, publishes snapshots, and tells a person how it goes.
//!
//! ```text
//!   pipeline.yaml ─► project ─► sources ─► Study ─┐
//!                                                 ├─► planner (pure) ─► run: publish tasks, write choices,
//!   store ─► ledger ─► Existing ──────────────────┘                     merge rounds, wait for events
//!                                                                          │
//!                                                   publication ◄──────────┴──────────► report
//! ```
//!
//! It never links libtorch and starts in milliseconds. **Invariant:** every effect is a put-if-absent record or a
//! message whose repetition is harmless, so it may be killed at any moment and started again.

pub mod choices;
mod chosen_snapshot;
pub mod cli;
mod commands;
mod dispatch;
mod hint;
mod imports;
pub mod ledger;
mod local_workers;
pub mod logging;
mod outage;
mod outer_steps;
mod pace;
mod progress;
mod project;
mod publication;
mod published;
mod refresh_record;
mod report;
mod run;
mod site;
mod sources;
mod views;
mod work;

use std::process::ExitCode;

use metad2a_pipeline::{specification, study};

use crate::cli::{Arguments, Command};

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// The run finished, but some tasks were given up.
    WithDeadLetters,
    /// Another coordinator leads the pipeline.
    NotLeader,
    /// The data gates of a refresh found that it would do harm.
    Refused,
    Failed,
    /// Wrong usage or configuration.
    Usage,
}

impl Exit {
    /// The program's exit code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::WithDeadLetters => 3,
            Exit::NotLeader => 4,
            Exit::Refused => 5,
        }
    }

    /// The outcome of a program that ended with this code.
    pub fn of_code(code: u8) -> Self {
        match code {
            0 => Exit::Done,
            2 => Exit::Usage,
            3 => Exit::WithDeadLetters,
            4 => Exit::NotLeader,
            5 => Exit::Refused,
            _ => Exit::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// 2 where the person can mend the file or the command line, 1 otherwise.
pub fn exit_code_of(error: &anyhow::Error) -> Exit {
    let is_usage = error.chain().any(|cause| {
        cause.is::<specification::Error>()
            || cause.is::<study::Error>()
            || cause.is::<metad2a_images::Error>()
            || cause.is::<project::Error>()
            || cause.is::<metad2a_exchange::Error>()
            || cause.is::<imports::Error>()
    });
    if is_usage { Exit::Usage } else { Exit::Failed }
}

/// Runs one command to its end.
pub fn execute(arguments: Arguments) -> anyhow::Result<Exit> {
    if let Command::Completions { shell } = arguments.command {
        commands::completions(shell)?;
        return Ok(Exit::Done);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(commands::execute(arguments.command))
}
