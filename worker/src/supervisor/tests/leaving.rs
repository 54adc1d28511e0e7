//! Leaving unasked: after enough tasks, or after so long without one.

use std::num::NonZeroU32;

use super::*;

impl World {
    /// Works until a limit is reached.
    async fn work_within(&self, limits: Limits, computes: Vec<Scripted>) {
        let team = Team { limits, ..self.team() };
        team.work(computes, CancellationToken::new()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_leaves_after_its_last_task_and_leaves_the_others_in_the_queue() {
    let world = World::new().await;
    let tasks = [0, 1, 2].map(search_with_seed);
    for task in &tasks {
        world.publish(task).await;
    }
    // Two slots, and either may take both tasks.
    let computes = [(); 2].map(|()| world.compute([success(), success()])).into();
    world.work_within(Limits { tasks: NonZeroU32::new(2), idle: None }, computes).await;

    let mut done = 0;
    for task in &tasks {
        done += u32::from(world.store.marker("search", &task.task.id()).await.unwrap().is_some());
    }
    assert_eq!(done, 2);
    let (_, redelivered) = world.next_message().await.expect("the third task waits");
    assert!(!redelivered, "nobody has taken it");
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_tasks_leaves_after_its_idle_time_and_not_before() {
    let world = World::new().await;
    let idle = Duration::from_mins(5);
    let start = tokio::time::Instant::now();
    let (publish, work) = (
        async {
            tokio::time::sleep(Duration::from_secs(299)).await;
            world.publish(&envelope(3)).await;
        },
        world.work_within(Limits { idle: Some(idle), tasks: None }, vec![world.compute([success()])]),
    );
    tokio::join!(publish, work);
    assert!(world.store.marker("search", &envelope(3).task.id()).await.unwrap().is_some());
    assert_eq!(start.elapsed().as_secs(), 599);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_takes_longer_than_the_idle_time_is_finished() {
    let world = World::new().await;
    let long = envelope(3);
    world.publish(&long).await;
    let mut compute = world.compute([success()]);
    compute.meanwhile = Some(Box::new(|| Box::pin(tokio::time::sleep(Duration::from_hours(2)))));
    let limits = Limits { idle: Some(Duration::from_mins(1)), tasks: None };
    world.work_within(limits, vec![compute, world.compute([])]).await;
    assert!(world.store.marker("search", &long.task.id()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_may_take_nothing_holds_no_message_back() {
    let world = World::new().await;
    for number in 0..2 {
        world.publish(&search_with_seed(number)).await;
    }
    // The first task is the last one; it hangs, so that the other slot waits until the stop.
    let stop = CancellationToken::new();
    let limits = Limits { tasks: NonZeroU32::new(1), idle: None };
    let team = Team { limits, ..world.team() };
    let working = tokio::spawn(team.work(vec![world.compute([]), world.compute([])], stop.clone()));
    world.settle().await;
    assert_eq!(world.jobs.lock().unwrap().len(), 1);
    assert!(world.next_message().await.is_some(), "another worker gets the second task");
    stop.cancel();
    working.await.unwrap().unwrap();
}

fn search_with_seed(number: u64) -> Envelope {
    let mut envelope = envelope(3);
    let Task::Search(search) = &mut envelope.task else { panic!("a search") };
    search.seed = number;
    envelope
}
