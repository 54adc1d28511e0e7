//! The rules, each on a queue that behaves well.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use metad2a_queue::{Class, Delivery, Error, LARGEST_BODY, Lane, Leadership, Message, Queue, Urgency};

use crate::site::{Site, fresh, fresh_lane, until_ready};

fn numbered(count: usize) -> Vec<Message> {
    (0..count).map(|number| Message::new(format!("task-{number:03}"), number.to_string())).collect()
}

fn id(delivery: &dyn Delivery) -> String {
    delivery.message().id.clone()
}

async fn take(queue: &Arc<dyn Queue>, lane: &Lane) -> Box<dyn Delivery> {
    let mut subscription = queue.subscribe(std::slice::from_ref(lane)).await.unwrap();
    subscription.take().await.unwrap()
}

pub(crate) async fn messages_arrive_in_order_with_body_and_headers(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    let sent = vec![
        Message::new("first", [0, 255, 10, 13]).with_header("attempt", "1").with_header("näme", "välue"),
        Message::new("second", []),
        Message::new("third", vec![7; LARGEST_BODY]).with_header("empty", ""),
    ];
    queue.publish(&lane, &sent).await.unwrap();
    assert_eq!(queue.ready(&lane).await.unwrap(), 3);
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    for message in &sent {
        let delivery = subscription.take().await.unwrap();
        assert_eq!(delivery.message(), message);
        assert!(!delivery.redelivered());
        assert!(delivery.acknowledge().await.unwrap());
    }
    queue.publish(&lane, &[]).await.unwrap();
    assert_eq!(queue.ready(&lane).await.unwrap(), 0);
}

pub(crate) async fn a_batch_with_a_message_over_the_limits_changes_nothing(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    for bad in [
        Message::new("large", vec![0; LARGEST_BODY + 1]),
        Message::new("", []),
        Message::new("x".repeat(256), []),
    ] {
        let error = queue.publish(&lane, &[Message::new("good", []), bad]).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(queue.ready(&lane).await.unwrap(), 0);
    let news = vec![0; LARGEST_BODY + 1];
    assert!(matches!(queue.broadcast(&lane.pipeline, &news).await, Err(Error::TooLarge { .. })));
    assert!(matches!(queue.emit(&lane.pipeline, &news).await, Err(Error::TooLarge { .. })));
}

pub(crate) async fn an_acknowledged_message_is_gone_for_good(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    queue.publish(&lane, &numbered(2)).await.unwrap();
    let delivery = take(&queue, &lane).await;
    assert_eq!(id(&*delivery), "task-000");
    assert!(delivery.acknowledge().await.unwrap());
    queue.close().await.unwrap();
    let again = site.connect().await;
    until_ready(&again, &lane, 1).await;
    assert_eq!(id(&*take(&again, &lane).await), "task-001");
}

pub(crate) async fn a_message_goes_to_one_taker(site: &impl Site) {
    const COUNT: usize = 60;
    let (publisher, lane) = (site.connect().await, fresh_lane());
    publisher.publish(&lane, &numbered(COUNT)).await.unwrap();
    let (taken, mut all) = tokio::sync::mpsc::unbounded_channel();
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let queue = site.connect().await;
        for _ in 0..2 {
            let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
            let (queue, taken) = (Arc::clone(&queue), taken.clone());
            takers.spawn(async move {
                let _alive = queue;
                while let Ok(delivery) = subscription.take().await {
                    taken.send(id(&*delivery)).unwrap();
                    assert!(delivery.acknowledge().await.unwrap());
                }
            });
        }
    }
    let mut seen = BTreeSet::new();
    for _ in 0..COUNT {
        assert!(seen.insert(all.recv().await.unwrap()), "a message was given out twice");
    }
    until_ready(&publisher, &lane, 0).await;
    takers.abort_all();
    while takers.join_next().await.is_some() {}
    assert!(all.try_recv().is_err(), "a message was given out twice");
}

pub(crate) async fn a_message_given_back_is_given_again_and_says_so(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    queue.publish(&lane, &numbered(1)).await.unwrap();
    for round in 0..3 {
        let delivery = take(&queue, &lane).await;
        assert_eq!(delivery.redelivered(), round > 0);
        assert_eq!(*delivery.message(), numbered(1)[0]);
        assert!(delivery.give_back().await.unwrap());
        until_ready(&queue, &lane, 1).await;
    }
}

