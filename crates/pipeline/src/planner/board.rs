//! Bookkeeping of a stage whose work is known beforehand: what is done, failed and open, place by place.
//!
//! A place is looked at when the board is set up, and again only when something is learnt that may concern it. So a
//! plan after an event costs what has changed, however large the study is. The index holds four bytes of each id: two
//! ids that share them make a place be looked at in vain, which harms nobody.

use std::collections::BTreeSet;

use super::Progress;
use crate::ids::Id;
use crate::verdict::Verdict;

/// What one look at a place found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) done: u16,
    pub(super) failed: u16,
    pub(super) cancelled: u16,
    pub(super) dropped: u16,
    /// Whether it has tasks that may run.
    pub(super) open: bool,
}

impl Look {
    /// At one task that will not be done.
    pub(super) fn stopped(verdict: Verdict) -> Self {
        let mut look = Self::default();
        look.count_stopped(verdict);
        look
    }

    pub(super) fn count_stopped(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Cancelled => self.cancelled += 1,
            Verdict::Dropped => self.dropped += 1,
            Verdict::Failed | Verdict::Retry => self.failed += 1,
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    looks: Vec<Look>,
    progress: Progress,
    open: BTreeSet<u32>,
    failed: BTreeSet<u32>,
    /// Sorted: (first bytes of an id, place that it concerns).
    index: Vec<(u32, u32)>,
    /// Places whose open tasks may be others since the last call of [`Board::take_changes`].
    changed: BTreeSet<u32>,
}

impl Board {
    /// A board of `total` units of progress. `look` says of every place what it found, and the ids that concern it.
    pub(super) fn new(places: usize, total: u64, mut look: impl FnMut(u32, &mut Vec<Id>) -> Look) -> Self {
        let mut board = Self { looks: vec![Look::default(); places], ..Self::default() };
        board.progress.total = total;
        let mut ids = Vec::new();
        for place in 0..places as u32 {
            let found = look(place, &mut ids);
            board.index.extend(ids.drain(..).map(|id| (id.prefix(), place)));
            board.put(place, found);
        }
        board.index.sort_unstable();
        board.index.shrink_to_fit();
        board
    }

    /// Enters what a new look at a place found.
    pub(super) fn put(&mut self, place: u32, look: Look) {
        let before = std::mem::replace(&mut self.looks[place as usize], look);
        let enter = |sum: &mut u64, now: u16, before: u16| *sum = *sum + u64::from(now) - u64::from(before);
        enter(&mut self.progress.done, look.done, before.done);
        enter(&mut self.progress.failed, look.failed, before.failed);
        enter(&mut self.progress.cancelled, look.cancelled, before.cancelled);
        enter(&mut self.progress.dropped, look.dropped, before.dropped);
        if look.open || before.open {
            self.changed.insert(place);
        }
        keep(&mut self.open, place, look.open);
        keep(&mut self.failed, place, look.failed > 0);
    }

    /// The places that an id may concern.
    pub(super) fn concerned(&self, id: Id) -> Vec<u32> {
        let prefix = id.prefix();
        let first = self.index.partition_point(|(known, _)| *known < prefix);
        self.index[first..]
            .iter()
            .take_while(|(known, _)| *known == prefix)
            .map(|(_, place)| *place)
            .collect()
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    pub(super) fn open(&self) -> impl Iterator<Item = u32> {
        self.open.iter().copied()
    }

    pub(super) fn has(&self, place: u32) -> bool {
        (place as usize) < self.looks.len()
    }

    pub(super) fn is_open(&self, place: u32) -> bool {
        self.open.contains(&place)
    }

    /// Places with failures.
    pub(super) fn failed(&self) -> impl Iterator<Item = u32> {
        self.failed.iter().copied()
    }

    pub(super) fn take_changes(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.changed)
    }
}

fn keep(set: &mut BTreeSet<u32>, place: u32, wanted: bool) {
    if wanted {
        set.insert(place);
    } else {
        set.remove(&place);
    }
}
