//! Writes a person's decisions about tasks: the record first, then a word to whoever listens.

use std::fmt::Write;

use futures::{StreamExt, TryStreamExt};
use metad2a_database::Store;
use metad2a_pipeline::tasks::{Kind, Task};
use metad2a_pipeline::verdict::{Refusal, Request, Verdict, VerdictDetail};
use serde::Serialize;

use super::short;
use crate::Exit;
use crate::cli::Format;
use crate::commands::output::answer;
use crate::commands::run::host;
use crate::ledger;
use crate::site::{Reached, Site};

/// Requests to the store at a time.
const CONCURRENT_REQUESTS: usize = 16;

/// A task about which a person has a wish.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Wish {
    pub(in crate::commands) id: String,
    pub(in crate::commands) kind: Option<Kind>,
    pub(in crate::commands) task: Option<Task>,
}

impl Wish {
    pub(in crate::commands) fn of(task: Task) -> Self {
        Self { id: task.id(), kind: Some(task.kind()), task: Some(task) }
    }
}

/// What became of the wishes.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// What was asked, as decision records name it.
    decision: &'static str,
    decided: Vec<Answer>,
    refused: Vec<Answer>,
    /// Copies that were removed from the queue's dead letters.
    dead_letters_removed: u64,
    /// Why running programs could not be told at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_told: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    id: String,
    kind: Option<Kind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// It was so before.
    #[serde(skip)]
    idle: bool,
}

/// Judges and writes all wishes, tells the running programs, and prints what became of them.
pub(in crate::commands) async fn carry_out(
    site: &Site,
    request: Request,
    wishes: Vec<Wish>,
    format: Format,
) -> anyhow::Result<Exit> {
    let store = site.needed_store()?;
    // Asked to drop all where the store knows of none: what the queue holds are copies without a record.
    let nothing_known = wishes.is_empty() && request == Request::Drop;
    let answers: Vec<(Wish, Result<(), Refusal>)> = futures::stream::iter(wishes)
        .map(|wish| async move {
            let answer = decide(store, site.pipeline(), request, &wish).await?;
            Ok::<_, anyhow::Error>((wish, answer))
        })
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await?;
    let mut report = Report { decision: word(request), ..Report::default() };
    for (wish, answer) in answers {
        let idle = matches!(answer, Err(Refusal::AlreadyCancelled | Refusal::AlreadyDropped));
        let why = answer.err().map(|refusal| refusal.to_string());
        let list = if why.is_none() { &mut report.decided } else { &mut report.refused };
        list.push(Answer { id: wish.id, kind: wish.kind, why, idle });
    }
    let queue = site.queue().await;
    if !report.decided.is_empty() {
        report.not_told = queue.tell_of_decisions(site.pipeline()).await.err();
    }
    if nothing_known || (!report.decided.is_empty() && request != Request::Cancel) {
        report.dead_letters_removed = remove_copies(site, store, &queue).await?;
    }
    queue.close().await;
    let failed = report.refused.iter().any(|answer| !answer.idle);
    answer(format, &report, table)?;
    if let Some(why) = &report.not_told {
        eprintln!(
            "metad2a: running programs were not told at once ({why}); the coordinator looks every few seconds, a worker \
             before it commits"
        );
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// Writes the decision, unless what holds for the task refuses it. Looks again where somebody else decides meanwhile.
async fn decide(
    store: &Store,
    pipeline: &str,
    request: Request,
    wish: &Wish,
) -> anyhow::Result<Result<(), Refusal>> {
    loop {
        let newest = store.decision(&wish.id).await?;
        let kinds = wish.kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
        let mut is_done = false;
        for kind in kinds {
            is_done |= store.marker(kind.name(), &wish.id).await?.is_some();
        }
        let holding = newest.as_ref().and_then(|decision| Verdict::of(&decision.decision));
        let verdict = match request.judge(is_done, holding) {
            Ok(verdict) => verdict,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = match &newest {
            Some(decision) => ledger::verdict_detail(decision)?,
            None => VerdictDetail::default(),
        };
        let detail = VerdictDetail {
            kind: wish.kind.map(|kind| kind.name().to_owned()).or(before.kind),
            pipeline: Some(pipeline.to_owned()),
            // A failure that was made final keeps its reasons; what is tried again starts anew.
            reasons: if verdict == Verdict::Dropped { before.reasons } else { Vec::new() },
            by: Some(person()),
            task: wish.task.clone().or(before.task),
        };
        let after = newest.map(|decision| decision.number);
        let detail = serde_json::to_value(detail)?;
        if store.decide_next(&wish.id, after, verdict.name(), detail).await?.is_some() {
            return Ok(Ok(()));
        }
    }
}

/// Removes the queue's copies of dead letters once nobody needs to look at any: AMQP has no way to remove one of them.
async fn remove_copies(site: &Site, store: &Store, queue: &Reached) -> anyhow::Result<u64> {
    let Reached::Open(queue) = queue else { return Ok(0) };
    let left = super::Known::read(store).await?.of_pipeline(Verdict::Failed, site.pipeline());
    if !left.is_empty() {
        return Ok(0);
    }
    // Only copies: a worker writes the record of a failure before it puts the message aside.
    match queue.purge_dead_letters(site.pipeline()).await {
        Ok(removed) => Ok(removed),
        Err(error) => {
            tracing::warn!(%error, "the queue's copies of the dead letters stay; they are harmless");
            Ok(0)
        }
    }
}

fn word(request: Request) -> &'static str {
    match request {
        Request::Cancel => Verdict::Cancelled.name(),
        Request::Retry => Verdict::Retry.name(),
        Request::Drop => Verdict::Dropped.name(),
    }
}

/// Who decides, for those who read the record.
fn person() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    format!("{user} on {}", host())
}

fn table(report: &Report) -> String {
    let mut text = String::new();
    let done = match report.decision {
        "retry" => "to be tried again",
        other => other,
    };
    let kind = |answer: &Answer| answer.kind.map_or("task", Kind::name);
    for answer in &report.decided {
        let _ = writeln!(text, "{} {}: {done}", kind(answer), short(&answer.id));
    }
    for answer in &report.refused {
        let why = answer.why.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{} {}: unchanged, {why}", kind(answer), short(&answer.id));
    }
    if report.decided.is_empty() && report.refused.is_empty() {
        text.push_str("There is no such task.\n");
    }
    if report.dead_letters_removed > 0 {
        let _ =
            writeln!(text, "{} copies removed from the queue's dead letters", report.dead_letters_removed);
    }
    if report.decision == "retry" && !report.decided.is_empty() {
        text.push_str("A run that goes on takes them up by itself; otherwise `metad2a run` does.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, why: Option<&str>) -> Answer {
        let why = why.map(str::to_owned);
        Answer { id: id.repeat(8), kind: Some(Kind::Evaluate), why, idle: false }
    }

    #[test]
    fn the_answer_names_what_was_done_and_what_was_refused() {
        let report = Report {
            decision: "retry",
            decided: vec![answer("0123abcd", None)],
            refused: vec![answer("89ab0123", Some("it is done"))],
            dead_letters_removed: 2,
            not_told: None,
        };
        insta::assert_snapshot!(table(&report), @"
        evaluate 0123abcd0123: to be tried again
        evaluate 89ab012389ab: unchanged, it is done
        2 copies removed from the queue's dead letters
        A run that goes on takes them up by itself; otherwise `metad2a run` does.
        ");
        insta::assert_snapshot!(table(&Report { decision: "cancelled", ..Report::default() }), @"There is no such task.");
    }
}
