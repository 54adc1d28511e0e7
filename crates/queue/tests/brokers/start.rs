//! The first connection: what is wrong is told at once, what may come is waited for.

use std::time::Duration;

use metad2a_queue::{Class, Error, Lane, Message, Queue, RabbitAccess, RabbitOptions, RabbitQueue, Urgency};

use crate::broker::{Broker, connect, logged, record_log, shared_url};

/// A test that waited for these would not end.
fn patient() -> RabbitOptions {
    RabbitOptions { start: Duration::from_hours(1), ..RabbitOptions::default() }
}

async fn refused(change: impl FnOnce(&mut url::Url)) -> Error {
    let mut url: url::Url = shared_url().parse().unwrap();
    change(&mut url);
    let error = connect(url.as_str(), patient()).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "a password is shown: {error:?}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_wrong_password_virtual_host_or_name_is_told_at_once() {
    let error = refused(|url| url.set_password(Some("wr0ng")).unwrap()).await;
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("check user, password"), "{error}");
    let error = refused(|url| url.set_path("/nowhere")).await;
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
    let error = refused(|url| url.set_host(Some("broker.invalid")).unwrap()).await;
    assert!(matches!(error, Error::UnknownHost { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_password_comes_from_its_file() {
    let mut url: url::Url = shared_url().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    std::fs::write(&path, format!("{}\n", url.password().unwrap())).unwrap();
    let username = Some(url.username().to_owned());
    url.set_password(None).unwrap();
    url.set_username("").unwrap();
    let access = RabbitAccess {
        username,
        password_file: Some(path),
        password: Some("wr0ng".into()),
        ..Default::default()
    };
    let queue = RabbitQueue::connect(url.clone(), patient(), &access).await.unwrap();
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn a_broker_that_is_not_up_yet_is_waited_for_up_to_a_stated_limit() {
    record_log();
    let broker = Broker::own();
    let url = tokio::task::block_in_place(|| {
        let url = broker.start().remove(0);
        broker.kill();
        url
    });
    let short = RabbitOptions { start: Duration::from_millis(300), ..RabbitOptions::default() };
    let error = connect(&url, short).await.unwrap_err();
    assert!(matches!(error, Error::Broker { .. }) && error.is_retryable(), "{error:?}");
    let waiting = tokio::spawn(async move { connect(&url, patient()).await });
    while !logged("trying for 3600 s") {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::block_in_place(|| broker.start());
    let queue = waiting.await.unwrap().unwrap();
    let lane = Lane::new("start", "d1", Class::Gpu, Urgency::Normal);
    queue.publish(&lane, &[Message::new("task", [])]).await.unwrap();
    queue.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn who_holds_deliveries_longer_than_the_broker_grants_is_warned() {
    const WARNING: &str = "the broker takes tasks away before";
    record_log();
    let minutes = |count| RabbitOptions { longest_hold: Some(Duration::from_mins(count)), ..patient() };
    for silent in [patient(), minutes(13)] {
        connect(&shared_url(), silent).await.unwrap().close().await.unwrap();
    }
    assert!(logged("the broker's version") && !logged(WARNING));
    connect(&shared_url(), minutes(24 * 60)).await.unwrap().close().await.unwrap();
    assert!(logged(WARNING));
}
