//! Notices and events: consumers without acknowledgements, renewed when their channel is lost.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::{Consumer, options::BasicConsumeOptions, types::FieldTable};

use super::{
    line::{LIFE_CHECK, Line},
    link::{Link, Role},
    topology,
};
use crate::{Error, Result, feed::Feed};

/// What is read. Each is set up anew on every new channel.
#[derive(Clone, Copy, Debug)]
enum Source {
    Notices,
    Events,
}

#[derive(Debug)]
struct Reader {
    link: Arc<Link>,
    source: Source,
    pipeline: String,
    open: Option<(Line, Consumer)>,
}

impl Reader {
    async fn open(link: Arc<Link>, source: Source, pipeline: &str) -> Result<Self> {
        let mut reader = Self { link, source, pipeline: pipeline.to_owned(), open: None };
        reader.reopen().await?;
        Ok(reader)
    }

    async fn reopen(&mut self) -> Result<()> {
        let (source, pipeline) = (self.source, self.pipeline.as_str());
        let talk = |line: Line| async move {
            let channel = line.channel();
            let queue = match source {
                Source::Notices => topology::declare_listener(channel, pipeline).await?,
                Source::Events => {
                    topology::declare_events(channel, pipeline).await?;
                    topology::event_queue(pipeline)
                }
            };
            let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
            let consumer =
                channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
            Ok((line, consumer))
        };
        self.open = Some(self.link.converse(Role::Receive, "read news", talk).await?);
        Ok(())
    }

    async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            let Some((line, consumer)) = &mut self.open else {
                self.reopen().await?;
                continue;
            };
            tokio::select! {
                biased;
                () = self.link.closed() => return Err(Error::Closed),
                arrival = consumer.next() => match arrival {
                    Some(Ok(delivery)) => return Ok(delivery.data),
                    // The channel was closed, or the queue was deleted. Hints may be lost with their channel; reconnecting waits if the broker is away.
                    Some(Err(_)) | None => self.open = None,
                },
                () = line.lost() => self.open = None,
                () = tokio::time::sleep(LIFE_CHECK) => {
                    if !line.is_alive() {
                        self.open = None;
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct RabbitNotices(Reader);

#[derive(Debug)]
pub(super) struct RabbitEvents(Reader);

impl RabbitNotices {
    pub(super) async fn open(link: Arc<Link>, pipeline: &str) -> Result<Self> {
        Ok(Self(Reader::open(link, Source::Notices, pipeline).await?))
    }
}

impl RabbitEvents {
    pub(super) async fn open(link: Arc<Link>, pipeline: &str) -> Result<Self> {
        Ok(Self(Reader::open(link, Source::Events, pipeline).await?))
    }
}

#[async_trait]
impl Feed for RabbitNotices {
    async fn next(&mut self) -> Result<Vec<u8>> {
        self.0.next().await
    }
}

#[async_trait]
impl Feed for RabbitEvents {
    async fn next(&mut self) -> Result<Vec<u8>> {
        self.0.next().await
    }
}