/// A broker may count how often it gives a message out, and put it aside in the end: a return is no fault of the message.
pub(crate) async fn a_message_given_back_150_times_is_still_given_and_unchanged(site: &impl Site) {
    const ROUNDS: usize = 150;
    let (queue, lane) = (site.connect().await, fresh_lane());
    let message = Message::new("task", "a body with its attempts").with_header("interruptions", "1");
    queue.publish(&lane, std::slice::from_ref(&message)).await.unwrap();
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    for round in 0..ROUNDS {
        let delivery = subscription.take().await.unwrap();
        assert_eq!((delivery.message(), delivery.redelivered()), (&message, round > 0));
        assert!(delivery.give_back().await.unwrap());
    }
    let delivery = subscription.take().await.unwrap();
    assert_eq!(*delivery.message(), message);
    assert!(delivery.acknowledge().await.unwrap());
    until_ready(&queue, &lane, 0).await;
    assert_eq!(queue.dead_letters(&lane.pipeline).await.unwrap(), 0);
}

pub(crate) async fn a_dropped_delivery_is_given_again(site: &impl Site) {
    let (queue, other, lane) = (site.connect().await, site.connect().await, fresh_lane());
    queue.publish(&lane, &numbered(1)).await.unwrap();
    drop(take(&queue, &lane).await);
    let delivery = take(&other, &lane).await;
    assert!(delivery.redelivered());
    assert!(delivery.acknowledge().await.unwrap());
    until_ready(&queue, &lane, 0).await;
}

pub(crate) async fn closing_gives_back_what_was_taken(site: &impl Site) {
    let (queue, other, lane) = (site.connect().await, site.connect().await, fresh_lane());
    other.publish(&lane, &numbered(3)).await.unwrap();
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let first = subscription.take().await.unwrap();
    let second = subscription.take().await.unwrap();
    let third = subscription.take().await.unwrap();
    queue.close().await.unwrap();
    assert!(!first.acknowledge().await.unwrap(), "the message was no longer ours");
    assert!(!second.give_back().await.unwrap(), "the message was no longer ours");
    assert!(!third.dead_letter().await.unwrap(), "the message was no longer ours");
    let mut again = other.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let delivery = again.take().await.unwrap();
        assert!(delivery.redelivered());
        seen.insert(id(&*delivery));
        assert!(delivery.acknowledge().await.unwrap());
    }
    assert_eq!(seen.len(), 3);
    assert_eq!(other.dead_letters(&lane.pipeline).await.unwrap(), 0);
}

pub(crate) async fn a_delivery_outlives_its_subscription(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    queue.publish(&lane, &numbered(2)).await.unwrap();
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let delivery = subscription.take().await.unwrap();
    drop(subscription);
    assert_eq!(queue.ready(&lane).await.unwrap(), 1);
    assert!(delivery.acknowledge().await.unwrap());
    assert_eq!(id(&*take(&queue, &lane).await), "task-001");
}

pub(crate) async fn urgent_lanes_come_first(site: &impl Site) {
    let (queue, normal) = (site.connect().await, fresh_lane());
    let high = Lane { urgency: Urgency::High, ..normal.clone() };
    let mut subscription = queue.subscribe(&[high.clone(), normal.clone()]).await.unwrap();
    queue.publish(&normal, &[Message::new("n1", []), Message::new("n2", [])]).await.unwrap();
    queue.publish(&high, &[Message::new("h1", []), Message::new("h2", [])]).await.unwrap();
    let mut order = Vec::new();
    for _ in 0..4 {
        let delivery = subscription.take().await.unwrap();
        order.push(id(&*delivery));
        assert!(delivery.acknowledge().await.unwrap());
    }
    assert_eq!(order, ["h1", "h2", "n1", "n2"]);
}

pub(crate) async fn take_waits_for_a_later_message(site: &impl Site) {
    let (queue, other, normal) = (site.connect().await, site.connect().await, fresh_lane());
    let high = Lane { urgency: Urgency::High, ..normal.clone() };
    let mut subscription = queue.subscribe(&[high, normal.clone()]).await.unwrap();
    for round in ["one", "two"] {
        let waiting = tokio::spawn(async move {
            let delivery = subscription.take().await.unwrap();
            (subscription, delivery)
        });
        other.publish(&normal, &[Message::new(round, [])]).await.unwrap();
        let (back, delivery) = waiting.await.unwrap();
        subscription = back;
        assert_eq!(id(&*delivery), round);
        assert!(delivery.acknowledge().await.unwrap());
    }
}

