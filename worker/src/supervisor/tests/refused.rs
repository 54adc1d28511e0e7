//! Messages that no worker can work on: nobody tries, nothing is lost, and whoever waits for them is told.

use super::*;

/// Works on this message and then on an ordinary one.
async fn met(world: &World, id: &str, body: Vec<u8>) {
    world.queue.publish(&lane(Urgency::Normal), &[Message::new(id, body)]).await.unwrap();
    world.publish(&envelope(1)).await;
    world.work_until(world.compute([success()]), is_finished).await;
    assert_eq!(world.jobs.lock().unwrap().len(), 1, "only the ordinary one was worked on");
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 1);
    assert!(world.next_message().await.is_none());
}

fn waited_for() -> String {
    "ab".repeat(32)
}

#[tokio::test(start_paused = true)]
async fn a_message_under_another_tasks_id_gives_up_the_task_that_its_publisher_waits_for() {
    let world = World::new().await;
    let mut other = envelope(1);
    let Task::Search(search) = &mut other.task else { panic!("a search") };
    search.seed = 1;
    met(&world, &waited_for(), other.encode()).await;
    let decision = world.store.decision(&waited_for()).await.unwrap().expect("the publisher learns of it");
    assert_eq!((decision.decision.as_str(), &decision.detail["pipeline"]), ("failed", &json!(PIPELINE)));
    let reason = decision.detail["reasons"][0].as_str().unwrap();
    assert!(reason.contains(&other.task.id()) && reason.contains("must be of one build"), "{reason}");
    assert!(
        world.store.decision(&other.task.id()).await.unwrap().is_none(),
        "the task itself is not to blame"
    );
    assert!(world.store.marker("search", &other.task.id()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_can_read_gives_up_its_task_and_says_so_to_the_leader() {
    let world = World::new().await;
    let mut events = world.queue.events(PIPELINE).await.unwrap();
    world.queue.publish(&lane(Urgency::Normal), &[Message::new(waited_for(), *b"{}")]).await.unwrap();
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.team().work(vec![world.compute([])], stop.clone()));
    let event: Event = serde_json::from_slice(&events.next().await.unwrap()).unwrap();
    assert!(matches!(event, Event::Decided), "{event:?}");
    let decision = world.store.decision(&waited_for()).await.unwrap().expect("written before the word of it");
    assert!(decision.detail["reasons"][0].as_str().unwrap().contains("not a task that this version knows"));
    world.settle().await;
    stop.cancel();
    working.await.unwrap().unwrap();
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_or_was_decided_stays_so_whatever_a_message_says() {
    let world = World::new().await;
    world.store.commit(&marker_of_another_worker(&waited_for())).await.unwrap();
    met(&world, &waited_for(), b"{}".to_vec()).await;
    assert!(world.store.decision(&waited_for()).await.unwrap().is_none());

    let world = World::new().await;
    world.store.decide(&waited_for(), "cancelled", json!({})).await.unwrap();
    met(&world, &waited_for(), b"{}".to_vec()).await;
    assert_eq!(world.store.decision(&waited_for()).await.unwrap().unwrap().decision, "cancelled");

    let world = World::new().await;
    world.store.decide(&waited_for(), "failed", json!({})).await.unwrap();
    world.store.decide(&waited_for(), "retry", json!({})).await.unwrap();
    met(&world, &waited_for(), b"{}".to_vec()).await;
    let again = world.store.decision(&waited_for()).await.unwrap().unwrap();
    assert_eq!((again.number, again.decision.as_str()), (2, "failed"));
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_no_tasks_leaves_no_trace_in_the_store() {
    let world = World::new().await;
    met(&world, "strange/../id", b"{}".to_vec()).await;
    assert!(world.store.all_decisions().await.unwrap().is_empty());
}
