//! Which broker it is. RabbitMQ accepts settings it does not know, so only its version tells what works.
//!
//! The client library keeps the version to itself; a short conversation of our own reads it from the first frame
//! that a broker sends.

use std::{fmt, time::Duration};

use lapin::{
    protocol::{self, AMQPClass, connection::AMQPMethod},
    types::AMQPValue,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::topology::ANSWER_LIMIT;
use crate::Redacted;

/// Product and version as the broker names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerVersion {
    pub product: String,
    pub version: String,
}

impl fmt::Display for BrokerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.product, self.version)
    }
}

impl BrokerVersion {
    /// Major and minor number, where the version has the usual form.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// Asks on a fresh stream. Any answer that is not a broker's first frame gives nothing.
pub(super) async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<BrokerVersion> {
    /// Type, channel and size of a frame.
    const HEADER: usize = 7;
    /// A first frame is about 500 bytes.
    const LARGEST: usize = 64 * 1024;
    stream.write_all(b"AMQP\0\0\x09\x01").await.ok()?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await.ok()?;
    let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
    if size > LARGEST {
        return None;
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await.ok()?;
    version_in(&payload)
}

fn version_in(payload: &[u8]) -> Option<BrokerVersion> {
    let Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) = protocol::parse_class(payload) else {
        return None;
    };
    let text = |key: &str| match start.server_properties.inner().get(key)? {
        AMQPValue::LongString(value) => Some(value.to_string()),
        _ => None,
    };
    Some(BrokerVersion { product: text("product")?, version: text("version")? })
}

/// What the broker lacks, in an operator's words, and how long it lets a delivery stay unanswered unless its operator
/// chose otherwise.
#[derive(Debug, PartialEq, Eq)]
struct Abilities {
    off: Vec<&'static str>,
    answer_limit: Option<Duration>,
}

/// Settings that a broker does not know are accepted in silence, so this is the only place that tells.
fn abilities((major, minor): (u32, u32)) -> Abilities {
    const DEFAULT_LIMIT: Duration = Duration::from_mins(30);
    let version = (major, minor);
    let mut off = Vec::new();
    if version < (3, 10) {
        off.push("dead letters that survive a crash (3.10)");
    }
    if version < (3, 12) {
        off.push("a time limit for answers per queue (3.12), `consumer_timeout` holds instead");
    }
    let answer_limit = if version < (3, 8) {
        None
    } else if version < (3, 12) {
        Some(DEFAULT_LIMIT)
    } else {
        Some(ANSWER_LIMIT)
    };
    Abilities { off, answer_limit }
}

/// Logs the broker and what it lacks, and warns where deliveries are held too long for it.
pub(super) fn tell(version: Option<&BrokerVersion>, broker: &Redacted, longest_hold: Option<Duration>) {
    let numbers = version.and_then(|version| (version.product == "RabbitMQ").then(|| version.numbers())?);
    let (Some(version), Some(numbers)) = (version, numbers) else {
        let version = version.map_or_else(|| "unknown".to_owned(), ToString::to_string);
        tracing::warn!(%broker, version, "no known broker: what it lacks is not known either");
        return;
    };
    let Abilities { off, answer_limit } = abilities(numbers);
    tracing::info!(%broker, %version, off = off.join("; "), "the broker's version");
    if let (Some(limit), Some(hold)) = (answer_limit, longest_hold)
        && limit < hold
    {
        tracing::warn!(
            %version,
            longest_hold_seconds = hold.as_secs(),
            answer_limit_seconds = limit.as_secs(),
            "unless its `consumer_timeout` was raised, the broker takes tasks away before their slices are stored; \
             shorten `--slice-seconds`, or raise it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_from_the_usual_form_only() {
        let numbers =
            |version: &str| BrokerVersion { product: "RabbitMQ".into(), version: version.into() }.numbers();
        assert_eq!(numbers("3.10.8"), Some((3, 10)));
        assert_eq!(numbers("4.3.0-rc.1"), Some((4, 3)));
        assert_eq!(numbers("unknown"), None);
    }

    #[test]
    fn a_newer_broker_lacks_less_and_ours_is_the_limit_for_answers_from_3_12() {
        let lacks = |version| abilities(version).off.len();
        assert_eq!([(3, 9), (3, 10), (3, 12), (4, 0)].map(lacks), [2, 1, 0, 0]);
        let limit = |version| abilities(version).answer_limit;
        assert_eq!(limit((3, 10)), Some(Duration::from_mins(30)));
        assert_eq!(limit((4, 0)), Some(ANSWER_LIMIT));
        assert_eq!(limit((3, 7)), None);
    }

    #[test]
    fn nonsense_has_no_version() {
        assert_eq!(version_in(b""), None);
        assert_eq!(version_in(&[0; 64]), None);
    }
}