pub(crate) async fn a_cancelled_take_loses_nothing(site: &impl Site) {
    const COUNT: usize = 20;
    let (queue, lane) = (site.connect().await, fresh_lane());
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let mut seen = BTreeSet::new();
    for (number, message) in numbered(COUNT).into_iter().enumerate() {
        let publish = async { queue.publish(&lane, &[message]).await.unwrap() };
        // Cut off at another point each time, from not started to probably done.
        let cut = Duration::from_micros(number as u64 * 150);
        let (taken, ()) = tokio::join!(tokio::time::timeout(cut, subscription.take()), publish);
        if let Ok(delivery) = taken {
            let delivery = delivery.unwrap();
            seen.insert(id(&*delivery));
            assert!(delivery.acknowledge().await.unwrap());
        }
    }
    // What the cancelled calls may have reserved comes back to others.
    drop(subscription);
    let mut other = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    while seen.len() < COUNT {
        let delivery = other.take().await.unwrap();
        assert!(seen.insert(id(&*delivery)), "an acknowledged message came again");
        assert!(delivery.acknowledge().await.unwrap());
    }
    until_ready(&queue, &lane, 0).await;
}

pub(crate) async fn a_subscription_reserves_nothing_ahead(site: &impl Site) {
    let (queue, other, normal) = (site.connect().await, site.connect().await, fresh_lane());
    let high = Lane { urgency: Urgency::High, ..normal.clone() };
    let mut subscription = queue.subscribe(&[high.clone(), normal.clone()]).await.unwrap();
    let waiting = tokio::spawn(async move {
        let delivery = subscription.take().await.unwrap();
        (subscription, delivery)
    });
    other.publish(&normal, &numbered(2)).await.unwrap();
    other.publish(&high, &numbered(2)).await.unwrap();
    let (subscription, delivery) = waiting.await.unwrap();
    // Three of the four are there for others while the first is worked on.
    let mut others = other.subscribe(&[high, normal]).await.unwrap();
    for _ in 0..3 {
        assert!(others.take().await.unwrap().acknowledge().await.unwrap());
    }
    assert!(delivery.acknowledge().await.unwrap());
    drop(subscription);
}

pub(crate) async fn lanes_are_separate(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    let cpu = Lane { class: Class::Cpu, ..lane.clone() };
    let elsewhere = Lane { pipeline: fresh("other"), ..lane.clone() };
    // Another build of the same pipeline.
    let newer = Lane { dialect: "d2".into(), ..lane.clone() };
    queue.publish(&lane, &numbered(1)).await.unwrap();
    assert_eq!(queue.ready(&cpu).await.unwrap(), 0);
    assert_eq!(queue.purge(&elsewhere).await.unwrap(), 0);
    queue.publish(&cpu, &[Message::new("cpu", [])]).await.unwrap();
    queue.publish(&elsewhere, &[Message::new("elsewhere", [])]).await.unwrap();
    queue.publish(&newer, &[Message::new("newer", [])]).await.unwrap();
    assert_eq!(id(&*take(&queue, &cpu).await), "cpu");
    assert_eq!(id(&*take(&queue, &elsewhere).await), "elsewhere");
    assert_eq!(id(&*take(&queue, &newer).await), "newer");
    assert_eq!(id(&*take(&queue, &lane).await), "task-000");
}

pub(crate) async fn purge_removes_what_waits_and_nothing_else(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    queue.publish(&lane, &numbered(4)).await.unwrap();
    let delivery = take(&queue, &lane).await;
    until_ready(&queue, &lane, 3).await;
    assert_eq!(queue.purge(&lane).await.unwrap(), 3);
    assert_eq!(queue.ready(&lane).await.unwrap(), 0);
    assert!(delivery.give_back().await.unwrap());
    assert_eq!(id(&*take(&queue, &lane).await), "task-000");
}

