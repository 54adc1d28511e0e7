//! The queue: whether it is reachable, lets us in, and what it can do.

use std::path::Path;

use metad2a_pipeline::specification::Specification;
use metad2a_queue::{Address, BrokerVersion, Error, Queue, RabbitQueue, SqliteOptions, SqliteQueue};

use super::surroundings::{disk_space, nearest_folder};
use super::{Finding, told};
use crate::run::lanes_of;
use crate::site::look_at;

const THING: &str = "queue";

pub(super) async fn check(specification: &Specification) -> Vec<Finding> {
    match specification.queue.parse::<Address>() {
        Ok(Address::Sqlite(path)) => sqlite(&path, &specification.name).await,
        Ok(Address::Amqp(url)) => match look_at(url.clone()).await {
            Ok(queue) => {
                let shown = Address::Amqp(url).to_string();
                let mut findings = vec![version(queue.broker_version(), &shown)];
                findings.push(rights(&queue, &specification.name).await);
                findings.extend(waiting(&queue, &specification.name).await);
                let _ = queue.close().await;
                findings
            }
            Err(error) => vec![Finding::fail(THING, told(&error), mend(&error))],
        },
        Ok(address @ (Address::Memory(_) | Address::Unreliable { .. })) => {
            let mend = "use `sqlite:PATH` or `amqps://HOST`";
            vec![Finding::warn(THING, format!("`{address}` is for tests"), mend)]
        }
        Err(error) => vec![Finding::fail(THING, told(&error), "correct `queue`")],
    }
}

fn mend(error: &Error) -> &'static str {
    match error {
        Error::Refused { .. } => {
            "set METAD2A_QUEUE_USERNAME and METAD2A_QUEUE_PASSWORD_FILE, or grant the rights"
        }
        Error::Topology { .. } => "use a pipeline name of its own, or remove the old queues",
        _ => "start the broker, or correct `queue`",
    }
}

/// What a broker of this version lacks.
fn version(version: Option<&BrokerVersion>, shown: &str) -> Finding {
    let Some(version) = version else {
        return Finding::warn(
            THING,
            format!("{shown} does not tell its version"),
            "ask its operator: 3.10 or newer",
        );
    };
    let found = format!("{version} at {shown}");
    match version.numbers() {
        Some(numbers) if numbers < (3, 10) => Finding::fail(
            THING,
            format!("{found}, which may lose dead letters"),
            "upgrade it to 3.10 or newer",
        ),
        Some(numbers) if numbers < (3, 12) => Finding::warn(
            THING,
            format!("{found}, which takes no policy for the time of an acknowledgement"),
            "leave its `consumer_timeout` at 30 minutes or more",
        ),
        Some(_) => Finding::ok(THING, found),
        None => Finding::warn(THING, found, "its version has an unknown form; 3.10 or newer is needed"),
    }
}

/// Declares what a run declares, and sends a notice that nobody minds.
async fn rights(queue: &RabbitQueue, pipeline: &str) -> Finding {
    let asked = async {
        for lane in lanes_of(pipeline) {
            queue.ready(&lane).await?;
        }
        queue.broadcast(pipeline, b"doctor").await?;
        drop(queue.listen(pipeline).await?);
        queue.leader(pipeline).await
    };
    match asked.await {
        Ok(leader) => {
            let leader =
                leader.map_or_else(|| "nobody leads".to_owned(), |leader| format!("led by {leader}"));
            Finding::ok("queue's rights", format!("declare, write and read; {leader}"))
        }
        Err(error) => Finding::fail("queue's rights", told(&error), mend(&error)),
    }
}

async fn waiting(queue: &dyn Queue, pipeline: &str) -> Option<Finding> {
    let count = queue.dead_letters(pipeline).await.ok()?;
    (count > 0).then(|| {
        let found = format!("{count} copies put aside");
        Finding::warn("dead letters", found, "`metad2a dead-letters list` names them")
    })
}

async fn sqlite(path: &Path, pipeline: &str) -> Vec<Finding> {
    let shown = path.display();
    let mut findings = Vec::new();
    if path.exists() {
        match SqliteQueue::open(path, SqliteOptions::default()).await {
            Ok(queue) => {
                let leader = queue.leader(pipeline).await.ok().flatten();
                let leader = leader.map_or_else(String::new, |leader| format!(", led by {leader}"));
                findings.push(Finding::ok(THING, format!("`{shown}` can be read and written{leader}")));
                findings.extend(waiting(&queue, pipeline).await);
                let _ = queue.close().await;
            }
            Err(error) => {
                findings.push(Finding::fail(THING, told(&error), "correct `queue`, or remove the file"));
            }
        }
    } else if let Some(folder) = nearest_folder(path) {
        findings.push(Finding::ok(
            THING,
            format!("`{shown}` is not there yet; a run makes it in `{}`", folder.display()),
        ));
    }
    findings.push(disk_space("queue's disk", path));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn a_broker_is_judged_by_its_version() {
        let of = |text: &str| {
            let broker = BrokerVersion { product: "RabbitMQ".to_owned(), version: text.to_owned() };
            version(Some(&broker), "amqp://broker/").health
        };
        assert_eq!(
            ["3.9.29", "3.10.8", "3.12.0", "4.0.5", "tip"].map(of),
            [Health::Fail, Health::Warn, Health::Ok, Health::Ok, Health::Warn]
        );
        assert_eq!(version(None, "amqps://broker/").health, Health::Warn);
    }
}
