//! `metad2a dead-letters`: the tasks that were given up.
//!
//! The queue keeps a copy of each message but can neither list nor find one, so everything here reads the records in
//! the store, which were written before the copies were put aside.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use metad2a_pipeline::tasks::{Evaluate, Task};
use metad2a_pipeline::verdict::{Request, Verdict};
use serde::Serialize;

use super::output::answer;
use super::tasks::{Known, SHOWN, carry_out, one_line, short, show};
use crate::Exit;
use crate::cli::{DeadLetters, DeadLettersChange, DeadLettersList};
use crate::site::{Reached, Site};

#[derive(Debug, Serialize)]
struct DeadLetter {
    id: String,
    kind: Option<String>,
    /// The pipeline in whose name it was given up, where that was recorded.
    pipeline: Option<String>,
    at: DateTime<Utc>,
    attempts: usize,
    /// One for each attempt.
    reasons: Vec<String>,
    /// Its cells are tried one by one, so nobody need look at the bundle.
    tried_cell_by_cell: bool,
    task: Option<Task>,
}

#[derive(Debug, Serialize)]
struct Listing {
    /// Newest first.
    dead_letters: Vec<DeadLetter>,
    /// Copies in the queue, where it can be asked.
    copies_in_queue: Option<u64>,
}

pub(crate) async fn dead_letters(command: DeadLetters) -> anyhow::Result<Exit> {
    match command {
        DeadLetters::List(arguments) => list(arguments).await,
        DeadLetters::Show(arguments) => show(arguments).await,
        DeadLetters::Retry(arguments) => change(Request::Retry, arguments).await,
        DeadLetters::Drop(arguments) => change(Request::Drop, arguments).await,
    }
}

async fn change(request: Request, arguments: DeadLettersChange) -> anyhow::Result<Exit> {
    let site = Site::change(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let known = Known::read(site.needed_store()?).await?;
    let wishes = if arguments.all {
        known.of_pipeline(Verdict::Failed, site.pipeline())
    } else {
        known.named(&arguments.ids)?
    };
    carry_out(&site, request, wishes, arguments.format).await
}

async fn list(arguments: DeadLettersList) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let known = match &site.store {
        Some(store) => Known::read(store).await?,
        None => Known::default(),
    };
    let queue = site.queue().await;
    let copies_in_queue = match &queue {
        Reached::Open(open) => open.dead_letters(site.pipeline()).await.ok(),
        Reached::NotThereYet => Some(0),
        Reached::Unreachable(_) => None,
    };
    queue.close().await;
    let failed = known.stopped.into_iter().filter(|(_, stopped)| stopped.verdict == Verdict::Failed);
    let mut dead_letters: Vec<DeadLetter> = failed
        .map(|(id, stopped)| DeadLetter {
            id,
            kind: stopped.detail.kind,
            pipeline: stopped.detail.pipeline,
            at: stopped.decision.at,
            attempts: stopped.detail.reasons.len(),
            reasons: stopped.detail.reasons,
            tried_cell_by_cell: is_bundle(stopped.detail.task.as_ref()),
            task: stopped.detail.task,
        })
        .collect();
    dead_letters.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    let listing = Listing { dead_letters, copies_in_queue };
    answer(arguments.format, &listing, table)?;
    Ok(Exit::Done)
}

/// The planner tries the cells of a bundle that was given up alone.
pub(super) fn is_bundle(task: Option<&Task>) -> bool {
    matches!(task, Some(Task::Evaluate(Evaluate { units, .. })) if units.len() > 1)
}

fn table(listing: &Listing) -> String {
    let mut text = String::new();
    if listing.dead_letters.is_empty() {
        text.push_str("No task was given up.\n");
    } else {
        let _ = writeln!(
            text,
            "{:<SHOWN$}  {:<16}  {:<16}  {:>8}  last reason",
            "id", "kind", "given up", "attempts"
        );
    }
    for letter in &listing.dead_letters {
        let reason = letter.reasons.last().map_or("no reason was recorded", String::as_str);
        let reason = if letter.tried_cell_by_cell {
            format!("(its cells are tried one by one) {reason}")
        } else {
            reason.to_owned()
        };
        let _ = writeln!(
            text,
            "{:<SHOWN$}  {:<16}  {:<16}  {:>8}  {}",
            short(&letter.id),
            letter.kind.as_deref().unwrap_or("–"),
            letter.at.format("%Y-%m-%d %H:%M"),
            letter.attempts,
            one_line(&reason)
        );
    }
    if !listing.dead_letters.is_empty() {
        text.push_str(
            "\n`metad2a dead-letters show ID` tells all; `retry` tries again, `drop` makes it final.\n",
        );
    }
    match listing.copies_in_queue {
        Some(copies) if copies > 0 && listing.dead_letters.is_empty() => {
            let _ = writeln!(
                text,
                "The queue holds {copies} dead letters without a record: messages of another version of the programs;\n\
                 `metad2a dead-letters drop --all` removes them."
            );
        }
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_are_listed_with_attempts_and_the_last_reason() {
        let letter = |id: &str, reasons: &[&str], bundle| DeadLetter {
            id: id.repeat(8),
            kind: Some("evaluate".to_owned()),
            pipeline: Some("small".to_owned()),
            at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            attempts: reasons.len(),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            tried_cell_by_cell: bundle,
            task: None,
        };
        let listing = Listing {
            dead_letters: vec![
                letter("0123abcd", &["out of memory", "the compute process was killed by signal 9"], false),
                letter("77e1c2d3", &["class 3 has 2 pictures"], true),
            ],
            copies_in_queue: Some(2),
        };
        insta::assert_snapshot!(table(&listing), @"
        id            kind              given up          attempts  last reason
        0123abcd0123  evaluate          2027-01-15 08:00         2  the compute process was killed by signal 9
        77e1c2d377e1  evaluate          2027-01-15 08:00         1  (its cells are tried one by one) class 3 has 2 pictures

        `metad2a dead-letters show ID` tells all; `retry` tries again, `drop` makes it final.
        ");
        insta::assert_snapshot!(table(&Listing { dead_letters: Vec::new(), copies_in_queue: Some(1) }), @"
        No task was given up.
        The queue holds 1 dead letters without a record: messages of another version of the programs;
        `metad2a dead-letters drop --all` removes them.
        ");
    }
}
