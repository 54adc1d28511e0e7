//! Taking: the urgent lanes first, and nothing ahead.
//!
//! A take first asks the lanes in their order. If all are empty, it becomes a consumer of each, so that the broker
//! wakes it; the first message ends all of these consumers, and what arrived beside it goes straight back.
//! Staying a consumer with a prefetch of one would instead reserve a message of every lane behind a running task.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use lapin::{
    Channel, Consumer,
    message::Delivery as Raw,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicQosOptions, BasicRejectOptions,
    },
    types::FieldTable,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    link::{LIFE_CHECK, Link, Retry, close_channel},
    publish, topology,
};
use crate::{Delivery, Error, Lane, Message, Result, Subscription};

#[derive(Debug)]
pub(super) struct RabbitSubscription {
    link: Arc<Link>,
    lanes: Arc<[Lane]>,
    /// A take that goes on when its caller stops waiting; dropping it gives its message back.
    pending: Option<AbortOnDropHandle<Result<RabbitDelivery>>>,
}

impl RabbitSubscription {
    pub(super) fn new(link: Arc<Link>, lanes: &[Lane]) -> Self {
        Self { link, lanes: lanes.into(), pending: None }
    }
}

#[async_trait]
impl Subscription for RabbitSubscription {
    async fn take(&mut self) -> Result<Box<dyn Delivery>> {
        let (link, lanes) = (&self.link, &self.lanes);
        let pending = self.pending.get_or_insert_with(|| {
            AbortOnDropHandle::new(tokio::spawn(fetch(Arc::clone(link), Arc::clone(lanes))))
        });
        let fetched = pending.await;
        self.pending = None;
        // The task ends otherwise only with its runtime.
        let delivery = fetched.map_err(|_| Error::Closed)??;
        Ok(Box::new(delivery))
    }
}

async fn fetch(link: Arc<Link>, lanes: Arc<[Lane]>) -> Result<RabbitDelivery> {
    let mut retry = Retry::new(link.options().patience);
    loop {
        match fetch_once(&link, &lanes, &mut retry).await {
            Err(error) if error.is_retryable() => retry.pause(&link, error).await?,
            done => return done,
        }
    }
}

async fn fetch_once(link: &Arc<Link>, lanes: &[Lane], retry: &mut Retry) -> Result<RabbitDelivery> {
    const ACTION: &str = "take a message";
    let channel = link.channel(ACTION).await?;
    for lane in lanes {
        link.within(ACTION, topology::declare_lane(&channel, &lane.to_string(), &lane.pipeline)).await?;
    }
    for lane in lanes {
        let get = channel.basic_get(lane.to_string().into(), BasicGetOptions::default());
        if let Some(got) = link.within(ACTION, get).await? {
            return Ok(RabbitDelivery::new(Arc::clone(link), channel, got.delivery));
        }
    }
    link.within(ACTION, channel.basic_qos(1, BasicQosOptions::default())).await?;
    let mut consumers = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let consume = channel.basic_consume(
            lane.to_string().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        consumers.push(link.within(ACTION, consume).await?);
    }
    // The broker answers, so a later loss of the connection finds the patience whole.
    *retry = Retry::new(link.options().patience);
    let raw = first_of(link, &channel, &mut consumers).await?;
    let delivery = RabbitDelivery::new(Arc::clone(link), channel.clone(), raw);
    return_the_rest(link, &channel, consumers).await?;
    Ok(delivery)
}

async fn first_of(link: &Link, channel: &Channel, consumers: &mut [Consumer]) -> Result<Raw> {
    const ACTION: &str = "wait for a message";
    // Each stream ends with an error: an end means that the broker took the queue away.
    let mut arrivals = stream::select_all(consumers.iter_mut());
    loop {
        tokio::select! {
            arrival = arrivals.next() => match arrival {
                Some(Ok(raw)) => return Ok(raw),
                Some(Err(source)) => return Err(link.classify(ACTION, source)),
                None => return Err(lost(link, ACTION)),
            },
            () = tokio::time::sleep(LIFE_CHECK) => {
                if !channel.status().connected() {
                    return Err(lost(link, ACTION));
                }
            }
            () = link.closed() => return Err(Error::Closed),
        }
    }
}

fn lost(link: &Link, action: &'static str) -> Error {
    let source = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the broker ended the channel");
    link.classify(action, source.into())
}

/// Ends the consumers and gives back what they got beside the first message.
async fn return_the_rest(link: &Link, channel: &Channel, consumers: Vec<Consumer>) -> Result<()> {
    const ACTION: &str = "stop waiting for messages";
    for consumer in &consumers {
        link.within(ACTION, channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
    }
    for mut consumer in consumers {
        // After the cancellation the stream holds what had arrived, and then ends.
        while let Ok(Some(Ok(extra))) = tokio::time::timeout(link.options().answer, consumer.next()).await {
            let nack = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            link.within(ACTION, extra.acker.nack(nack)).await?;
        }
    }
    Ok(())
}

/// Dropping it closes its channel, and the broker gives the message to someone else.
#[derive(Debug)]
pub(super) struct RabbitDelivery {
    link: Arc<Link>,
    channel: Channel,
    raw: Raw,
    message: Message,
}

impl RabbitDelivery {
    fn new(link: Arc<Link>, channel: Channel, mut raw: Raw) -> Self {
        let message = publish::message(&mut raw);
        Self { link, channel, raw, message }
    }

    /// Closing the channel makes the broker answer, after it has handled what came before: an acknowledgement itself
    /// has no answer. Whatever fails here, the message may come again, which is what `false` says.
    async fn settle(&self, answer: impl Future<Output = lapin::Result<bool>>) -> bool {
        let settle = async {
            let answered = answer.await?;
            close_channel(&self.channel).await?;
            Ok(answered)
        };
        match self.link.within("answer a delivery", settle).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::debug!(%error, message = self.message.id, "a delivery is no longer ours");
                false
            }
        }
    }
}

#[async_trait]
impl Delivery for RabbitDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    fn redelivered(&self) -> bool {
        self.raw.redelivered
    }

    async fn acknowledge(self: Box<Self>) -> Result<bool> {
        Ok(self.settle(self.raw.acker.ack(BasicAckOptions::default())).await)
    }

    async fn give_back(self: Box<Self>) -> Result<bool> {
        // Free on RabbitMQ 4.3, where a rejection counts towards the delivery limit.
        let nack = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        Ok(self.settle(self.raw.acker.nack(nack)).await)
    }

    async fn dead_letter(self: Box<Self>) -> Result<bool> {
        Ok(self.settle(self.raw.acker.reject(BasicRejectOptions { requeue: false })).await)
    }
}
