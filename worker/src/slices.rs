//! What is to be done with a message of a task that is worked on in slices. Pure: no queue, no store, no clock.
//!
//! A slice ends with a record in the store, `checkpoints/<task>/<slice>.json`, of which there is one winner. The winner
//! publishes the same message again, asking for the next slice, notes in the store that it did, and acknowledges the old
//! one. What a message asks for is a hint; the store says where the work stands.
//!
//! On arrival ([`begin`]):
//!
//! | the message asks for | newest record | because | work begins at | its failures |
//! |---|---|---|---|---|
//! | slice 0 | none | it is new | 0 | count |
//! | slice n + 1 | n | it is the continuation | n + 1 | count |
//! | an older slice | n | its worker died after the record and before the continuation, or its acknowledgement was lost, or a coordinator that began anew published the task again | n + 1 | are forgotten: there was progress since |
//! | a newer slice | n or none | somebody removed records | n + 1, or 0 | count |
//!
//! At the end of an unfinished slice ([`hand_over`], then [`after_record`]):
//!
//! | checkpoint | task meanwhile | record | what is done |
//! |---|---|---|---|
//! | any | done or decided | – | acknowledge |
//! | none: told to stop before the first batch | open | – | give back, unchanged |
//! | there | open | created by us | publish the continuation, note it, acknowledge |
//! | there | open | somebody else's, who noted the continuation | acknowledge: it has a successor |
//! | there | open | somebody else's, without a note | give back: it goes on at the next slice |
//!
//! So two messages of one task, however they came about, cost at most one slice: both work on the same one, and only
//! one of them has a successor. The note is needed because the winner's message may be ours: a worker that lost its
//! connection to the broker still reaches the store, wins the record, and cannot publish. Were its rival to trust it,
//! the task would be gone.

use crate::attempts::Before;

/// Where the work on a message begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The number of the slice, and of the record that will end it.
    pub slice: u32,
    /// Failed attempts at this slice.
    pub failures: Vec<String>,
}

/// From what the message asks for and the number of the newest record.
pub fn begin(asked_for: u32, failures: &[String], newest: Option<u32>) -> Begin {
    let slice = newest.map_or(0, |newest| newest.saturating_add(1));
    let failures = if asked_for < slice { Vec::new() } else { failures.to_vec() };
    Begin { slice, failures }
}

/// What an unfinished slice asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandOver {
    /// The text says why.
    Acknowledge(&'static str),
    GiveBack,
    /// Try to create the record; [`after_record`] says how it goes on.
    Record,
}

/// `before` is read anew at the end of the slice.
pub fn hand_over(has_checkpoint: bool, before: Before) -> HandOver {
    match (before, has_checkpoint) {
        (Before::Skip(why), _) => HandOver::Acknowledge(why),
        (Before::Work, false) => HandOver::GiveBack,
        (Before::Work, true) => HandOver::Record,
    }
}

