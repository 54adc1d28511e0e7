//! `metad2a tasks`: what there is to do, what became of it, and a person's word on it.

pub(super) mod decide;
mod known;
mod list;
mod show;

use anyhow::Context;
use metad2a_pipeline::ids::resolve;
use metad2a_pipeline::planner::Stage;
use metad2a_pipeline::verdict::{Request, Verdict};

pub(super) use self::decide::{Wish, carry_out};
pub(super) use self::known::{Known, Planned};
pub(super) use self::list::{at_work, one_line};
pub(super) use self::show::show;
use crate::Exit;
use crate::cli::{Tasks, TasksCancel, TasksRetry};
use crate::site::Site;

/// Letters of an id in tables; unique in all likelihood, and more than a command asks for.
pub(super) const SHOWN: usize = 12;

pub(super) fn short(id: &str) -> &str {
    id.get(..SHOWN).unwrap_or(id)
}

pub(crate) async fn tasks(command: Tasks) -> anyhow::Result<Exit> {
    match command {
        Tasks::List(arguments) => list::list(arguments).await,
        Tasks::Show(arguments) => show(arguments).await,
        Tasks::Retry(arguments) => retry(arguments).await,
        Tasks::Cancel(arguments) => cancel(arguments).await,
    }
}

async fn retry(arguments: TasksRetry) -> anyhow::Result<Exit> {
    let site = Site::change(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let known = Known::read(site.needed_store()?).await?;
    let wishes = if arguments.failed {
        known.of_pipeline(Verdict::Failed, site.pipeline())
    } else {
        known.named(&arguments.ids)?
    };
    carry_out(&site, Request::Retry, wishes, arguments.format).await
}

async fn cancel(arguments: TasksCancel) -> anyhow::Result<Exit> {
    let site = Site::change(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let known = Known::read(site.needed_store()?).await?;
    let planned = Planned::read(&site).await?;
    let open = planned.plan.enqueue.iter();
    let wanted = |task: &&_| arguments.stage.is_none_or(|stage| Stage::of(&planned.study, task) == stage);
    let open: Vec<Wish> = open.filter(wanted).cloned().map(Wish::of).collect();
    if arguments.all || arguments.stage.is_some() {
        return carry_out(&site, Request::Cancel, open, arguments.format).await;
    }
    let mut wishes = Vec::new();
    for prefix in &arguments.ids {
        let candidates = open.iter().map(|wish| wish.id.as_str()).chain(known.ids());
        let id = resolve(prefix, candidates)?;
        let planned = open.iter().find(|wish| wish.id == id).cloned();
        wishes.push(planned.or_else(|| known.wish(&id)).context("a resolved id is open or known")?);
    }
    carry_out(&site, Request::Cancel, wishes, arguments.format).await
}
