//! Tasks that end in several slices, and workers that are told to stop.

use metad2a_database::{Checkpoint, FileRef, Recorded, now, random_id};

use super::*;
use crate::protocol::Paused;

impl World {
    async fn checkpoint_file(&self, envelope: &Envelope, content: &'static str) -> FileRef {
        let id = envelope.task.id();
        self.store.put_checkpoint_file(&id, "state.json", content.into()).await.unwrap()
    }

    /// The end of a slice, with one file.
    async fn slice_over(&self, envelope: &Envelope, content: &'static str) -> Signal {
        let files = vec![self.checkpoint_file(envelope, content).await];
        Signal::Paused(Box::new(Paused { files, done: 1, total: 3 }))
    }

    /// The end of a slice by an earlier worker.
    async fn checkpoint(&self, envelope: &Envelope, slice: u32) -> Checkpoint {
        Checkpoint {
            kind: "search".into(),
            id: envelope.task.id(),
            slice,
            execution_id: random_id(),
            worker: "earlier".into(),
            device: "cpu".into(),
            files: vec![self.checkpoint_file(envelope, "earlier").await],
            started_at: now(),
            recorded_at: now(),
            seconds: 100.0,
            done: 1,
            total: 3,
        }
    }

    /// A record that an earlier worker left.
    async fn record(&self, envelope: &Envelope, slice: u32) -> Checkpoint {
        let checkpoint = self.checkpoint(envelope, slice).await;
        self.store.record_checkpoint(&checkpoint).await.unwrap();
        checkpoint
    }

    async fn newest_record(&self, envelope: &Envelope) -> Option<u32> {
        self.store.checkpoints(&envelope.task.id()).await.unwrap().newest
    }

    /// What waits in the queue, if anything does.
    async fn waiting(&self) -> Option<Envelope> {
        let (message, _) = self.next_message().await?;
        Some(Envelope::decode(&message.body).unwrap())
    }

    fn slices_of_jobs(&self) -> Vec<u32> {
        self.jobs.lock().unwrap().iter().map(|job| job.envelope.slice).collect()
    }
}

fn is_started(event: &Event) -> bool {
    matches!(event, Event::Started { .. })
}

fn is_sliced(event: &Event) -> bool {
    matches!(event, Event::Sliced { .. })
}

#[tokio::test(start_paused = true)]
async fn an_ended_slice_is_recorded_and_goes_on_behind_its_record_until_the_task_is_committed() {
    let world = World::new().await;
    let envelope = envelope(3);
    let id = envelope.task.id();
    world.publish(&envelope).await;
    let signals =
        [world.slice_over(&envelope, "first").await, world.slice_over(&envelope, "second").await, success()];
    let events = world.work_until(world.compute(signals), is_finished).await;

    let slices: Vec<u32> = events
        .iter()
        .filter_map(|event| match event {
            Event::Sliced { slice, done: 1, total: 3, .. } => Some(*slice),
            _ => None,
        })
        .collect();
    assert_eq!(slices, [0, 1]);
    let jobs = world.jobs.lock().unwrap().clone();
    let newest = |number: usize| jobs[number].checkpoints.first().map(|checkpoint| checkpoint.slice);
    assert_eq!([newest(0), newest(1), newest(2)], [None, Some(0), Some(1)]);
    assert_eq!(world.slices_of_jobs(), [0, 1, 2]);
    assert_eq!(jobs[2].checkpoints.len(), 2, "the one before is there, should the newest be damaged");
    assert!(world.store.marker("search", &id).await.unwrap().is_some());
    assert!(world.next_message().await.is_none(), "every message has its answer");
    assert!(world.store.list("checkpoints/").await.unwrap().is_empty(), "nothing is left of the checkpoints");
}

#[tokio::test(start_paused = true)]
async fn a_task_is_told_how_long_its_slice_is() {
    let world = World::new().await;
    world.publish(&envelope(1)).await;
    world.work_until(world.compute([success()]), is_finished).await;
    assert_eq!(world.jobs.lock().unwrap()[0].slice_seconds, 600);
}

