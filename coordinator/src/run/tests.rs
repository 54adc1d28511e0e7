//! The leader on queues and stores of this process: what it hears of people's decisions.

use metad2a_database::Access;
use metad2a_pipeline::planner::{Existing, Fact, Place, Stage};
use metad2a_pipeline::tasks::{ExtractFeatures, Extractor, ExtractorKind, Fractions, Look};
use metad2a_pipeline::verdict::VerdictDetail;

use super::*;
use crate::dispatch::Open;

/// One task, open unless it was stopped.
#[derive(Default)]
struct Single(Existing);

const PLACE: Place = Place { stage: Stage::Features, number: 0 };

impl Open for Single {
    fn tasks(&self, place: Place) -> Vec<(String, Task)> {
        let is_open = place == PLACE && self.0.failure(&task().id()).is_none();
        is_open.then(|| (task().id(), task())).into_iter().collect()
    }
}

impl Work for Single {
    fn take_changes(&mut self) -> Vec<Place> {
        vec![PLACE]
    }

    fn is_done(&self, id: &str) -> bool {
        self.0.is_done(id)
    }

    fn learn(&mut self, fact: Fact) {
        self.0.learn(fact);
    }
}

fn task() -> Task {
    Task::ExtractFeatures(ExtractFeatures {
        source: "ab".repeat(32),
        classes: vec![1],
        fractions: Fractions { train: 1.0, valid: 0.0, test: 0.0 },
        images_per_class: 1,
        extractor: Extractor {
            kind: ExtractorKind::Resnet18,
            weights_sha256: "00".repeat(32),
            image_size: 32,
        },
        look: Look::default(),
    })
}

struct World {
    store: Store,
    queue: Arc<dyn Queue>,
    leader: Leader,
    work: Single,
}

impl World {
    async fn new() -> Self {
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        let queue = metad2a_queue::open(&format!("memory:{}", metad2a_database::random_id())).await.unwrap();
        let delivery = Delivery {
            pipeline: "test".to_owned(),
            sources: BTreeMap::new(),
            weights: BTreeMap::new(),
            max_attempts: 3,
            patience_seconds: 60,
            measure_latency: false,
            trace: TraceContext::start(),
        };
        let mut leader = Leader::new(store.clone(), queue.clone(), delivery, None).await.unwrap();
        leader.follow_decisions(Heads::new());
        Self { store, queue, leader, work: Single::default() }
    }

    async fn decide(&self, verdict: Verdict) {
        let detail = VerdictDetail { task: Some(task()), ..VerdictDetail::default() };
        let detail = serde_json::to_value(detail).unwrap();
        self.store.decide(&task().id(), verdict.name(), detail).await.unwrap();
    }

    /// A person's decision, with the word to the leader.
    async fn decide_and_tell(&mut self, verdict: Verdict) {
        self.decide(verdict).await;
        self.queue.emit("test", &serde_json::to_vec(&Event::Decided).unwrap()).await.unwrap();
    }

    /// Listens until the task's standing is this.
    async fn hear_until(&mut self, verdict: Option<Verdict>) {
        let hear = async {
            while self.work.0.failure(&task().id()).map(|failure| failure.verdict) != verdict {
                self.leader.hear(&mut self.work).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_mins(1), hear).await.expect("the leader hears of it");
    }

    async fn ready(&self) -> u64 {
        self.queue.ready(&self.leader.delivery.lane(&task())).await.unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_is_left_alone_and_published_again_after_a_retry() {
    let mut world = World::new().await;
    world.leader.publish(&mut world.work, &[]).await.unwrap();
    world.decide_and_tell(Verdict::Cancelled).await;
    world.hear_until(Some(Verdict::Cancelled)).await;
    world.leader.publish(&mut world.work, &[]).await.unwrap();
    assert_eq!(world.ready().await, 1, "a worker skips the message that is there");

    world.decide_and_tell(Verdict::Retry).await;
    world.hear_until(None).await;
    world.leader.publish(&mut world.work, &[]).await.unwrap();
    assert_eq!(world.ready().await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_overtakes_its_failure_is_published_again_all_the_same() {
    let mut world = World::new().await;
    world.leader.publish(&mut world.work, &[]).await.unwrap();
    // Both before the leader hears of any: its message is among the dead letters by now.
    world.decide(Verdict::Failed).await;
    world.decide_and_tell(Verdict::Retry).await;
    let published_again = async {
        while world.ready().await < 2 {
            world.leader.hear(&mut world.work).await.unwrap();
            world.leader.publish(&mut world.work, &[]).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_mins(1), published_again).await.expect("it is published again");
}

#[tokio::test(start_paused = true)]
async fn a_decision_whose_word_is_lost_is_found_within_seconds() {
    let mut world = World::new().await;
    world.leader.publish(&mut world.work, &[]).await.unwrap();
    world.leader.hear(&mut world.work).await.unwrap();
    world.decide(Verdict::Cancelled).await;
    let before = tokio::time::Instant::now();
    world.hear_until(Some(Verdict::Cancelled)).await;
    assert!(before.elapsed() <= RECONCILE_EVERY, "the time is paused: only waiting counts");
}
