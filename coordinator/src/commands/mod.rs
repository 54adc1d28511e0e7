//! One function per subcommand.

mod dead_letters;
mod detach;
mod doctor;
mod export;
mod gc;
mod import;
mod leading;
mod output;
mod plan;
mod refresh;
mod report;
mod run;
mod search;
mod snapshots;
mod sql;
mod status;
mod tasks;

use clap::CommandFactory;

use crate::Exit;
use crate::cli::{Arguments, Command};

pub(crate) async fn execute(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(arguments) if arguments.refresh.refresh => refresh::refresh(arguments).await,
        Command::Run(arguments) => run::run(arguments).await,
        Command::Plan(arguments) => plan::plan(arguments).await,
        Command::Search(arguments) => search::search(arguments).await,
        Command::Snapshots(arguments) => snapshots::snapshots(arguments).await,
        Command::Report(arguments) => report::report(arguments).await,
        Command::Sql(arguments) => sql::sql(arguments).await,
        Command::Status(arguments) => status::status(arguments).await,
        Command::Watch(arguments) => status::watch(arguments).await,
        Command::Tasks(command) => tasks::tasks(command).await,
        Command::DeadLetters(command) => dead_letters::dead_letters(command).await,
        Command::Gc(arguments) => gc::gc(arguments).await,
        Command::Doctor(arguments) => doctor::doctor(arguments).await,
        Command::Import(arguments) => import::import(*arguments).await,
        Command::Export(arguments) => export::export(arguments).await,
        Command::Completions { shell } => {
            completions(shell)?;
            Ok(Exit::Done)
        }
    }
}

pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "metad2a", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}
