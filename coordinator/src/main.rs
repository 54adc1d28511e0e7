//! The program `metad2a`: reads the command line, starts logging, and turns the outcome into an exit code.

use std::process::ExitCode;

use clap::Parser;
use metad2a_coordinator::cli::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    metad2a_coordinator::logging::start(arguments.verbose, arguments.log_format);
    match metad2a_coordinator::execute(arguments) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            eprintln!("metad2a: {error:#}");
            metad2a_coordinator::exit_code_of(&error).into()
        }
    }
}
