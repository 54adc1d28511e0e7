//! Which of the open tasks are put into the queue now, and which are looked up. Pure: time comes in as a value.
//!
//! A broker cannot be asked what is in flight, so the leader remembers what it has published and keeps only a window
//! of it in the queue: a few tasks for each worker that was heard of. A remembered task is not published again, unless
//! a deadline of its own has passed or it was lost: no worker has told of it for long, though none waits. Events tell what is finished; for those that were lost, a task in flight is
//! looked up now and then, the longer it has been out the more rarely, and never more than a few at a time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use metad2a_pipeline::planner::{Age, Flight, Place};
use metad2a_pipeline::tasks::{Kind, Task};
use tokio::time::Instant;

/// Tasks in the queue before any worker was heard of.
const LEAST_WINDOW: usize = 8;
/// Enough that a worker finds its next task while the coordinator hears of the last.
const PER_WORKER: usize = 4;
/// Tasks looked up at a time: 500 workers with a window of 2,000 cost ten requests a second at most.
const LOOKS: usize = 100;
/// Until the first look at a task, and after a sign of life.
const FIRST_LOOK: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// What is open, place by place.
pub(crate) trait Open {
    /// The open tasks at a place, with their ids.
    fn tasks(&self, place: Place) -> Vec<(String, Task)>;
}

/// What the leader has published and not yet seen settled.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    in_flight: HashMap<String, InFlight>,
    /// The ids in flight of each place.
    at: HashMap<Place, Vec<String>>,
    /// Places that may have tasks which are not in flight.
    waiting: BTreeSet<Place>,
    workers: HashSet<String>,
}

#[derive(Debug)]
struct InFlight {
    place: Place,
    kind: Kind,
    first: Instant,
    last: Instant,
    /// When it was published or a worker last told of it.
    heard: Instant,
    /// When it is looked up next.
    look: Instant,
}

impl Dispatch {
    /// Hears of a worker: the window grows.
    pub(crate) fn heard_of(&mut self, worker: &str) {
        if !self.workers.contains(worker) {
            self.workers.insert(worker.to_owned());
        }
    }

    /// Hears that a task is being worked on: it need not be looked up soon.
    pub(crate) fn is_alive(&mut self, id: &str, now: Instant) {
        if let Some(task) = self.in_flight.get_mut(id) {
            task.look = task.look.max(now + pause(now - task.last));
            task.heard = now;
        }
    }

    /// The tasks of which nothing was heard for so long. Workers tell of a task before that, so if none waits in the
    /// queue, these were lost there.
    pub(crate) fn silent(&self, after: Duration, now: Instant) -> Vec<String> {
        let silent = self.in_flight.iter().filter(|(_, task)| now - task.heard > after);
        silent.map(|(id, _)| id.clone()).collect()
    }

    /// Hears that the tasks of these places may be others: forgets those that are no longer open.
    pub(crate) fn changed(&mut self, places: impl IntoIterator<Item = Place>, open: &impl Open) {
        for place in places {
            if let Some(ids) = self.at.remove(&place) {
                let tasks = open.tasks(place);
                let is_open = |id: &String| tasks.iter().any(|(open, _)| open == id);
                let (kept, settled): (Vec<String>, Vec<String>) = ids.into_iter().partition(is_open);
                for id in settled {
                    self.in_flight.remove(&id);
                }
                if !kept.is_empty() {
                    self.at.insert(place, kept);
                }
            }
            self.waiting.insert(place);
        }
    }

    /// Picks what is to be published now, the most urgent first. The picked tasks count as in flight.
    pub(crate) fn next(&mut self, open: &impl Open, now: Instant) -> Vec<(String, Task)> {
        let window = LEAST_WINDOW.max(PER_WORKER * self.workers.len());
        let mut picked = Vec::new();
        while self.in_flight.len() < window {
            let Some(place) = self.waiting.pop_first() else { break };
            for (id, task) in open.tasks(place) {
                if self.in_flight.contains_key(&id) {
                    continue;
                }
                if self.in_flight.len() == window {
                    self.waiting.insert(place);
                    break;
                }
                let kind = task.kind();
                let look = now + FIRST_LOOK;
                self.in_flight
                    .insert(id.clone(), InFlight { place, kind, first: now, last: now, heard: now, look });
                self.at.entry(place).or_default().push(id.clone());
                picked.push((id, task));
            }
        }
        picked
    }