pub(crate) async fn dead_letters_are_put_aside_and_counted(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    assert_eq!(queue.dead_letters(&lane.pipeline).await.unwrap(), 0);
    queue.publish(&lane, &numbered(3)).await.unwrap();
    for _ in 0..2 {
        assert!(take(&queue, &lane).await.dead_letter().await.unwrap());
    }
    assert_eq!(id(&*take(&queue, &lane).await), "task-002");
    while queue.dead_letters(&lane.pipeline).await.unwrap() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(queue.dead_letters(&fresh("other")).await.unwrap(), 0);
    assert_eq!(queue.purge_dead_letters(&lane.pipeline).await.unwrap(), 2);
    assert_eq!(queue.dead_letters(&lane.pipeline).await.unwrap(), 0);
}

pub(crate) async fn notices_reach_everyone_who_listens(site: &impl Site) {
    let (queue, other, pipeline) = (site.connect().await, site.connect().await, fresh("news"));
    queue.broadcast(&pipeline, b"nobody hears this").await.unwrap();
    let mut first = queue.listen(&pipeline).await.unwrap();
    let mut second = other.listen(&pipeline).await.unwrap();
    let mut elsewhere = other.listen(&fresh("news")).await.unwrap();
    queue.broadcast(&pipeline, b"cancel 1").await.unwrap();
    other.broadcast(&pipeline, b"cancel 2").await.unwrap();
    for listener in [&mut first, &mut second] {
        let heard = BTreeSet::from([listener.next().await.unwrap(), listener.next().await.unwrap()]);
        assert_eq!(heard, BTreeSet::from([b"cancel 1".to_vec(), b"cancel 2".to_vec()]));
    }
    // Everything that was sent has arrived by now, so the wrong listener would have it.
    let wrong = tokio::time::timeout(Duration::from_millis(20), elsewhere.next()).await;
    assert!(wrong.is_err(), "a notice reached another pipeline: {wrong:?}");
}

pub(crate) async fn events_wait_for_their_reader(site: &impl Site) {
    let (worker, coordinator, pipeline) = (site.connect().await, site.connect().await, fresh("events"));
    for event in ["started", "epoch 1", "finished"] {
        worker.emit(&pipeline, event.as_bytes()).await.unwrap();
    }
    worker.close().await.unwrap();
    let mut events = coordinator.events(&pipeline).await.unwrap();
    for event in ["started", "epoch 1", "finished"] {
        assert_eq!(events.next().await.unwrap(), event.as_bytes());
    }
    let later = tokio::spawn(async move { events.next().await.unwrap() });
    coordinator.emit(&pipeline, b"later").await.unwrap();
    assert_eq!(later.await.unwrap(), b"later");
}

pub(crate) async fn a_cancelled_read_loses_no_event(site: &impl Site) {
    const COUNT: u8 = 20;
    let (queue, pipeline) = (site.connect().await, fresh("events"));
    let mut events = queue.events(&pipeline).await.unwrap();
    let mut seen = Vec::new();
    for number in 0..COUNT {
        let emit = async { queue.emit(&pipeline, &[number]).await.unwrap() };
        let cut = Duration::from_micros(u64::from(number) * 150);
        let (read, ()) = tokio::join!(tokio::time::timeout(cut, events.next()), emit);
        if let Ok(event) = read {
            seen.push(event.unwrap());
        }
    }
    while seen.len() < usize::from(COUNT) {
        seen.push(events.next().await.unwrap());
    }
    assert_eq!(seen, (0..COUNT).map(|number| vec![number]).collect::<Vec<_>>());
}

