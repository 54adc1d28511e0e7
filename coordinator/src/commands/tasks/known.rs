//! What store and plan know of tasks.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_database::{Decision, Store};
use metad2a_pipeline::ids::{PrefixError, resolve};
use metad2a_pipeline::planner::{Plan, plan};
use metad2a_pipeline::study::Study;
use metad2a_pipeline::tasks::{Kind, Task};
use metad2a_pipeline::verdict::{Verdict, VerdictDetail};

use super::Wish;
use crate::site::Site;
use crate::{ledger, sources};

/// The newest decision about a task.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Stopped {
    pub(in crate::commands) verdict: Verdict,
    pub(in crate::commands) decision: Decision,
    pub(in crate::commands) detail: VerdictDetail,
}

/// Finished tasks and people's decisions: of the whole store, since pipelines that share it share their work.
#[derive(Debug, Default)]
pub(in crate::commands) struct Known {
    /// By id; never those of finished tasks.
    pub(in crate::commands) stopped: BTreeMap<String, Stopped>,
    /// Id → kind.
    pub(in crate::commands) done: BTreeMap<String, Kind>,
}

impl Known {
    /// Two listings, and a read for each decision.
    pub(in crate::commands) async fn read(store: &Store) -> anyhow::Result<Self> {
        let mut known = Self::default();
        for kind in Kind::ALL {
            known.done.extend(store.done_ids(kind.name()).await?.into_iter().map(|id| (id, kind)));
        }
        for (id, decision) in store.decisions_except(&[ledger::TRAINING_SET]).await? {
            let Some(verdict) = Verdict::of(&decision.decision) else { continue };
            if !known.done.contains_key(&id) {
                let detail = ledger::verdict_detail(&decision)?;
                known.stopped.insert(id, Stopped { verdict, decision, detail });
            }
        }
        Ok(known)
    }

    pub(in crate::commands) fn ids(&self) -> impl Iterator<Item = &str> {
        self.stopped.keys().chain(self.done.keys()).map(String::as_str)
    }

    /// Those of a verdict, of this pipeline or of one that was not recorded.
    pub(in crate::commands) fn of_pipeline(&self, verdict: Verdict, pipeline: &str) -> Vec<Wish> {
        self.stopped
            .iter()
            .filter(|(_, stopped)| stopped.verdict == verdict)
            .filter(|(_, stopped)| stopped.detail.pipeline.as_deref().is_none_or(|name| name == pipeline))
            .filter_map(|(id, _)| self.wish(id))
            .collect()
    }

    /// The tasks that a person means by these beginnings of ids.
    pub(in crate::commands) fn named(&self, prefixes: &[String]) -> Result<Vec<Wish>, PrefixError> {
        let ids: BTreeSet<String> =
            prefixes.iter().map(|prefix| resolve(prefix, self.ids())).collect::<Result<_, _>>()?;
        Ok(ids.iter().filter_map(|id| self.wish(id)).collect())
    }

    /// A task as far as it is known.
    pub(in crate::commands) fn wish(&self, id: &str) -> Option<Wish> {
        if let Some(kind) = self.done.get(id) {
            return Some(Wish { id: id.to_owned(), kind: Some(*kind), task: None });
        }
        let stopped = self.stopped.get(id)?;
        let kind = stopped.detail.task.as_ref().map(Task::kind);
        Some(Wish { id: id.to_owned(), kind, task: stopped.detail.task.clone() })
    }
}

/// What the pipeline's file and the store say together.
#[derive(Debug)]
pub(in crate::commands) struct Planned {
    pub(in crate::commands) study: Study,
    pub(in crate::commands) plan: Plan,
}

impl Planned {
    pub(in crate::commands) async fn read(site: &Site) -> anyhow::Result<Self> {
        let study = sources::design(site.project.specification.clone()).await?;
        let existing = site.existing().await?;
        let plan = plan(&study, &existing)?;
        Ok(Self { study, plan })
    }
}
