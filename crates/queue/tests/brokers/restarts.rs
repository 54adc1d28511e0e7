//! The broker is killed and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use metad2a_queue::{Class, Lane, Leadership, Message, Queue, Urgency};
use tokio::{task::JoinSet, time::sleep};

use crate::broker::{Broker, record_log};

const ROUNDS: usize = 3;
const BATCH: usize = 100;
/// What must be confirmed between two kills, so that each kill meets a busy broker.
const TRAFFIC: usize = 1_000;
const POLL: Duration = Duration::from_millis(20);

fn lane() -> Lane {
    Lane::new("restarts", "d1", Class::Gpu, Urgency::Normal)
}

/// What the two sides saw.
#[derive(Default)]
struct Books {
    confirmed: Mutex<BTreeSet<String>>,
    /// How often each message was worked on.
    seen: Mutex<BTreeMap<String, u32>>,
    enough: Mutex<bool>,
}

impl Books {
    fn confirmed(&self) -> usize {
        self.confirmed.lock().unwrap().len()
    }

    fn missing(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        self.confirmed.lock().unwrap().iter().filter(|id| !seen.contains_key(*id)).cloned().collect()
    }
}

/// As a coordinator must: what was not confirmed is published again under the same ids.
async fn publish_until_enough(queue: Arc<dyn Queue>, books: Arc<Books>) {
    let mut number = 0;
    while !*books.enough.lock().unwrap() {
        let batch: Vec<Message> =
            (0..BATCH).map(|item| Message::new((number + item).to_string(), "work")).collect();
        while let Err(error) = queue.publish(&lane(), &batch).await {
            assert!(error.is_retryable(), "{error:?}");
        }
        books.confirmed.lock().unwrap().extend(batch.into_iter().map(|message| message.id));
        number += BATCH;
    }
}

/// As a worker must: first the effect, then the acknowledgement, which may come too late.
async fn work(queue: Arc<dyn Queue>, books: Arc<Books>) {
    let mut subscription = queue.subscribe(&[lane()]).await.expect("subscribed");
    loop {
        match subscription.take().await {
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
            Ok(delivery) => {
                *books.seen.lock().unwrap().entry(delivery.message().id.clone()).or_default() += 1;
                delivery.acknowledge().await.expect("an answer, if only `false`");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn nothing_confirmed_is_lost_when_the_broker_is_killed_again_and_again() {
    record_log();
    let broker = Broker::own();
    let url = tokio::task::block_in_place(|| broker.start()).remove(0);
    let books = Arc::new(Books::default());
    let sender = metad2a_queue::open(&url).await.unwrap();
    let taker = metad2a_queue::open(&url).await.unwrap();
    let publisher = tokio::spawn(publish_until_enough(Arc::clone(&sender), Arc::clone(&books)));
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(work(Arc::clone(&taker), Arc::clone(&books)));
    }
    while !broker.remembers(&lane().to_string()) {
        sleep(POLL).await;
    }
    for round in 0..ROUNDS {
        let goal = books.confirmed() + TRAFFIC;
        while books.confirmed() < goal {
            assert!(!publisher.is_finished(), "the publisher failed in round {round}");
            sleep(POLL).await;
        }
        tracing::info!(round, confirmed = books.confirmed(), "killing the broker");
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.start()
        });
    }
    let goal = books.confirmed() + TRAFFIC;
    while books.confirmed() < goal {
        sleep(POLL).await;
    }
    *books.enough.lock().unwrap() = true;
    publisher.await.expect("the publisher ends well");
    while !books.missing().is_empty() || sender.ready(&lane()).await.unwrap() > 0 {
        while let Some(ended) = workers.try_join_next() {
            ended.expect("workers never end by themselves");
        }
        sleep(POLL).await;
    }
    let seen = books.seen.lock().unwrap().values().copied().collect::<Vec<_>>();
    eprintln!(
        "{} confirmed, {} distinct worked on, {} times twice or more",
        books.confirmed(),
        seen.len(),
        seen.iter().filter(|times| **times > 1).count()
    );
    workers.abort_all();
    sender.close().await.unwrap();
    taker.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn news_and_leadership_survive_a_kill_of_the_broker_or_end_cleanly() {
    const PIPELINE: &str = "restarts";
    let broker = Broker::own();
    let url = tokio::task::block_in_place(|| broker.start()).remove(0);
    let coordinator = metad2a_queue::open(&url).await.unwrap();
    let worker = metad2a_queue::open(&url).await.unwrap();
    let Leadership::Held(guard) = coordinator.lead(PIPELINE, "first").await.unwrap() else {
        panic!("nobody leads yet")
    };
    let mut events = coordinator.events(PIPELINE).await.unwrap();
    let mut notices = worker.listen(PIPELINE).await.unwrap();
    let event = tokio::spawn(async move { events.next().await });
    let notice = tokio::spawn(async move { notices.next().await });
    tokio::task::block_in_place(|| {
        broker.kill();
        broker.start()
    });
    // Hints that are sent while nobody listens are lost, so they are sent until they arrive.
    while !event.is_finished() || !notice.is_finished() {
        worker.emit(PIPELINE, b"event").await.unwrap();
        coordinator.broadcast(PIPELINE, b"notice").await.unwrap();
        sleep(POLL).await;
    }
    assert_eq!(event.await.unwrap().unwrap(), b"event");
    assert_eq!(notice.await.unwrap().unwrap(), b"notice");
    // Either the first leader has it again, or it knows that it has lost it.
    match worker.lead(PIPELINE, "second").await.unwrap() {
        Leadership::HeldBy(holder) => assert_eq!(holder, "first"),
        Leadership::Held(_second) => guard.lost().await,
    }
    coordinator.close().await.unwrap();
    worker.close().await.unwrap();
}
