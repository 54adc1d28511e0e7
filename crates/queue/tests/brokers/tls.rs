//! `amqps`: both sides prove who they are.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use metad2a_queue::{Class, Error, Lane, Message, Queue, RabbitAccess, RabbitOptions, RabbitQueue, Urgency};

use crate::broker::{Broker, logged, record_log};

fn openssl(folder: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("openssl runs");
    assert!(status.success(), "openssl {arguments}");
}

/// An authority, and what it signs: `<name>.pem` with `<name>.key`.
fn authority(folder: &Path, name: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={name} \
             -addext basicConstraints=critical,CA:TRUE -keyout {name}.key -out {name}.pem"
        ),
    );
}

fn signed(folder: &Path, name: &str, extensions: &str) {
    std::fs::write(folder.join("extensions"), extensions).unwrap();
    let request = format!(
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
    );
    openssl(folder, &request);
    openssl(
        folder,
        &format!(
            "x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out {name}.pem"
        ),
    );
}

/// A broker that shows a certificate for `localhost` and demands one from its clients. Returns its address and the
/// certificates' folder.
fn demanding(broker: &Broker) -> (String, PathBuf) {
    let folder = broker.folder().join("tls");
    std::fs::create_dir(&folder).unwrap();
    authority(&folder, "ca");
    authority(&folder, "other");
    signed(&folder, "server", "subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth");
    signed(&folder, "client", "extendedKeyUsage=clientAuth");
    let demands = "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n";
    std::fs::write(broker.folder().join("extra.conf"), demands).unwrap();
    (broker.start().remove(1), folder)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]
async fn over_tls_only_sides_that_trust_each_other_talk() {
    record_log();
    let broker = Broker::own();
    let (url, folder) = tokio::task::block_in_place(|| demanding(&broker));
    let file = |name: &str| Some(folder.join(name));
    let trusted = RabbitAccess {
        ca_file: file("ca.pem"),
        client_cert_file: file("client.pem"),
        client_key_file: file("client.key"),
        ..RabbitAccess::default()
    };
    // A test that tried again after a refusal would not end.
    let options = RabbitOptions { start: Duration::from_hours(1), ..RabbitOptions::default() };
    let connect = async |url: &str, access: &RabbitAccess| {
        RabbitQueue::connect(url.parse().unwrap(), options, access).await
    };

    let queue = connect(&url, &trusted).await.unwrap();
    let lane = Lane::new("tls", "d1", Class::Gpu, Urgency::Normal);
    queue.publish(&lane, &[Message::new("secret", "body")]).await.unwrap();
    let delivery = queue.subscribe(&[lane]).await.unwrap().take().await.unwrap();
    assert_eq!(delivery.message().id, "secret");
    assert!(delivery.acknowledge().await.unwrap());
    let version = queue.broker_version().expect("the version is read over TLS, too");
    assert_eq!(version.product, "RabbitMQ");
    assert!(logged("the broker's version"));
    queue.close().await.unwrap();

    let refused = async |what: &str, url: &str, access: RabbitAccess| {
        let error = connect(url, &access).await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }) && !error.is_retryable(), "{what}: {error:?}");
    };
    refused("an unknown authority", &url, RabbitAccess { ca_file: file("other.pem"), ..trusted.clone() })
        .await;
    refused("the system's authorities", &url, RabbitAccess { ca_file: None, ..trusted.clone() }).await;
    let elsewhere = url.replace("localhost", "127.0.0.1");
    refused("a name that the certificate lacks", &elsewhere, trusted.clone()).await;
    let anonymous = RabbitAccess { client_cert_file: None, client_key_file: None, ..trusted.clone() };
    refused("no certificate of ours", &url, anonymous).await;
    let stranger =
        RabbitAccess { client_cert_file: file("other.pem"), client_key_file: file("other.key"), ..trusted };
    refused("a certificate of ours that nobody signed", &url, stranger).await;
}
