//! Two builds at once, as during a rolling upgrade: each takes only what it knows, and nothing is lost, refused or
//! handed round in circles.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metad2a_pipeline::envelope::dialect;
use metad2a_queue::{Class, Lane, Message, Urgency};
use metad2a_tests::{Cluster, Project, lanes, service};

/// Far more than this takes; only a broken program waits so long.
const LONGEST: Duration = Duration::from_mins(4);
const LOOK: Duration = Duration::from_millis(100);
/// What a build with other semantics would call its lanes.
const OTHER: &str = "0ther0ne";

#[tokio::test]
#[ignore = "needs the built programs, the extractor's weights and RabbitMQ: scripts/test.sh"]
async fn builds_of_different_semantics_work_side_by_side_and_take_nothing_from_each_other() {
    assert_ne!(dialect(), OTHER);
    let mut project = Project::new();
    project.rename();
    let cluster = Cluster::shared(&project);
    let queue = metad2a_queue::open(&service("METAD2A_TEST_AMQP_URL")).await.unwrap();
    // Tasks of the other build. This one could neither read them nor would it give them these ids.
    let other_lanes: Vec<Lane> = [(Class::Gpu, Urgency::High), (Class::Gpu, Urgency::Normal)]
        .map(|(class, urgency)| Lane::new(project.pipeline(), OTHER, class, urgency))
        .to_vec();
    let mut published = BTreeSet::new();
    for (lane, urgency) in other_lanes.iter().zip(["urgent", "normal"]) {
        let messages: Vec<Message> = (0..20)
            .map(|number| Message::new(format!("{urgency}-{number}"), *b"{\"format\":\"of another build\"}"))
            .collect();
        queue.publish(lane, &messages).await.unwrap();
        published.extend(messages.into_iter().map(|message| message.id));
    }

    // This build's coordinator starts (and purges what an earlier one left), its workers do all of its work.
    let mut coordinator = cluster.coordinator(&project);
    let mut workers = [cluster.worker(&project, "worker-0", 1), cluster.worker(&project, "worker-1", 1)];
    coordinator.start();
    for worker in &mut workers {
        worker.start();
    }
    let started = Instant::now();
    let status = loop {
        if let Some(status) = coordinator.ended() {
            break status;
        }
        assert!(started.elapsed() < LONGEST, "{}", coordinator.last_lines(20));
        tokio::time::sleep(LOOK).await;
    };
    assert!(status.success(), "{}", coordinator.last_lines(20));
    for lane in lanes(&project) {
        assert_eq!(queue.ready(&lane).await.unwrap(), 0, "{lane}");
    }
    assert_eq!(queue.dead_letters(project.pipeline()).await.unwrap(), 0);
    for worker in &workers {
        assert!(!worker.log().contains("dead letters"), "{}", worker.last_lines(40));
    }

    // A worker of the other build finds all of its own, each for the first time.
    let mut subscription = queue.subscribe(&other_lanes).await.unwrap();
    let mut taken = BTreeSet::new();
    for _ in 0..published.len() {
        let delivery = subscription.take().await.unwrap();
        assert!(!delivery.redelivered(), "`{}` was given to a worker before", delivery.message().id);
        taken.insert(delivery.message().id.clone());
        assert!(delivery.acknowledge().await.unwrap());
    }
    assert_eq!(taken, published);
    drop(workers);
    queue.close().await.unwrap();
}
