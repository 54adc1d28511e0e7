//! Taking: the urgent lanes first, and nothing ahead.
//!
//! A take first asks the lanes in their order. If all are empty, it becomes a consumer of each, so that the broker
//! wakes it; the first message ends all of these consumers, and what arrived beside it goes straight back.
//! Staying a consumer with a prefetch of one would instead reserve a message of every lane behind a running task.
//!
//! Giving back is publishing again, confirmed, and then acknowledging. Before 4.3 a broker counts what is returned towards
//! the delivery limit of its queue, so a healthy message would become a dead letter in a long outage. A taker that dies
//! between the two leaves the message twice, which the contract allows.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt, stream};
use lapin::{
    Acker, Consumer,
    message::Delivery as Raw,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
        BasicQosOptions, BasicRejectOptions,
    },
    types::FieldTable,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    line::{LIFE_CHECK, Line},
    link::{Link, Role},
    publish,
    retry::Retry,
    topology,
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
            Ok(delivery) => return Ok(delivery),
            Err(error) => retry.pause(&link, error).await?,
        }
    }
}

async fn fetch_once(link: &Arc<Link>, lanes: &[Lane], retry: &mut Retry) -> Result<RabbitDelivery> {
    let line = link.line(Role::Receive, "take a message").await?;
    let fetched = fetch_on(&line, lanes, retry).await;
    if fetched.is_err() {
        // A queue may have been deleted: declare it again.
        line.declared().forget();
    }
    fetched
}

async fn fetch_on(line: &Line, lanes: &[Lane], retry: &mut Retry) -> Result<RabbitDelivery> {
    const ACTION: &str = "take a message";
    let channel = line.channel();
    for lane in lanes {
        topology::ensure_lane(line, ACTION, &lane.to_string(), &lane.pipeline).await?;
    }
    for lane in lanes {
        let get = channel.basic_get(lane.to_string().into(), BasicGetOptions::default());
        if let Some(got) = line.step(ACTION, get).await? {
            return Ok(RabbitDelivery::new(line.clone(), lane.clone(), got.delivery));
        }
    }
    line.step(ACTION, channel.basic_qos(1, BasicQosOptions::default())).await?;
    let mut consumers = Vec::with_capacity(lanes.len());
    for lane in lanes {
        let consume = channel.basic_consume(
            lane.to_string().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        consumers.push(line.step(ACTION, consume).await?);
    }
    // The broker answers, so a later loss of the connection finds the patience whole.
    *retry = Retry::new(line.link().options().patience);
    let (lane, raw) = first_of(line, lanes, &mut consumers).await?;
    let delivery = RabbitDelivery::new(line.clone(), lane.clone(), raw);
    return_the_rest(line, lanes, consumers).await?;
    Ok(delivery)
}

async fn first_of<'lanes>(
    line: &Line,
    lanes: &'lanes [Lane],
    consumers: &mut [Consumer],
) -> Result<(&'lanes Lane, Raw)> {
    const ACTION: &str = "wait for a message";
    // A stream that ends, while others go on: the broker cancelled its consumer, because the queue was deleted.
    let marked = lanes.iter().zip(consumers).map(|(lane, consumer)| {
        consumer.map(move |arrival| Some((lane, arrival))).chain(stream::iter([None]))
    });
    let mut arrivals = stream::select_all(marked);
    loop {
        tokio::select! {
            biased;
            arrival = arrivals.next() => match arrival.flatten() {
                Some((lane, Ok(raw))) => return Ok((lane, raw)),
                Some((_, Err(source))) => return Err(line.link().dialer().classify(ACTION, source)),
                None => return Err(line.lost_error(ACTION)),
            },
            () = line.lost() => return Err(line.lost_error(ACTION)),
            () = line.link().closed() => return Err(Error::Closed),
            () = tokio::time::sleep(LIFE_CHECK) => {
                if !line.is_alive() {
                    return Err(line.lost_error(ACTION));
                }
            }
        }
    }
}

/// Ends the consumers and gives back what they got beside the first message.
async fn return_the_rest(line: &Line, lanes: &[Lane], consumers: Vec<Consumer>) -> Result<()> {
    const ACTION: &str = "stop waiting for messages";
    for consumer in &consumers {
        let cancel = line.channel().basic_cancel(consumer.tag(), BasicCancelOptions::default());
        line.step(ACTION, cancel).await?;
    }
    for (lane, mut consumer) in lanes.iter().zip(consumers) {
        // After the cancellation the stream holds what had arrived, and then ends.
        while let Some(mut extra) = line.step(ACTION, consumer.next().map(Option::transpose)).await? {
            let message = publish::message(&mut extra);
            line.step(ACTION, give_back(line, lane, &message, &extra.acker)).await?;
        }
    }
    Ok(())
}

/// The answer to a delivery that goes back, see the page of this module. Where it cannot be published, such as on a broker
/// that is short of memory, the broker puts it back itself, and counts that.
async fn give_back(line: &Line, lane: &Lane, message: &Message, acker: &Acker) -> lapin::Result<bool> {
    match Box::pin(publish::again(line.link(), lane, message)).await {
        Ok(()) => acker.ack(BasicAckOptions::default()).await,
        Err(error) => {
            tracing::info!(%error, message = message.id, "a return counts as a delivery");
            acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await
        }
    }
}

/// Dropping it closes its channel, and the broker gives the message to someone else.
#[derive(Debug)]
pub(super) struct RabbitDelivery {
    line: Line,
    lane: Lane,
    raw: Raw,
    message: Message,
}

impl RabbitDelivery {
    fn new(line: Line, lane: Lane, mut raw: Raw) -> Self {
        let message = publish::message(&mut raw);
        Self { line, lane, raw, message }
    }

    /// Closing the channel makes the broker answer, after it has handled what came before: an acknowledgement itself
    /// has no answer. Whatever fails here, the message may come again, which is what `false` says.
    async fn settle(&self, answer: impl Future<Output = lapin::Result<bool>>) -> bool {
        let settle = async {
            let answered = answer.await?;
            self.line.close_channel().await?;
            Ok(answered)
        };
        match self.line.step("answer a delivery", settle).await {
            Ok(answered) => answered,
            Err(error) => {
                tracing::info!(%error, message = self.message.id, "a delivery is no longer ours");
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
        self.raw.redelivered || publish::was_given_back(&self.raw)
    }

    async fn acknowledge(self: Box<Self>) -> Result<bool> {
        Ok(self.settle(self.raw.acker.ack(BasicAckOptions::default())).await)
    }

    async fn give_back(self: Box<Self>) -> Result<bool> {
        // Somebody else has it already: a copy would only make more of them.
        if !self.line.is_alive() {
            return Ok(false);
        }
        let answer = give_back(&self.line, &self.lane, &self.message, &self.raw.acker);
        Ok(self.settle(answer).await)
    }

    async fn dead_letter(self: Box<Self>) -> Result<bool> {
        Ok(self.settle(self.raw.acker.reject(BasicRejectOptions { requeue: false })).await)
    }
}
