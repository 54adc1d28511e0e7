//! `metad2a-worker`: takes a task, does it, commits the result, acknowledges.

use std::process::ExitCode;

use clap::Parser;
use metad2a_worker::cli::{Arguments, Mode};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    arguments.start_logging();
    let outcome = match &arguments.mode {
        None => arguments.supervise(),
        Some(Mode::Compute(compute)) => metad2a_worker::compute::serve(compute),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
