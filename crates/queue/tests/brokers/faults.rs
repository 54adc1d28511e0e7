//! The broker lives, but does what it may do to a client: take queues away, end late deliveries, refuse messages.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use lapin::{Connection, ConnectionProperties, options::QueueDeleteOptions};
use metad2a_queue::{Class, Error, Lane, Message, Queue, RabbitOptions, Urgency};

use crate::broker::{Broker, connect, logged, record_log, shared_url};

fn fresh_lane() -> Lane {
    let number = RandomState::new().build_hasher().finish();
    Lane::new(format!("faults-{number:016x}"), "d1", Class::Gpu, Urgency::Normal)
}

fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|number| Message::new(number.to_string(), "work")).collect()
}

/// As an operator would.
async fn delete(queue: &str) {
    let connection = Connection::connect(&shared_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "OK".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_lane_that_was_deleted_is_made_again_by_those_who_wait_and_those_who_publish() {
    let normal = fresh_lane();
    let high = Lane { urgency: Urgency::High, ..normal.clone() };
    let sender = metad2a_queue::open(&shared_url()).await.unwrap();
    let taker = metad2a_queue::open(&shared_url()).await.unwrap();
    // Both know the lane from now on.
    sender.publish(&normal, &numbered(1)).await.unwrap();
    let mut subscription = taker.subscribe(&[high, normal.clone()]).await.unwrap();
    assert!(subscription.take().await.unwrap().acknowledge().await.unwrap());
    for _ in 0..3 {
        // One of the two lanes of a taker that waits: the other one goes on. Or before it waits: both must do.
        let waiting = tokio::spawn(async move {
            let delivery = subscription.take().await.unwrap();
            (subscription, delivery)
        });
        delete(&normal.to_string()).await;
        sender.publish(&normal, &numbered(300)).await.unwrap();
        let (back, first) = waiting.await.unwrap();
        subscription = back;
        assert!(first.acknowledge().await.unwrap());
        while sender.ready(&normal).await.unwrap() > 0 {
            assert!(subscription.take().await.unwrap().acknowledge().await.unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_reader_of_events_goes_on_when_their_queue_was_deleted() {
    let pipeline = fresh_lane().pipeline;
    let worker = metad2a_queue::open(&shared_url()).await.unwrap();
    let coordinator = metad2a_queue::open(&shared_url()).await.unwrap();
    let mut events = coordinator.events(&pipeline).await.unwrap();
    worker.emit(&pipeline, b"before").await.unwrap();
    assert_eq!(events.next().await.unwrap(), b"before");
    let later = tokio::spawn(async move { events.next().await.unwrap() });
    delete(&format!("metad2a.{pipeline}.events")).await;
    worker.emit(&pipeline, b"after").await.unwrap();
    assert_eq!(later.await.unwrap(), b"after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn messages_that_the_broker_refuses_are_an_error_and_not_lost() {
    let (broker, lane) = (Broker::shared(), fresh_lane());
    let impatient = RabbitOptions { patience: Duration::ZERO, ..RabbitOptions::default() };
    let queue = connect(&shared_url(), impatient).await.unwrap();
    queue.publish(&lane, &numbered(1)).await.unwrap();
    let pattern = format!("^metad2a\\.{}\\.v", lane.pipeline);
    let short = ["set_policy", &lane.pipeline, &pattern, r#"{"max-length":10}"#, "--apply-to", "queues"];
    tokio::task::block_in_place(|| broker.ctl(&short));
    // A policy arrives a moment later.
    let error = loop {
        if let Err(error) = queue.publish(&lane, &numbered(100)).await {
            break error;
        }
    };
    assert!(matches!(error, Error::NotConfirmed { .. }) && error.is_retryable(), "{error:?}");
    tokio::task::block_in_place(|| broker.ctl(&["clear_policy", &lane.pipeline]));
    queue.purge(&lane).await.unwrap();
    while queue.publish(&lane, &numbered(100)).await.is_err() {}
    assert!(queue.ready(&lane).await.unwrap() >= 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_delivery_that_is_held_too_long_goes_to_another_and_ends_alone() {
    let broker = Broker::own();
    let url = tokio::task::block_in_place(|| broker.start()).remove(0);
    let patient = RabbitOptions::default();
    let queue = connect(&url, patient).await.unwrap();
    let lane = fresh_lane();
    tokio::task::block_in_place(|| {
        // Looked at twice a second instead of every minute.
        let hurry = "application:set_env(rabbit, channel_tick_interval, 500), \
                     application:set_env(rabbit, consumer_timeout, 2000).";
        broker.ctl(&["eval", hurry]);
        if queue.broker_version().unwrap().numbers().unwrap() >= (3, 12) {
            broker.ctl(&[
                "set_policy",
                "short",
                "^metad2a",
                r#"{"consumer-timeout":2000}"#,
                "--apply-to",
                "queues",
            ]);
        }
    });
    queue.publish(&lane, &numbered(1)).await.unwrap();
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let held = subscription.take().await.unwrap();
    // Waits on the same connection, and gets it when the broker's patience ends.
    let again = subscription.take().await.unwrap();
    assert!(again.redelivered());
    assert_eq!(again.message(), held.message());
    assert!(!held.acknowledge().await.unwrap(), "it was no longer ours");
    assert!(again.acknowledge().await.unwrap());
    queue.publish(&lane, &numbered(1)).await.unwrap();
    assert!(subscription.take().await.unwrap().acknowledge().await.unwrap());
    assert_eq!(queue.ready(&lane).await.unwrap(), 0);
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_broker_short_of_memory_is_named_and_still_hears_acknowledgements() {
    record_log();
    let broker = Broker::own();
    let url = tokio::task::block_in_place(|| broker.start()).remove(0);
    let options = RabbitOptions {
        answer: Duration::from_secs(5),
        patience: Duration::ZERO,
        ..RabbitOptions::default()
    };
    let queue = connect(&url, options).await.unwrap();
    let lane = fresh_lane();
    queue.publish(&lane, &numbered(2)).await.unwrap();
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let first = subscription.take().await.unwrap();
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1000000"]));
    let blocked = loop {
        // The alarm rings a moment later; until then messages are taken.
        if let Err(error) = queue.publish(&lane, &numbered(1)).await {
            break error;
        }
    };
    assert!(matches!(blocked, Error::Blocked { .. }) && blocked.is_retryable(), "{blocked:?}");
    assert!(logged("short of memory or disk"));
    assert!(first.acknowledge().await.unwrap(), "acknowledgements pass");
    assert!(subscription.take().await.unwrap().acknowledge().await.unwrap(), "and so do deliveries");
    tokio::task::block_in_place(|| broker.ctl(&["set_vm_memory_high_watermark", "0.8"]));
    while queue.publish(&lane, &numbered(1)).await.is_err() {}
    assert!(logged("the broker takes messages again"));
    queue.close().await.unwrap();
}
