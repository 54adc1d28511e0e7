//! When a worker leaves by itself: after so many tasks, or after so long without one.
//!
//! Leaving is gentler than stopping: no slot begins another task, and what is in hand is finished. So a cluster that
//! starts workers by the queue's length needs to stop none of them.
//!
//! Deliberately absent: a look at the queue. A queue that is empty now says nothing about the next minute, and asking
//! it costs the broker; only what this worker was given counts.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What ends a shift. Nothing does by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Leave after so long in which no slot had a task.
    pub idle: Option<Duration>,
    /// Leave after so many tasks, of all slots together; those that needed no work count too.
    pub tasks: Option<NonZeroU32>,
}

/// The shift of one worker, shared by its slots.
#[derive(Debug)]
pub(super) struct Shift {
    limits: Limits,
    /// One permit for every task that may still begin.
    places: Semaphore,
    done: AtomicU32,
    activity: watch::Sender<Activity>,
    over: CancellationToken,
}

#[derive(Debug, Clone, Copy)]
struct Activity {
    slots_at_work: u32,
    /// Counts from here while no slot is at work.
    idle_since: Instant,
}

/// The right to take one message; dropped without [`Place::used`], somebody else may take one instead.
#[derive(Debug)]
pub(super) struct Place<'a> {
    shift: &'a Shift,
    permit: SemaphorePermit<'a>,
}

/// A slot has a message in hand.
#[derive(Debug)]
pub(super) struct AtWork<'a> {
    shift: &'a Shift,
}

impl Shift {
    pub(super) fn new(limits: Limits) -> Self {
        let places = limits.tasks.map_or(Semaphore::MAX_PERMITS, |tasks| tasks.get() as usize);
        Self {
            limits,
            places: Semaphore::new(places),
            done: AtomicU32::new(0),
            activity: watch::Sender::new(Activity { slots_at_work: 0, idle_since: Instant::now() }),
            over: CancellationToken::new(),
        }
    }

    /// Cancelled when no slot may begin another task.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// Waits while the tasks in hand may be the last ones; `None` when the shift is over.
    pub(super) async fn place(&self) -> Option<Place<'_>> {
        tokio::select! {
            biased;
            () = self.over.cancelled() => None,
            permit = self.places.acquire() => permit.ok().map(|permit| Place { shift: self, permit }),
        }
    }

    /// From here until the guard is dropped the worker is not idle.
    pub(super) fn at_work(&self) -> AtWork<'_> {
        self.activity.send_modify(|activity| activity.slots_at_work += 1);
        AtWork { shift: self }
    }

    /// Ends the shift when nothing has happened for long enough. Never returns where there is no such limit.
    pub(super) async fn end_when_idle(&self) {
        let Some(limit) = self.limits.idle else { return std::future::pending().await };
        let mut activity = self.activity.subscribe();
        loop {
            let Activity { slots_at_work, idle_since } = *activity.borrow_and_update();
            let idle_for_too_long = async {
                if slots_at_work > 0 {
                    return std::future::pending().await;
                }
                tokio::time::sleep_until(idle_since + limit).await;
            };
            tokio::select! {
                () = idle_for_too_long => {
                    tracing::info!(seconds = limit.as_secs(), "no task for so long: leaving");
                    self.over.cancel();
                    return;
                }
                // The sender is `self`, so this is always a change.
                _ = activity.changed() => {}
            }
        }
    }
}

impl Place<'_> {
    /// The message was dealt with.
    pub(super) fn used(self) {
        let Some(limit) = self.shift.limits.tasks else { return };
        self.permit.forget();
        if self.shift.done.fetch_add(1, Ordering::Relaxed) + 1 == limit.get() {
            tracing::info!(tasks = limit, "enough tasks done: leaving");
            self.shift.over.cancel();
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.shift.activity.send_modify(|activity| {
            activity.slots_at_work -= 1;
            activity.idle_since = Instant::now();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_mins(1);

    fn idle() -> Shift {
        Shift::new(Limits { idle: Some(IDLE), tasks: None })
    }

    fn tasks(number: u32) -> Shift {
        Shift::new(Limits { idle: None, tasks: NonZeroU32::new(number) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_shift_without_limits_never_ends() {
        let shift = Shift::new(Limits::default());
        for _ in 0..100 {
            shift.place().await.unwrap().used();
        }
        let a_year = Duration::from_hours(24 * 365);
        assert!(tokio::time::timeout(a_year, shift.end_when_idle()).await.is_err());
        assert!(!shift.over().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_shift_ends_exactly_after_its_limit() {
        let shift = idle();
        let start = Instant::now();
        shift.end_when_idle().await;
        assert_eq!(start.elapsed(), IDLE);
        assert!(shift.over().is_cancelled());
        assert!(shift.place().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_counts_from_the_end_of_the_last_task_of_any_slot() {
        let shift = idle();
        let start = Instant::now();
        let slots = async {
            let (one, another) = (shift.at_work(), shift.at_work());
            tokio::time::sleep(IDLE * 3).await;
            drop(one);
            tokio::time::sleep(IDLE * 2).await;
            drop(another);
        };
        tokio::join!(slots, shift.end_when_idle());
        assert_eq!(start.elapsed(), IDLE * 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_used_place_ends_the_shift() {
        let shift = tasks(2);
        shift.place().await.unwrap().used();
        assert!(!shift.over().is_cancelled());
        shift.place().await.unwrap().used();
        assert!(shift.over().is_cancelled());
        assert!(shift.place().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_was_not_used_goes_to_the_slot_that_waits_for_one() {
        let shift = tasks(1);
        let unused = shift.place().await.unwrap();
        let mut waiting = Box::pin(shift.place());
        assert!(tokio::time::timeout(IDLE, &mut waiting).await.is_err(), "the only place is taken");
        drop(unused);
        assert!(waiting.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn done_tasks_and_those_in_hand_together_are_never_more_than_the_limit() {
        let shift = tasks(2);
        shift.place().await.unwrap().used();
        let in_hand = shift.place().await.unwrap();
        assert!(tokio::time::timeout(IDLE, shift.place()).await.is_err(), "a third task may not begin");
        in_hand.used();
        assert!(shift.over().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_waits_for_a_place_leaves_when_the_last_one_is_used() {
        let shift = tasks(1);
        let place = shift.place().await.unwrap();
        let ((), waiting) = tokio::join!(async { place.used() }, shift.place());
        assert!(waiting.is_none());
    }
}
