//! What must hold however badly the queue behaves: nothing is lost, and the queue empties.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use metad2a_queue::{Faults, Message, Queue, UnreliableQueue};

use crate::site::{MemorySite, Site, SqliteSite, fresh_lane, until_ready, within};

/// Workers as they must be written: try again what failed, do the work before the acknowledgement.
async fn all_work_gets_done(calm: Arc<dyn Queue>, seed: u64) {
    const COUNT: usize = 60;
    let lane = fresh_lane();
    let queue: Arc<dyn Queue> = Arc::new(UnreliableQueue::new(Arc::clone(&calm), Faults::rough(seed)));
    let messages: Vec<Message> = (0..COUNT).map(|number| Message::new(number.to_string(), "work")).collect();
    for batch in messages.chunks(7) {
        while let Err(error) = queue.publish(&lane, batch).await {
            assert!(error.is_retryable(), "{error}");
        }
    }
    let done = Arc::new(Mutex::new(BTreeSet::new()));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (queue, lane, done) = (Arc::clone(&queue), lane.clone(), Arc::clone(&done));
        workers.spawn(async move {
            let mut subscription = queue.subscribe(&[lane]).await.unwrap();
            loop {
                match subscription.take().await {
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                    Ok(delivery) => {
                        done.lock().unwrap().insert(delivery.message().id.clone());
                        let _may_fail = delivery.acknowledge().await;
                    }
                }
            }
        });
    }
    while done.lock().unwrap().len() < COUNT {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    until_ready(&calm, &lane, 0).await;
    workers.abort_all();
}

#[tokio::test]
async fn all_work_gets_done_on_an_unreliable_memory_queue() {
    for seed in 0..10 {
        within(all_work_gets_done(MemorySite::new().connect().await, seed)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_work_gets_done_on_an_unreliable_sqlite_queue() {
    let site = SqliteSite::new();
    within(all_work_gets_done(site.connect().await, 1)).await;
}