/// What follows the attempt to create a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRecord {
    /// Publish the message for the slice of this number, without failures; then note it and acknowledge the old one.
    Continue {
        slice: u32,
    },
    Acknowledge(&'static str),
    GiveBack(&'static str),
}

/// `won`: this execution created the record of `slice`. `continued`: its continuation is noted.
pub fn after_record(slice: u32, won: bool, continued: bool) -> AfterRecord {
    match (won, continued) {
        (true, _) => AfterRecord::Continue { slice: slice.saturating_add(1) },
        (false, true) => AfterRecord::Acknowledge("another worker ended this slice first"),
        (false, false) => AfterRecord::GiveBack(
            "another worker ended this slice first, and perhaps could not pass the task on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reasons(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_new_message_begins_at_the_start_and_a_continuation_behind_its_record() {
        let failed = reasons(&["crash"]);
        assert_eq!(begin(0, &failed, None), Begin { slice: 0, failures: failed.clone() });
        assert_eq!(begin(4, &failed, Some(3)), Begin { slice: 4, failures: failed });
    }

    #[test]
    fn an_older_message_goes_on_from_the_newest_record_and_its_failures_are_forgotten() {
        let failed = reasons(&["crash", "crash"]);
        for asked_for in 0..=3 {
            assert_eq!(begin(asked_for, &failed, Some(3)), Begin { slice: 4, failures: Vec::new() });
        }
    }

    #[test]
    fn a_message_whose_records_were_removed_begins_at_what_is_left() {
        let failed = reasons(&["crash"]);
        assert_eq!(begin(7, &failed, None), Begin { slice: 0, failures: failed.clone() });
        assert_eq!(begin(7, &failed, Some(2)), Begin { slice: 3, failures: failed });
    }

    #[test]
    fn a_task_that_was_decided_meanwhile_has_no_successor() {
        let skip = Before::Skip("cancelled");
        assert_eq!(hand_over(true, skip), HandOver::Acknowledge("cancelled"));
        assert_eq!(hand_over(false, skip), HandOver::Acknowledge("cancelled"));
        assert_eq!(hand_over(true, Before::Work), HandOver::Record);
        assert_eq!(hand_over(false, Before::Work), HandOver::GiveBack);
    }

    #[test]
    fn only_the_creator_of_a_record_continues_and_a_rival_trusts_its_note_alone() {
        assert_eq!(after_record(3, true, false), AfterRecord::Continue { slice: 4 });
        assert!(matches!(after_record(3, false, true), AfterRecord::Acknowledge(_)));
        assert!(matches!(after_record(3, false, false), AfterRecord::GiveBack(_)));
    }

    /// One task of some slices, its messages and the workers that hold them.
    #[derive(Debug, Default)]
    struct World {
        newest: Option<u32>,
        /// Slices whose continuation is noted.
        noted: Vec<u32>,
        done: bool,
        queue: Vec<u32>,
        held: Vec<Held>,
        /// How often each slice was worked on to its end.
        ended: Vec<u32>,
    }

    #[derive(Debug, Clone)]
    struct Held {
        asked_for: u32,
        slice: u32,
        stage: Stage,
        /// The broker has given the message to somebody else since.
        stale: bool,
    }

    #[derive(Debug, Clone, PartialEq)]
    enum Stage {
        Working,
        Recorded(bool),
        Published,
        Noted,
    }

    const SLICES: u32 = 5;

    impl World {
        fn take(&mut self) {
            let Some(asked_for) = (!self.queue.is_empty()).then(|| self.queue.remove(0)) else { return };
            if self.done {
                return;
            }
            let slice = begin(asked_for, &[], self.newest).slice;
            self.held.push(Held { asked_for, slice, stage: Stage::Working, stale: false });
        }

        /// The next thing that the holder does.
        fn advance(&mut self, place: usize) {
            let held = &mut self.held[place];
            match held.stage.clone() {
                Stage::Working if held.slice + 1 == SLICES => {
                    self.done = true;
                    self.ended.push(held.slice);
                    self.held.remove(place);
                }
                Stage::Working => {
                    let before = if self.done { Before::Skip("already done") } else { Before::Work };
                    if hand_over(true, before) != HandOver::Record {
                        self.held.remove(place);
                        return;
                    }
                    // Put-if-absent.
                    let won = self.newest.is_none_or(|newest| newest < held.slice);
                    if won {
                        assert_eq!(
                            self.newest.map_or(0, |newest| newest + 1),
                            held.slice,
                            "no slice is left out"
                        );
                        self.newest = Some(held.slice);
                        self.ended.push(held.slice);
                    }
                    held.stage = Stage::Recorded(won);
                }
                Stage::Recorded(won) => match after_record(held.slice, won, self.noted.contains(&held.slice))
                {
                    AfterRecord::Continue { slice } => {
                        held.stage = Stage::Published;
                        self.queue.push(slice);
                    }
                    AfterRecord::Acknowledge(_) => {
                        self.held.remove(place);
                    }
                    AfterRecord::GiveBack(_) => self.give_back(place),
                },
                Stage::Published => {
                    held.stage = Stage::Noted;
                    self.noted.push(held.slice);
                }
                Stage::Noted => {
                    self.held.remove(place);
                }
            }
        }

        /// The holder dies, or returns the message: it comes again, unless it has done so already.
        fn give_back(&mut self, place: usize) {
            let held = self.held.remove(place);
            if !held.stale {
                self.queue.push(held.asked_for);
            }
        }

        /// The holder loses its connection to the broker and works on.
        fn lose_connection(&mut self, place: usize) {
            let held = &mut self.held[place];
            if !held.stale {
                held.stale = true;
                self.queue.push(held.asked_for);
            }
        }

        /// A new coordinator purges what is ready and publishes the task anew.
        fn restart_coordinator(&mut self) {
            self.queue = if self.done { Vec::new() } else { vec![0] };
        }

        fn run_to_rest(&mut self) {
            for _ in 0..1_000 {
                if let Some(place) = self.held.len().checked_sub(1) {
                    self.advance(place);
                } else if self.queue.is_empty() {
                    return;
                } else {
                    self.take();
                }
            }
            panic!("the messages of one task never end: {self:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_dies_the_task_is_finished_and_no_slice_is_recorded_twice(
            moves in prop::collection::vec((0..8_u8, 0..4_usize), 0..60)
        ) {
            let mut world = World { queue: vec![0], ..World::default() };
            for (action, place) in moves {
                let place = (place < world.held.len()).then_some(place);
                match (action, place) {
                    (0..=1, _) => world.take(),
                    (2..=4, Some(place)) => world.advance(place),
                    (5, Some(place)) => world.give_back(place),
                    (6, _) => world.restart_coordinator(),
                    (7, Some(place)) => world.lose_connection(place),
                    _ => {}
                }
                let is_there = !world.queue.is_empty() || world.held.iter().any(|held| !held.stale);
                prop_assert!(world.done || is_there, "the task is lost: {:?}", world);
            }
            world.run_to_rest();
            prop_assert!(world.done);
            let mut recorded: Vec<u32> = world.ended.iter().copied().filter(|slice| slice + 1 < SLICES).collect();
            recorded.dedup();
            prop_assert_eq!(recorded, (0..SLICES - 1).collect::<Vec<_>>());
        }
    }
}
