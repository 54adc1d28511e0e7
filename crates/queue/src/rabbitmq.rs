//! RabbitMQ, for many machines.
//!
//! ```text
//!  publish ─confirmed─► lane (quorum queue) ─consume─► subscription ─ack─► gone
//!                         │ rejected, or given out too often
//!                         └─► fanout `….dead` ─► quorum queue `….dead-letters`
//!  broadcast ─► fanout `….notices` ─► one exclusive queue per listener
//!  emit ─► classic queue `….events`, drops its oldest ─► one reader
//!  lead: exclusive queue `….leader`, ends with its connection; `….leader-name` holds the name
//! ```
//!
//! Everything is declared before it is used, so an empty broker works. Sending and receiving have a connection each, which
//! all tasks share; each delivery has a channel of its own, so dropping the channel gives the message back, its closing
//! confirms an acknowledgement, and a delivery that the broker ends for lateness ends alone.
//! A lost connection is replaced by whichever call needs it next, with growing, jittered pauses; the client library's
//! own recovery stays off, because a channel that the broker closed would stay dead with it.
//!
//! Works with RabbitMQ 3.10 and later, see [`version`] for what older ones lack.
//!
//! Deliberately absent: priorities within a lane, and policies (lengths, time-outs): they belong to the operator.

mod access;
mod dial;
mod feeds;
mod leader;
mod line;
mod link;
mod publish;
mod retry;
mod subscription;
mod topology;
mod version;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use url::Url;

use self::{
    dial::Dialer,
    feeds::{RabbitEvents, RabbitNotices},
    link::{Link, Role},
    subscription::RabbitSubscription,
};
pub use access::RabbitAccess;
pub use version::BrokerVersion;

use crate::{Events, Lane, Leadership, Message, Notices, Queue, Result, Subscription, message};

/// Times of a connection. The defaults suit production.
#[derive(Clone, Copy, Debug)]
pub struct RabbitOptions {
    /// Seconds between heartbeats, where the address names none.
    pub heartbeat: u16,
    /// How long one step of a conversation with the broker may take.
    pub answer: Duration,
    /// How long a program that starts waits for a broker that is not there yet.
    pub start: Duration,
    /// How long a call tries again after the connection was lost, before it returns a retryable error.
    pub patience: Duration,
    /// The longest time that a delivery stays unanswered, for takers: at start we warn where a broker grants less.
    pub longest_hold: Option<Duration>,
}

impl Default for RabbitOptions {
    fn default() -> Self {
        Self {
            heartbeat: 30,
            answer: Duration::from_secs(30),
            start: Duration::from_mins(1),
            patience: Duration::from_mins(2),
            longest_hold: None,
        }
    }
}

/// A connection to RabbitMQ, made anew when it is lost.
#[derive(Debug)]
pub struct RabbitQueue {
    link: Arc<Link>,
    version: Option<BrokerVersion>,
}

impl RabbitQueue {
    /// Connects. A wrong name, password or certificate is told at once; a broker that is not there yet is waited for
    /// (see [`RabbitOptions::start`]).
    pub async fn connect(url: Url, options: RabbitOptions, access: &RabbitAccess) -> Result<Self> {
        let link = Arc::new(Link::new(Dialer::new(url, access, &options)?, options));
        link.start().await?;
        let version = link.dialer().version().await;
        version::tell(version.as_ref(), link.address(), options.longest_hold);
        Ok(Self { link, version })
    }

    /// The broker's version, where it could be read.
    pub fn broker_version(&self) -> Option<&BrokerVersion> {
        self.version.as_ref()
    }
}

#[async_trait]
impl Queue for RabbitQueue {
    async fn publish(&self, lane: &Lane, messages: &[Message]) -> Result<()> {
        let name = lane.checked_name()?;
        Message::check_all(messages)?;
        publish::to_lane(&self.link, &name, &lane.pipeline, messages).await
    }

    async fn subscribe(&self, lanes: &[Lane]) -> Result<Box<dyn Subscription>> {
        Lane::checked_names(lanes)?;
        // A first conversation, so that a wrong set-up is told here and not by the first `take`.
        for lane in lanes {
            self.ready(lane).await?;
        }
        Ok(Box::new(RabbitSubscription::new(Arc::clone(&self.link), lanes)))
    }

    async fn ready(&self, lane: &Lane) -> Result<u64> {
        let (name, pipeline) = (lane.checked_name()?, lane.pipeline.clone());
        self.link
            .converse(Role::Receive, "count messages", |line| {
                let (name, pipeline) = (name.clone(), pipeline.clone());
                async move { topology::declare_lane(line.channel(), &name, &pipeline).await }
            })
            .await
    }

    async fn purge(&self, lane: &Lane) -> Result<u64> {
        let (name, pipeline) = (lane.checked_name()?, lane.pipeline.clone());
        self.link
            .converse(Role::Receive, "purge a lane", |line| {
                let (name, pipeline) = (name.clone(), pipeline.clone());
                async move {
                    topology::declare_lane(line.channel(), &name, &pipeline).await?;
                    topology::purge(line.channel(), &name).await
                }
            })
            .await
    }

    async fn broadcast(&self, pipeline: &str, notice: &[u8]) -> Result<()> {
        Lane::check_pipeline(pipeline)?;
        message::check_news(notice)?;
        publish::notice(&self.link, pipeline, notice).await
    }

    async fn listen(&self, pipeline: &str) -> Result<Notices> {
        Lane::check_pipeline(pipeline)?;
        Ok(Notices::new(RabbitNotices::open(Arc::clone(&self.link), pipeline).await?))
    }

    async fn emit(&self, pipeline: &str, event: &[u8]) -> Result<()> {
        Lane::check_pipeline(pipeline)?;
        message::check_news(event)?;
        publish::event(&self.link, pipeline, event).await
    }

    async fn events(&self, pipeline: &str) -> Result<Events> {
        Lane::check_pipeline(pipeline)?;
        Ok(Events::new(RabbitEvents::open(Arc::clone(&self.link), pipeline).await?))
    }

    async fn dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        self.link
            .converse(Role::Receive, "count dead letters", |line| {
                let pipeline = pipeline.to_owned();
                async move { topology::declare_dead_letters(line.channel(), &pipeline).await }
            })
            .await
    }

    async fn purge_dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        self.link
            .converse(Role::Receive, "purge dead letters", |line| {
                let pipeline = pipeline.to_owned();
                async move {
                    topology::declare_dead_letters(line.channel(), &pipeline).await?;
                    topology::purge(line.channel(), &topology::dead_queue(&pipeline)).await
                }
            })
            .await
    }

    async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership> {
        Lane::check_pipeline(pipeline)?;
        leader::lead(&self.link, pipeline, holder).await
    }

    async fn leader(&self, pipeline: &str) -> Result<Option<String>> {
        Lane::check_pipeline(pipeline)?;
        leader::present(&self.link, pipeline).await
    }

    async fn close(&self) -> Result<()> {
        self.link.close().await;
        Ok(())
    }
}