    /// A task in flight, to be published once more.
    pub(crate) fn once_more(&self, id: &str, open: &impl Open) -> Option<(String, Task)> {
        let place = self.in_flight.get(id)?.place;
        open.tasks(place).into_iter().find(|(open, _)| open == id)
    }

    /// The task was published once more: its deadline begins anew.
    pub(crate) fn was_repeated(&mut self, id: &str, now: Instant) {
        if let Some(task) = self.in_flight.get_mut(id) {
            task.last = now;
            task.heard = now;
        }
    }

    /// Forgets a task that could not be published, or was lost.
    pub(crate) fn forget(&mut self, id: &str) {
        let Some(InFlight { place, .. }) = self.in_flight.remove(id) else { return };
        if let Some(ids) = self.at.get_mut(&place) {
            ids.retain(|known| known != id);
        }
        self.waiting.insert(place);
    }

    /// What was published and is not settled.
    pub(crate) fn in_flight(&self) -> Vec<(String, Kind)> {
        self.in_flight.iter().map(|(id, task)| (id.clone(), task.kind)).collect()
    }

    /// How long the tasks with a deadline have been out.
    pub(crate) fn flight(&self, now: Instant) -> Flight {
        let mut flight = Flight::default();
        for (id, task) in self.in_flight.iter().filter(|(_, task)| task.kind == Kind::TrainEpisodes) {
            flight.add(id.clone(), Age { first: now - task.first, last: now - task.last });
        }
        flight
    }

    /// The tasks whose turn it is to be looked up, those that have waited longest first.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(String, Kind)> {
        let due = self.in_flight.iter().filter(|(_, task)| task.look <= now);
        let mut due: Vec<(Instant, String)> = due.map(|(id, task)| (task.look, id.clone())).collect();
        due.sort_unstable();
        due.truncate(LOOKS);
        let mut looks = Vec::with_capacity(due.len());
        for (_, id) in due {
            if let Some(task) = self.in_flight.get_mut(&id) {
                task.look = now + pause(now - task.last);
                looks.push((id, task.kind));
            }
        }
        looks
    }
}

