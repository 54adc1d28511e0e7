//! Which broker it is. RabbitMQ accepts settings it does not know, so only its version tells what works.
//!
//! The client library keeps the version to itself; a short conversation of our own reads it from the first frame
//! that a broker sends.

use std::{fmt, io, time::Duration};

use lapin::{
    protocol::{self, AMQPClass, connection::AMQPMethod},
    types::AMQPValue,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::link::Link;
use crate::Redacted;

const DEFAULT_PORT: u16 = 5672;

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

/// `None` where the broker is reached by TLS only, or answers in an unknown way: the version is good to know, no need.
pub(super) async fn read(link: &Link) -> Option<BrokerVersion> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let url = link.url();
    if url.scheme() != "amqp" {
        return None;
    }
    let address = (url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(DEFAULT_PORT));
    match tokio::time::timeout(PATIENCE, ask(address)).await {
        Ok(Ok(version)) => version,
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn ask(address: (String, u16)) -> io::Result<Option<BrokerVersion>> {
    /// Type, channel and size of a frame.
    const HEADER: usize = 7;
    /// A first frame is about 500 bytes.
    const LARGEST: usize = 64 * 1024;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"AMQP\0\0\x09\x01").await?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let size = u32::from_be_bytes([header[3], header[4], header[5], header[6]]) as usize;
    if size > LARGEST {
        return Ok(None);
    }
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).await?;
    Ok(version_in(&payload))
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

/// Logs the broker and what it lacks.
pub(super) fn tell(version: Option<&BrokerVersion>, broker: &Redacted) {
    let Some(version) = version else {
        tracing::info!(%broker, "connected; the broker's version is unknown");
        return;
    };
    tracing::info!(%broker, %version, "connected");
    match version.numbers() {
        Some(numbers) if numbers < (3, 10) => {
            tracing::warn!(%version, "older than 3.10: dead letters may be lost, upgrade the broker");
        }
        Some(numbers) if numbers < (3, 12) => tracing::info!(
            %version,
            "older than 3.12: the time for an acknowledgement is the broker's own setting `consumer_timeout`, 30 minutes by default"
        ),
        _ => {}
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
    fn nonsense_has_no_version() {
        assert_eq!(version_in(b""), None);
        assert_eq!(version_in(&[0; 64]), None);
    }
}