#[tokio::test(start_paused = true)]
async fn a_marker_counts_the_seconds_of_all_slices() {
    let world = World::new().await;
    let envelope = envelope(3);
    let earlier = world.record(&envelope, 0).await;
    world.publish(&envelope).await;
    world.work_until(world.compute([success()]), is_finished).await;
    let marker = world.store.marker("search", &envelope.task.id()).await.unwrap().unwrap();
    assert!(marker.seconds >= earlier.seconds, "{}", marker.seconds);
    assert_eq!(marker.started_at, earlier.started_at);
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_slice_has_a_record_already_goes_on_instead_of_being_lost() {
    let world = World::new().await;
    let envelope = Envelope { failures: vec!["crash".into(), "crash".into()], ..envelope(3) };
    // Its worker died between the record and the continuation.
    let record = world.record(&envelope, 0).await;
    world.publish(&envelope).await;
    world.work_until(world.compute([success()]), is_finished).await;
    let jobs = world.jobs.lock().unwrap().clone();
    assert_eq!((jobs[0].envelope.slice, &jobs[0].checkpoints), (1, &vec![record]));
    assert!(jobs[0].envelope.failures.is_empty(), "there was progress since");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_a_new_coordinator_publishes_again_goes_on_from_the_newest_checkpoint() {
    let world = World::new().await;
    let envelope = envelope(3);
    for slice in 0..4 {
        world.record(&envelope, slice).await;
    }
    world.publish(&envelope).await;
    world.work_until(world.compute([success()]), is_finished).await;
    assert_eq!(world.slices_of_jobs(), [4]);
}

#[tokio::test(start_paused = true)]
async fn progress_takes_back_the_failures_before_it() {
    let world = World::new().await;
    let envelope = envelope(2);
    world.publish(&envelope).await;
    let over = world.slice_over(&envelope, "first").await;
    // One failure is allowed at each slice; together they would be too many.
    let signals = [crash(), over, crash(), success()];
    world.work_until(world.compute(signals), is_finished).await;
    assert!(world.store.marker("search", &envelope.task.id()).await.unwrap().is_some());
    let failures: Vec<usize> =
        world.jobs.lock().unwrap().iter().map(|job| job.envelope.failures.len()).collect();
    assert_eq!(failures, [0, 1, 0, 1]);
    assert_eq!(world.slices_of_jobs(), [0, 0, 1, 1]);
}

/// A compute whose slice somebody else ends meanwhile, with a note or without.
async fn overtaken(world: &World, envelope: &Envelope, noted: bool) -> Scripted {
    let mut compute = world.compute([world.slice_over(envelope, "ours").await, success()]);
    let winner = world.checkpoint(envelope, 0).await;
    let store = world.store.clone();
    compute.meanwhile = Some(Box::new(move || {
        let (store, winner) = (store.clone(), winner.clone());
        Box::pin(async move {
            let won = store.record_checkpoint(&winner).await.unwrap() == Recorded::Won;
            if won && noted {
                store.note_continuation(&winner.id, 0).await.unwrap();
            }
        })
    }));
    compute
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_a_record_to_a_continuation_acknowledges_without_one() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let events = world.work_until(overtaken(&world, &envelope, true).await, is_started).await;
    assert!(!events.iter().any(is_sliced));
    assert!(world.waiting().await.is_none(), "the winner has published");
    assert_eq!(world.slices_of_jobs(), [0]);
    let records = world.store.checkpoints(&envelope.task.id()).await.unwrap();
    assert_eq!(records.usable[0].worker, "earlier");
}

#[tokio::test(start_paused = true)]
async fn whoever_loses_a_record_that_nobody_continues_goes_on_behind_it() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    // The winner had lost its connection to the broker, or died.
    world.work_until(overtaken(&world, &envelope, false).await, is_finished).await;
    assert_eq!(world.slices_of_jobs(), [0, 1]);
    assert!(world.store.marker("search", &envelope.task.id()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_continuation_is_noted_before_the_old_message_is_acknowledged() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let over = world.slice_over(&envelope, "first").await;
    world.work_until(world.compute([over]), is_sliced).await;
    assert!(world.store.is_continued(&envelope.task.id(), 0).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_cancelled_during_a_slice_does_not_go_on() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let mut compute = world.compute([world.slice_over(&envelope, "first").await]);
    let (store, task) = (world.store.clone(), envelope.task.id());
    compute.meanwhile = Some(Box::new(move || {
        let (store, task) = (store.clone(), task.clone());
        Box::pin(async move {
            store.decide(&task, "cancelled", json!({})).await.unwrap();
        })
    }));
    world.work_until(compute, is_started).await;
    assert!(world.waiting().await.is_none());
    assert_eq!(world.newest_record(&envelope).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_data_is_not_in_the_store_is_not_recorded_and_the_task_stays() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let files =
        vec![FileRef { path: "checkpoints/x/0".into(), sha256: "00".repeat(32), bytes: 1, rows: None }];
    let lost = Signal::Paused(Box::new(Paused { files, done: 1, total: 3 }));
    // It is given back and taken again after a pause.
    world.work_until(world.compute([lost, success()]), is_finished).await;
    assert_eq!(world.slices_of_jobs(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_worker_hands_its_task_over_as_a_continuation_and_leaves_at_once() {
    let world = World::new().await;
    let envelope = Envelope { failures: vec!["crash".into()], ..envelope(3) };
    world.publish(&envelope).await;
    let mut compute = world.compute([]);
    compute.when_asked_to_pause = Some(world.slice_over(&envelope, "first").await);
    let started = tokio::time::Instant::now();
    world.work_until(compute, is_started).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let (message, redelivered) = world.next_message().await.expect("the continuation");
    assert!(!redelivered);
    assert_eq!(message.id, envelope.task.id());
    let waiting = Envelope::decode(&message.body).unwrap();
    assert_eq!((waiting.slice, waiting.failures), (1, Vec::new()));
    assert_eq!(world.newest_record(&envelope).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_finished_while_its_worker_stops_is_committed() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let mut compute = world.compute([]);
    compute.when_asked_to_pause = Some(success());
    world.work_until(compute, is_started).await;
    assert!(world.store.marker("search", &envelope.task.id()).await.unwrap().is_some());
    assert!(world.next_message().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_no_checkpoint_in_time_is_killed_and_its_task_given_back() {
    let world = World::new().await;
    let envelope = envelope(1);
    world.publish(&envelope).await;
    let started = tokio::time::Instant::now();
    world.work_until(world.compute([]), is_started).await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_secs(20) && waited < Duration::from_secs(25), "{waited:?}");
    let (message, redelivered) = world.next_message().await.expect("given back");
    assert!(redelivered);
    assert!(Envelope::decode(&message.body).unwrap().failures.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_without_its_first_batch_is_given_back_unchanged() {
    let world = World::new().await;
    let envelope = envelope(1);
    world.publish(&envelope).await;
    let mut compute = world.compute([]);
    let nothing = Paused { files: Vec::new(), done: 0, total: 0 };
    compute.when_asked_to_pause = Some(Signal::Paused(Box::new(nothing)));
    world.work_until(compute, is_started).await;
    assert_eq!(world.newest_record(&envelope).await, None);
    assert_eq!(world.waiting().await.unwrap(), envelope);
}

#[tokio::test(start_paused = true)]
async fn what_fails_because_the_machine_goes_down_is_no_attempt() {
    for signal in [crash(), Signal::Failed { reason: "the network is gone".into(), permanent: false }] {
        let world = World::new().await;
        let envelope = envelope(1);
        world.publish(&envelope).await;
        let mut compute = world.compute([]);
        compute.when_asked_to_pause = Some(signal);
        world.work_until(compute, is_started).await;
        assert_eq!(world.waiting().await.unwrap(), envelope);
        assert!(world.store.decision(&envelope.task.id()).await.unwrap().is_none());
    }
}
