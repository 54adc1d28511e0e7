//! Decision records: `decisions/<id>/<n>.json`, put-if-absent; the highest number holds.
//!
//! Whatever depends on time or on results (which shards closed a round, a failure, a cancellation, a retry) is
//! frozen here before it is used, so that a repeated or rival coordinator decides the same.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::content::CONCURRENT_REQUESTS;
use crate::names::check_parts;
use crate::store::{parse_json, to_json};
use crate::{Error, Put, Result, Store, now, random_id};

/// A frozen choice about `id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What it is about: a task's id, or a name such as `generator/round:3`.
    pub id: String,
    /// From 0; the highest holds.
    pub number: u32,
    /// What was decided, e.g. `failed`, `cancelled`, `retry`, `closed`.
    pub decision: String,
    /// All of its particulars, in the decision's own form.
    #[serde(default)]
    pub detail: serde_json::Value,
    pub at: DateTime<Utc>,
}

/// Who decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Decided {
    /// This call did.
    Won(Decision),
    /// It had been decided before; this is the decision that holds.
    Existing(Decision),
}

impl Decided {
    /// The decision that holds, whoever took it.
    pub fn into_decision(self) -> Decision {
        match self {
            Decided::Won(decision) | Decided::Existing(decision) => decision,
        }
    }
}

/// The execution id makes two writers of the same decision tell each other apart after a lost answer.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    execution_id: String,
}

/// What was decided, without its particulars.
#[derive(Deserialize)]
struct Heading {
    decision: String,
}

fn decision_path(id: &str, number: u32) -> String {
    format!("decisions/{id}/{number}.json")
}

/// `decisions/<id>/<n>.json` → (id, n).
fn parse_path(path: &str) -> Option<(&str, u32)> {
    let (id, file) = path.strip_prefix("decisions/")?.rsplit_once('/')?;
    Some((id, file.strip_suffix(".json")?.parse().ok()?))
}

impl Store {
    /// Records a decision after all earlier ones about `id`, which it replaces.
    pub async fn decide(&self, id: &str, decision: &str, detail: serde_json::Value) -> Result<Decision> {
        loop {
            let number = self.decision_numbers(id).await?.last().map_or(0, |last| last + 1);
            if let Some(record) = self.record_decision(id, number, decision, detail.clone()).await? {
                return Ok(record);
            }
            // Somebody else took this number; ours comes after theirs.
        }
    }

    /// Records a decision directly after the one of number `after`, or as the first; none where somebody else was
    /// faster, so that the caller can look at what they decided.
    pub async fn decide_next(
        &self,
        id: &str,
        after: Option<u32>,
        decision: &str,
        detail: serde_json::Value,
    ) -> Result<Option<Decision>> {
        check_parts("decision id", id)?;
        self.record_decision(id, after.map_or(0, |after| after + 1), decision, detail).await
    }

    /// Freezes a choice: only the first caller's holds, and every other learns it.
    pub async fn decide_once(&self, id: &str, decision: &str, detail: serde_json::Value) -> Result<Decided> {
        check_parts("decision id", id)?;
        if let Some(record) = self.record_decision(id, 0, decision, detail).await? {
            return Ok(Decided::Won(record));
        }
        let holding = self.decision(id).await?;
        holding
            .map(Decided::Existing)
            .ok_or_else(|| Error::Unsettled { path: decision_path(id, 0), attempts: 1 })
    }

    /// Every decision about `id`, oldest first.
    pub async fn decisions(&self, id: &str) -> Result<Vec<Decision>> {
        let numbers = self.decision_numbers(id).await?;
        let found: Vec<Option<Decision>> = futures::stream::iter(numbers)
            .map(|number| self.read_decision(id, number))
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The decision about `id` that holds: the one with the highest number.
    pub async fn decision(&self, id: &str) -> Result<Option<Decision>> {
        check_parts("decision id", id)?;
        // Numbers begin at 0. Most tasks have no decision, and a read costs a tenth of a listing.
        let Some(first) = self.read_decision(id, 0).await? else { return Ok(None) };
        match self.decision_numbers(id).await?.last() {
            Some(number) if *number > 0 => self.read_decision(id, *number).await,
            _ => Ok(Some(first)),
        }
    }

    /// The decision that holds about every id there is one about.
    pub async fn all_decisions(&self) -> Result<BTreeMap<String, Decision>> {
        self.decisions_except(&[]).await
    }

    /// The decision that holds about every id, except where it is one of these. Their particulars, which may be
    /// large, are not kept in memory.
    pub async fn decisions_except(&self, left_out: &[&str]) -> Result<BTreeMap<String, Decision>> {
        let found = self.newer_decisions(&mut BTreeMap::new(), left_out).await?;
        Ok(found.into_iter().map(|decision| (decision.id.clone(), decision)).collect())
    }

    /// The decisions that hold and whose number is not the one `known` for their id, except where they are
    /// `left_out`: one listing, and a read for each that is news. Afterwards all of them are known.
    pub async fn newer_decisions(
        &self,
        known: &mut BTreeMap<String, u32>,
        left_out: &[&str],
    ) -> Result<Vec<Decision>> {
        let mut newest: BTreeMap<String, u32> = BTreeMap::new();
        for entry in self.list("decisions/").await? {
            if let Some((id, number)) = parse_path(&entry.path) {
                let highest = newest.entry(id.to_owned()).or_insert(number);
                *highest = number.max(*highest);
            }
        }
        newest.retain(|id, number| known.get(id) != Some(number));
        let found: Vec<Option<Decision>> = futures::stream::iter(newest.clone())
            .map(|(id, number)| async move {
                let path = decision_path(&id, number);
                let Some(bytes) = self.get(&path).await? else { return Ok(None) };
                let Heading { decision } = parse_json(&path, "decision", &bytes)?;
                if left_out.contains(&decision.as_str()) {
                    return Ok(None);
                }
                parse_json(&path, "decision", &bytes).map(Some)
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        known.extend(newest);
        Ok(found.into_iter().flatten().collect())
    }

    async fn record_decision(
        &self,
        id: &str,
        number: u32,
        decision: &str,
        detail: serde_json::Value,
    ) -> Result<Option<Decision>> {
        let decision =
            Decision { id: id.to_owned(), number, decision: decision.to_owned(), detail, at: now() };
        let path = decision_path(id, number);
        let record = to_json(&path, "decision", &Record { decision: &decision, execution_id: random_id() })?;
        Ok(match self.put_if_absent(&path, record).await? {
            Put::Created => Some(decision),
            Put::Exists => None,
        })
    }

    async fn read_decision(&self, id: &str, number: u32) -> Result<Option<Decision>> {
        let path = decision_path(id, number);
        self.get(&path).await?.map(|bytes| parse_json(&path, "decision", &bytes)).transpose()
    }

    async fn decision_numbers(&self, id: &str) -> Result<Vec<u32>> {
        check_parts("decision id", id)?;
        let mut numbers: Vec<u32> = self
            .list(&format!("decisions/{id}/"))
            .await?
            .iter()
            .filter_map(|entry| parse_path(&entry.path))
            .filter(|(found, _)| *found == id)
            .map(|(_, number)| number)
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
