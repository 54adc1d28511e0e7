//! How fast a queue takes and gives out task messages.
//!
//! ```sh
//! scripts/services/with-broker.sh sh -c \
//!   'cargo run --release -p metad2a-queue --example queue_throughput -- "$METAD2A_TEST_AMQP_URL" 10000 4'
//! ```
//!
//! Publishes the given number of messages of 1 KiB (default 10,000) with confirmations, in batches of 1,000 as a
//! coordinator would, and then has them taken and acknowledged one by one by the given number of takers (default 4).

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use metad2a_queue::{Class, Lane, Message, Queue, Urgency};
use tokio::task::JoinSet;

const BODY: usize = 1024;
const BATCH: usize = 1_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().ok_or("usage: throughput ADDRESS [MESSAGES [TAKERS]]")?;
    let count: usize = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let takers: usize = arguments.next().map_or(Ok(4), |text| text.parse())?;
    let queue = metad2a_queue::open(&url).await?;
    let lane = Lane::new(format!("throughput-{}", std::process::id()), "bench", Class::Gpu, Urgency::Normal);

    let messages: Vec<Message> =
        (0..count).map(|number| Message::new(format!("task-{number:064}"), vec![b'x'; BODY])).collect();
    let began = Instant::now();
    for batch in messages.chunks(BATCH) {
        queue.publish(&lane, batch).await?;
    }
    report("published and confirmed", count, began);

    let began = Instant::now();
    let left = Arc::new(AtomicUsize::new(count));
    let mut running = JoinSet::new();
    for _ in 0..takers {
        running.spawn(take(Arc::clone(&queue), lane.clone(), Arc::clone(&left)));
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    report(&format!("taken and acknowledged by {takers} takers"), count, began);
    queue.close().await?;
    Ok(())
}

/// Claims a message before waiting for one, so that nobody waits in vain at the end.
async fn take(queue: Arc<dyn Queue>, lane: Lane, left: Arc<AtomicUsize>) -> metad2a_queue::Result<()> {
    let mut subscription = queue.subscribe(&[lane]).await?;
    while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        if !subscription.take().await?.acknowledge().await? {
            left.fetch_add(1, SeqCst);
        }
    }
    Ok(())
}

fn report(what: &str, count: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} messages {what}: {seconds:.2} s, {:.0} a second", count as f64 / seconds);
}
