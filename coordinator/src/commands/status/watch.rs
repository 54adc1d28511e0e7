//! `metad2a watch`: the state of a run until it ends, drawn anew on a terminal, line by line elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::bail;
use metad2a_database::now;
use metad2a_pipeline::planner::{Progress, Stage};

use super::{Aside, State, Word, gather, table};
use crate::Exit;
use crate::cli::Watch;
use crate::commands::output::is_read;
use crate::commands::run::interrupted;
use crate::hint::{Hint, Outcome};
use crate::progress;
use crate::site::{Leader, Reached, Site};

/// Between two looks; the leader writes no more often.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) async fn watch(arguments: Watch) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let queue = site.queue().await;
    let ended = tokio::select! {
        ended = until_the_end(&site, &queue) => ended,
        () = interrupted() => Ok(Exit::Done),
    };
    queue.close().await;
    ended
}

async fn until_the_end(site: &Site, queue: &Reached) -> anyhow::Result<Exit> {
    let pipeline = site.pipeline();
    let first = match queue.leader(pipeline).await {
        Leader::Holder(holder) => holder,
        Leader::Nobody => {
            bail!(
                "nothing is running of `{pipeline}`; `metad2a run` starts it, `metad2a status` shows how it stands"
            )
        }
        Leader::Unknown(why) => bail!("the queue does not tell whether `{pipeline}` is running: {why}"),
    };
    let mut screen = Screen::new();
    let mut run_id: Option<String> = None;
    let mut aside = Aside::read(site).await?;
    let mut failures = None;
    loop {
        let mut state = gather(site, queue, aside.clone()).await?;
        if failures.replace(failures_of(&state)) != Some(failures_of(&state)) || state.run.is_none() {
            aside = Aside::read(site).await?;
            state.aside.clone_from(&aside);
        }
        // The file of the run that is watched tells how it ended, whoever leads next.
        let hint = match &run_id {
            Some(run_id) => site.hint_of(run_id).await?,
            None => site.hint(&Leader::Unknown(String::new())).await?.filter(|hint| hint.holder == first),
        };
        if run_id.is_none() {
            run_id = hint.as_ref().map(|hint| hint.run_id.clone());
        }
        match judge(&state, &first, hint.as_ref()) {
            Verdict::GoesOn => {
                if !screen.show(&state)? {
                    return Ok(Exit::Done);
                }
            }
            Verdict::Ended(outcome) => {
                screen.show(&state)?;
                eprintln!("metad2a: the run has ended: {}", outcome.message);
                return Ok(Exit::of_code(outcome.exit_code));
            }
            Verdict::Vanished => {
                screen.show(&state)?;
                bail!(
                    "{first} no longer runs `{pipeline}` and did not say how it ended: it was killed or its machine \
                     failed; `metad2a run` goes on from there"
                );
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What has failed or was set aside: only where it changes, the store has news of dead letters.
fn failures_of(state: &State) -> (u64, u64) {
    let stopped = state.stages.values().map(|hint| hint.progress);
    let count = |progress: Progress| progress.failed + progress.cancelled + progress.dropped;
    (stopped.map(count).sum(), state.run.as_ref().map_or(0, |run| run.retries))
}

/// What a look says of the run that is watched.
#[derive(Debug, PartialEq)]
enum Verdict {
    GoesOn,
    Ended(Outcome),
    Vanished,
}

/// A queue that cannot be asked does not end a watch, since the run itself outlives such times.
fn judge(state: &State, holder: &str, hint: Option<&Hint>) -> Verdict {
    if let Some(outcome) = hint.and_then(|hint| hint.outcome.clone()) {
        return Verdict::Ended(outcome);
    }
    let gone = match (&state.leader, state.state) {
        (Some(leader), _) => leader != holder,
        (None, _) => state.queue.problem.is_none() && state.state != Word::Running,
    };
    if gone { Verdict::Vanished } else { Verdict::GoesOn }
}

/// Standard output, as what it is.
struct Screen {
    is_terminal: bool,
    /// Lines of the last drawing.
    drawn: usize,
    shown: BTreeMap<Stage, Progress>,
    told: Option<(usize, usize)>,
}

impl Screen {
    fn new() -> Self {
        Self { is_terminal: std::io::stdout().is_terminal(), drawn: 0, shown: BTreeMap::new(), told: None }
    }

    /// False where nobody reads any more.
    fn show(&mut self, state: &State) -> anyhow::Result<bool> {
        let text = if self.is_terminal { self.drawing(state) } else { self.news(state) };
        let mut output = std::io::stdout().lock();
        is_read(output.write_all(text.as_bytes()).and_then(|()| output.flush()))
    }

    /// Goes back over the last drawing and clears what follows.
    fn drawing(&mut self, state: &State) -> String {
        let table = table::table(state, now());
        let back = if self.drawn > 0 { format!("\x1b[{}A\x1b[J", self.drawn) } else { String::new() };
        self.drawn = table.lines().count();
        format!("{back}{table}")
    }

    /// A line for each stage that has changed, and for new dead letters and cancellations.
    fn news(&mut self, state: &State) -> String {
        let mut lines = String::new();
        for (stage, hint) in &state.stages {
            if self.shown.insert(*stage, hint.progress) != Some(hint.progress) {
                lines.push_str(&progress::line(*stage, hint.progress, hint.per_second));
                lines.push('\n');
            }
        }
        let counts = (state.aside.dead_letters, state.aside.cancelled);
        if self.told.replace(counts).unwrap_or_default() != counts {
            let (dead, cancelled) = counts;
            let line = format!("dead letters: {dead}, cancelled tasks: {cancelled}\n");
            lines.push_str(&line);
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::status::table::tests::running;
    use crate::hint::Picture;
    use crate::hint::tests::{at, picture};

    fn screen(is_terminal: bool) -> Screen {
        Screen { is_terminal, drawn: 0, shown: BTreeMap::new(), told: None }
    }

    fn hint_after(end: Option<Outcome>) -> Hint {
        let mut picture: Picture = picture();
        if let Some(outcome) = end {
            picture.end(outcome);
        }
        picture.hint(at(1))
    }

    #[test]
    fn a_watch_ends_with_the_runs_own_word_and_notices_when_there_is_none() {
        let state = running();
        let holder = "process 7 on ada";
        assert_eq!(judge(&state, holder, Some(&hint_after(None))), Verdict::GoesOn);
        let outcome = Outcome { exit_code: 3, message: "given up".to_owned() };
        let ended = hint_after(Some(outcome.clone()));
        assert_eq!(judge(&state, holder, Some(&ended)), Verdict::Ended(outcome));
        let other = State { leader: Some("process 8 on ada".to_owned()), ..running() };
        assert_eq!(judge(&other, holder, Some(&hint_after(None))), Verdict::Vanished);
        let nobody = State { leader: None, state: Word::Open, ..running() };
        assert_eq!(judge(&nobody, holder, None), Verdict::Vanished);
        let mut unreachable = State { leader: None, state: Word::Unknown, ..running() };
        unreachable.queue.problem = Some("away".to_owned());
        assert_eq!(judge(&unreachable, holder, None), Verdict::GoesOn);
    }

    #[test]
    fn elsewhere_than_on_a_terminal_only_news_is_printed() {
        let (mut screen, mut state) = (screen(false), running());
        insta::assert_snapshot!(screen.news(&state), @"
        evaluations: 40 of 100 trainings, 1 failed, 2 cancelled, 0.1/s, 10 min left
        dead letters: 1, cancelled tasks: 2
        ");
        assert_eq!(screen.news(&state), "");
        if let Some(hint) = state.stages.get_mut(&Stage::Evaluations) {
            hint.progress.done += 1;
        }
        assert_eq!(screen.news(&state).lines().count(), 1);
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        let (mut screen, state) = (screen(true), running());
        let first = screen.drawing(&state);
        let lines = first.lines().count();
        assert!(screen.drawing(&state).starts_with(&format!("\x1b[{lines}A\x1b[J")));
    }
}