/// Between two looks at a task that has been out for `age`: each is half as long again as the last.
fn pause(age: Duration) -> Duration {
    (age / 2).clamp(FIRST_LOOK, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use metad2a_pipeline::planner::Stage;
    use metad2a_pipeline::tasks::{ExtractFeatures, Extractor, ExtractorKind, Fractions, Look};

    use super::*;

    /// One task a place, as many as are left.
    struct Tasks(BTreeSet<u32>);

    impl Open for Tasks {
        fn tasks(&self, place: Place) -> Vec<(String, Task)> {
            self.0.get(&place.number).map(|label| (task(*label).id(), task(*label))).into_iter().collect()
        }
    }

    fn task(label: u32) -> Task {
        let extractor =
            Extractor { kind: ExtractorKind::Resnet18, weights_sha256: "00".repeat(32), image_size: 32 };
        Task::ExtractFeatures(ExtractFeatures {
            source: "ab".repeat(32),
            classes: vec![label],
            fractions: Fractions { train: 1.0, valid: 0.0, test: 0.0 },
            images_per_class: 1,
            extractor,
            look: Look::default(),
        })
    }

    fn place(number: u32) -> Place {
        Place { stage: Stage::Features, number }
    }

    fn dispatch(count: u32) -> (Dispatch, Tasks) {
        let open = Tasks((0..count).collect());
        let mut dispatch = Dispatch::default();
        dispatch.changed((0..count).map(place), &open);
        (dispatch, open)
    }

    fn settle(dispatch: &mut Dispatch, open: &mut Tasks, number: u32) {
        open.0.remove(&number);
        dispatch.changed([place(number)], open);
    }

    #[test]
    fn no_task_is_published_twice() {
        let (mut dispatch, open) = dispatch(5);
        let now = Instant::now();
        assert_eq!(dispatch.next(&open, now).len(), 5);
        dispatch.changed((0..5).map(place), &open);
        assert_eq!(dispatch.next(&open, now).len(), 0);
    }

    #[test]
    fn the_window_refills_as_tasks_settle_and_grows_with_the_workers() {
        let (mut dispatch, mut open) = dispatch(30);
        let now = Instant::now();
        assert_eq!(dispatch.next(&open, now).len(), LEAST_WINDOW);
        for number in 0..3 {
            settle(&mut dispatch, &mut open, number);
        }
        assert_eq!(dispatch.next(&open, now).len(), 3);
        for worker in ["a", "b", "c", "a"] {
            dispatch.heard_of(worker);
        }
        assert_eq!(dispatch.next(&open, now).len(), 3 * PER_WORKER - LEAST_WINDOW);
    }

    #[test]
    fn the_most_urgent_place_goes_first_whenever_it_opens() {
        let (mut dispatch, mut open) = dispatch(30);
        let now = Instant::now();
        dispatch.next(&open, now);
        settle(&mut dispatch, &mut open, 3);
        open.0.insert(3);
        dispatch.changed([place(3)], &open);
        assert_eq!(dispatch.next(&open, now), [(task(3).id(), task(3))]);
    }

    #[test]
    fn a_forgotten_task_is_published_again() {
        let (mut dispatch, open) = dispatch(1);
        let now = Instant::now();
        let (id, _) = dispatch.next(&open, now).remove(0);
        dispatch.forget(&id);
        assert_eq!(dispatch.next(&open, now).len(), 1);
    }

    #[test]
    fn a_task_in_flight_is_published_once_more_only_while_it_is_open() {
        let (mut dispatch, mut open) = dispatch(2);
        dispatch.next(&open, Instant::now());
        let id = task(1).id();
        assert_eq!(dispatch.once_more(&id, &open), Some((id.clone(), task(1))));
        settle(&mut dispatch, &mut open, 1);
        assert_eq!(dispatch.once_more(&id, &open), None);
    }

    #[test]
    fn looks_are_few_and_grow_rarer_with_a_tasks_age() {
        let (mut dispatch, open) = dispatch(2_000);
        for worker in 0..500 {
            dispatch.heard_of(&worker.to_string());
        }
        let start = Instant::now();
        assert_eq!(dispatch.next(&open, start).len(), 2_000);
        let mut looks: HashMap<String, u32> = HashMap::new();
        for seconds in (0..3_600).step_by(10) {
            let due = dispatch.due(start + Duration::from_secs(seconds));
            assert!(due.len() <= LOOKS);
            for (id, _) in due {
                *looks.entry(id).or_default() += 1;
            }
        }
        assert_eq!(looks.len(), 2_000, "each is looked up");
        assert!(looks.values().all(|count| (5..20).contains(count)), "some 5 to 20 times in an hour");
    }

    #[test]
    fn a_task_is_silent_when_nobody_has_told_of_it_since_it_was_published() {
        let (mut dispatch, open) = dispatch(3);
        let (start, long) = (Instant::now(), Duration::from_mins(10));
        dispatch.next(&open, start);
        let later = start + long;
        assert!(dispatch.silent(long, later).is_empty());
        dispatch.is_alive(&task(0).id(), later);
        dispatch.was_repeated(&task(1).id(), later);
        assert_eq!(dispatch.silent(long, later + Duration::from_secs(1)), [task(2).id()]);
        assert_eq!(dispatch.silent(long, later + 2 * long).len(), 3);
    }

    #[test]
    fn a_sign_of_life_postpones_the_look() {
        let (mut dispatch, open) = dispatch(2);
        let start = Instant::now();
        dispatch.next(&open, start);
        let later = start + FIRST_LOOK;
        dispatch.is_alive(&task(0).id(), later);
        assert_eq!(dispatch.due(later), [(task(1).id(), Kind::ExtractFeatures)]);
    }
}