pub(crate) async fn there_is_one_leader_of_a_pipeline(site: &impl Site) {
    let (queue, other, pipeline) = (site.connect().await, site.connect().await, fresh("lead"));
    let Leadership::Held(guard) = queue.lead(&pipeline, "host-a, process 1").await.unwrap() else {
        panic!("nobody leads yet")
    };
    for connection in [&queue, &other] {
        match connection.lead(&pipeline, "host-b").await.unwrap() {
            Leadership::HeldBy(holder) => assert_eq!(holder, "host-a, process 1"),
            Leadership::Held(_) => panic!("two leaders"),
        }
    }
    let elsewhere = other.lead(&fresh("lead"), "host-b").await.unwrap();
    assert!(matches!(elsewhere, Leadership::Held(_)), "pipelines are independent");
    guard.release().await;
    let Leadership::Held(next) = other.lead(&pipeline, "host-b").await.unwrap() else {
        panic!("the leadership is free")
    };
    match queue.lead(&pipeline, "host-a").await.unwrap() {
        Leadership::HeldBy(holder) => assert_eq!(holder, "host-b"),
        Leadership::Held(_) => panic!("two leaders"),
    }
    // A dropped guard frees it too, a moment later.
    drop(next);
    while matches!(queue.lead(&pipeline, "host-a").await.unwrap(), Leadership::HeldBy(_)) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn looking_who_leads_names_the_leader_and_disturbs_nobody(site: &impl Site) {
    let (queue, other, pipeline) = (site.connect().await, site.connect().await, fresh("lead"));
    assert_eq!(other.leader(&pipeline).await.unwrap(), None);
    let Leadership::Held(guard) = queue.lead(&pipeline, "host-a, process 1").await.unwrap() else {
        panic!("a look is no leadership")
    };
    for connection in [&queue, &other] {
        assert_eq!(connection.leader(&pipeline).await.unwrap().as_deref(), Some("host-a, process 1"));
    }
    assert_eq!(other.leader(&fresh("lead")).await.unwrap(), None);
    guard.release().await;
    assert_eq!(other.leader(&pipeline).await.unwrap(), None, "a name that stays behind is no leader");
}

pub(crate) async fn closing_ends_a_leadership(site: &impl Site) {
    let (queue, other, pipeline) = (site.connect().await, site.connect().await, fresh("lead"));
    let Leadership::Held(guard) = queue.lead(&pipeline, "a").await.unwrap() else {
        panic!("nobody leads yet")
    };
    queue.close().await.unwrap();
    guard.lost().await;
    let next = other.lead(&pipeline, "b").await.unwrap();
    assert!(matches!(next, Leadership::Held(_)));
    // The old guard must not end the new leadership.
    drop(guard);
    let third = site.connect().await.lead(&pipeline, "c").await.unwrap();
    assert!(matches!(third, Leadership::HeldBy(holder) if holder == "b"));
    drop(next);
}

pub(crate) async fn a_closed_queue_says_so(site: &impl Site) {
    let (queue, lane) = (site.connect().await, fresh_lane());
    let mut subscription = queue.subscribe(std::slice::from_ref(&lane)).await.unwrap();
    let mut notices = queue.listen(&lane.pipeline).await.unwrap();
    let mut events = queue.events(&lane.pipeline).await.unwrap();
    let waiting = tokio::spawn(async move { subscription.take().await.map(|_| ()) });
    queue.close().await.unwrap();
    queue.close().await.unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(Error::Closed)));
    assert!(matches!(notices.next().await, Err(Error::Closed)));
    assert!(matches!(events.next().await, Err(Error::Closed)));
    assert!(matches!(queue.publish(&lane, &numbered(1)).await, Err(Error::Closed)));
    assert!(matches!(queue.ready(&lane).await, Err(Error::Closed)));
    assert!(matches!(queue.subscribe(std::slice::from_ref(&lane)).await, Err(Error::Closed)));
    assert!(matches!(queue.lead(&lane.pipeline, "late").await, Err(Error::Closed)));
}

pub(crate) async fn names_that_cannot_be_queues_are_refused(site: &impl Site) {
    let queue = site.connect().await;
    let bad = Lane::new("a.b", "d1", Class::Gpu, Urgency::High);
    let refused =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::PipelineName { .. })), "{result:?}");
    refused(queue.publish(&bad, &[]).await);
    refused(queue.subscribe(std::slice::from_ref(&bad)).await.map(|_| ()));
    refused(queue.ready(&bad).await.map(|_| ()));
    refused(queue.purge(&bad).await.map(|_| ()));
    refused(queue.broadcast("a.b", b"").await);
    refused(queue.listen("").await.map(|_| ()));
    refused(queue.emit("a b", b"").await);
    refused(queue.events("a/b").await.map(|_| ()));
    refused(queue.dead_letters("*").await.map(|_| ()));
    refused(queue.purge_dead_letters("#").await.map(|_| ()));
    refused(queue.lead("../x", "me").await.map(|_| ()));
    assert!(matches!(queue.subscribe(&[]).await, Err(Error::NoLanes)));
}
