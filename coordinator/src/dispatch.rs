//! Which of the open tasks are put into the queue now. Pure.
//!
//! A broker cannot be asked what is in flight, so the leader remembers what it has published and keeps only a window
//! of it in the queue: a few tasks for each worker that was heard of. A remembered task is never published again.

use std::collections::{HashMap, HashSet};

use metad2a_pipeline::tasks::{Kind, Task};

/// Tasks in the queue before any worker was heard of.
const LEAST_WINDOW: usize = 8;
/// Enough that a worker finds its next task while the coordinator hears of the last.
const PER_WORKER: usize = 4;

/// What the leader has published and not yet seen settled.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    in_flight: HashMap<String, Kind>,
    workers: HashSet<String>,
}

impl Dispatch {
    /// Hears of a worker: the window grows.
    pub(crate) fn heard_of(&mut self, worker: &str) {
        if !self.workers.contains(worker) {
            self.workers.insert(worker.to_owned());
        }
    }

    /// Forgets what is no longer open, and picks what is to be published now. The picked tasks count as in flight.
    pub(crate) fn next(&mut self, open: &[Task]) -> Vec<(String, Task)> {
        let open: Vec<(String, &Task)> = open.iter().map(|task| (task.id(), task)).collect();
        let ids: HashSet<&String> = open.iter().map(|(id, _)| id).collect();
        self.in_flight.retain(|id, _| ids.contains(id));
        let window = LEAST_WINDOW.max(PER_WORKER * self.workers.len());
        let room = window.saturating_sub(self.in_flight.len());
        let fresh = open.iter().filter(|(id, _)| !self.in_flight.contains_key(id));
        let picked: Vec<(String, Task)> =
            fresh.take(room).map(|(id, task)| (id.clone(), (*task).clone())).collect();
        self.in_flight.extend(picked.iter().map(|(id, task)| (id.clone(), task.kind())));
        picked
    }

    /// Forgets a task that could not be published.
    pub(crate) fn forget(&mut self, id: &str) {
        self.in_flight.remove(id);
    }

    /// What a reconcile has to look up.
    pub(crate) fn in_flight(&self) -> Vec<(String, Kind)> {
        self.in_flight.iter().map(|(id, kind)| (id.clone(), *kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use metad2a_pipeline::tasks::{ExtractFeatures, Extractor, ExtractorKind, Fractions};

    use super::*;

    fn tasks(count: u32) -> Vec<Task> {
        let extractor =
            Extractor { kind: ExtractorKind::Resnet18, weights_sha256: "00".repeat(32), image_size: 32 };
        (0..count)
            .map(|label| {
                Task::ExtractFeatures(ExtractFeatures {
                    source: "ab".repeat(32),
                    classes: vec![label],
                    fractions: Fractions { train: 1.0, valid: 0.0, test: 0.0 },
                    images_per_class: 1,
                    extractor: extractor.clone(),
                })
            })
            .collect()
    }

    #[test]
    fn no_task_is_published_twice() {
        let mut dispatch = Dispatch::default();
        let open = tasks(5);
        assert_eq!(dispatch.next(&open).len(), 5);
        assert_eq!(dispatch.next(&open).len(), 0);
    }

    #[test]
    fn the_window_refills_as_tasks_settle_and_grows_with_the_workers() {
        let mut dispatch = Dispatch::default();
        let open = tasks(30);
        assert_eq!(dispatch.next(&open).len(), LEAST_WINDOW);
        assert_eq!(dispatch.next(&open[3..]).len(), 3);
        for worker in ["a", "b", "c", "a"] {
            dispatch.heard_of(worker);
        }
        assert_eq!(dispatch.next(&open[3..]).len(), 3 * PER_WORKER - LEAST_WINDOW);
    }

    #[test]
    fn a_forgotten_task_is_published_again() {
        let mut dispatch = Dispatch::default();
        let open = tasks(1);
        let (id, _) = dispatch.next(&open).remove(0);
        dispatch.forget(&id);
        assert_eq!(dispatch.next(&open).len(), 1);
    }
}
