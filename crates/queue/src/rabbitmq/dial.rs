//! Opens connections, plain or with TLS, and says what is wrong where none can be opened.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lapin::{
    AsyncTcpStream, Connection, ConnectionProperties, ErrorKind,
    tcp::RustlsConnector,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::net::{TcpStream, lookup_host};
use url::Url;

use super::{RabbitAccess, RabbitOptions, version, version::BrokerVersion};
use crate::{Error, Redacted, Result};

/// AMQP's reply codes.
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// Everything that is needed to connect, checked.
pub(super) struct Dialer {
    uri: AMQPUri,
    tls: Option<Arc<RustlsConnector>>,
    shown: Redacted,
    answer: Duration,
}

impl Dialer {
    /// Reads files and checks them; connects nowhere yet.
    pub(super) fn new(url: Url, access: &RabbitAccess, options: &RabbitOptions) -> Result<Self> {
        let shown = Redacted::new(url.as_str());
        let url = access.complete(url, options.heartbeat)?;
        let uri: AMQPUri = url
            .as_str()
            .parse()
            .map_err(|_| Error::Address { address: shown.clone(), rule: "it is no valid AMQP address" })?;
        let tls = match uri.scheme {
            AMQPScheme::AMQP => None,
            AMQPScheme::AMQPS => Some(Arc::new(access.connector()?)),
        };
        Ok(Self { uri, tls, shown, answer: options.answer })
    }

    pub(super) fn shown(&self) -> &Redacted {
        &self.shown
    }

    /// Tried once. `purpose` is what an operator reads in the broker's list of connections.
    pub(super) async fn connect(&self, purpose: &str) -> Result<Connection> {
        let name = format!("metad2a {purpose}, process {}", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let addresses = self.addresses().await?;
        let tls = self.tls.clone();
        let connect = async {
            Connection::connector(
                self.uri.clone(),
                lapin::runtime::default_runtime()?,
                async move |uri, runtime| {
                    let plain = AsyncTcpStream::connect(&runtime, addresses.clone()).await?;
                    Ok(match &tls {
                        None => plain,
                        Some(tls) => plain.into_rustls(tls, &uri.authority.host).await?,
                    })
                },
                properties,
            )
            .await
        };
        match tokio::time::timeout(self.answer, connect).await {
            Ok(connected) => connected.map_err(|source| self.classify("connect", source)),
            Err(_) => Err(self.timeout("connect")),
        }
    }

    /// The broker's version, from a short conversation of our own: the client library keeps it to itself.
    /// `None` where the broker answers in an unknown way: the version is good to know, no need.
    pub(super) async fn version(&self) -> Option<BrokerVersion> {
        let ask = async {
            let stream = TcpStream::connect(&*self.addresses().await.ok()?).await.ok()?;
            match &self.tls {
                None => version::ask(stream).await,
                Some(tls) => {
                    use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
                    let stream = tls.connect_async(&self.uri.authority.host, stream.compat()).await.ok()?;
                    version::ask(stream.compat()).await
                }
            }
        };
        tokio::time::timeout(self.answer, ask).await.ok().flatten()
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let authority = &self.uri.authority;
        // Brackets are how a URL writes an IPv6 address.
        let host = authority.host.trim_matches(['[', ']']);
        match lookup_host((host, authority.port)).await {
            Ok(found) => Ok(found.collect()),
            Err(source) => Err(Error::UnknownHost { address: self.shown.clone(), source }),
        }
    }

    pub(super) fn timeout(&self, action: &'static str) -> Error {
        Error::Timeout { address: self.shown.clone(), action, seconds: self.answer.as_secs() }
    }

    pub(super) fn classify(&self, action: &'static str, source: lapin::Error) -> Error {
        let address = self.shown.clone();
        match source.kind() {
            ErrorKind::AuthProviderError(_) => Error::Refused { address, action, source },
            // A certificate that one of the two sides does not accept, at whatever point it finds out.
            ErrorKind::IOError(io) if self.tls.is_some() && io.kind() == std::io::ErrorKind::InvalidData => {
                Error::Tls { address, source }
            }
            ErrorKind::ProtocolError(reply) => match reply.get_id() {
                ACCESS_REFUSED | NOT_ALLOWED => Error::Refused { address, action, source },
                // The same code ends a channel whose delivery was not answered in time: that is no wrong setting.
                PRECONDITION_FAILED if reply.get_message().as_str().contains("inequivalent") => {
                    Error::Topology { address, action, source }
                }
                _ => Error::Broker { address, action, source },
            },
            _ => Error::Broker { address, action, source },
        }
    }
}
