//! Sending: confirmed, in a sliding window, and again what was not confirmed.

use std::{collections::VecDeque, sync::Arc};

use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::Instant;

use super::{
    line::Line,
    link::{Link, Role},
    retry::Retry,
    topology,
};
use crate::{Error, Message, Result};

/// How many messages may be unconfirmed at a time: enough to hide the broker's disk, few enough to repeat.
const WINDOW: usize = 256;

const ACTION: &str = "publish";
const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// Stores all messages in the lane. Those already confirmed are not sent again after a lost connection.
pub(super) async fn to_lane(
    link: &Arc<Link>,
    lane: &str,
    pipeline: &str,
    messages: &[Message],
) -> Result<()> {
    let mut retry = Retry::new(link.options().patience);
    let mut open: Vec<&Message> = messages.iter().collect();
    loop {
        let result = match link.line(Role::Send, ACTION).await {
            Ok(line) => {
                let sent = send(&line, lane, pipeline, &mut open).await;
                if sent.is_err() {
                    line.declared().forget();
                }
                sent
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(error) => {
                let before = open.len();
                retry.pause(link, error).await?;
                tracing::debug!(lane, unconfirmed = before, "publishing again what was not confirmed");
            }
        }
    }
}

/// Sends what is open, and removes from it what was confirmed.
///
/// A message that no queue took comes back from the broker before its confirmation, but the client library may hand it
/// out with the confirmation of a neighbour. So one refused or returned message puts the whole batch in doubt.
async fn send(line: &Line, lane: &str, pipeline: &str, open: &mut Vec<&Message>) -> Result<()> {
    topology::ensure_lane(line, ACTION, lane, pipeline).await?;
    line.step(ACTION, line.channel().confirm_select(ConfirmSelectOptions::default())).await?;
    let mut in_flight: VecDeque<(PublisherConfirm, Instant)> = VecDeque::with_capacity(WINDOW);
    let mut next = 0;
    // Confirmations are waited for in the order of the messages, so these are the first ones.
    let mut confirmed = 0;
    let sent = loop {
        if next < open.len() && in_flight.len() < WINDOW {
            match line.step(ACTION, put(line.channel(), lane, open[next])).await {
                Ok(confirm) => in_flight.push_back((confirm, Instant::now() + line.link().options().answer)),
                Err(error) => break Err(error),
            }
            next += 1;
            continue;
        }
        let Some((confirm, until)) = in_flight.pop_front() else { break Ok(()) };
        match line.step_until(ACTION, until, confirm).await {
            Ok(Confirmation::Ack(None)) => confirmed += 1,
            Ok(_) => {
                let (address, id) = (line.link().address().clone(), open[confirmed].id.clone());
                confirmed = 0;
                in_flight.clear();
                break Err(Error::NotConfirmed { address, lane: lane.to_owned(), id });
            }
            Err(error) => break Err(error),
        }
    };
    // After a fault, what is confirmed already need not be sent again.
    while let Some((confirm, _)) = in_flight.pop_front()
        && let Ok(Confirmation::Ack(None)) = line.step_until(ACTION, Instant::now(), confirm).await
    {
        confirmed += 1;
    }
    open.drain(..confirmed);
    sent.map_err(|error| match error {
        Error::Timeout { address, .. } if line.is_blocked() => Error::Blocked { address },
        other => other,
    })
}

async fn put(channel: &Channel, lane: &str, message: &Message) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish("".into(), lane.into(), options, &message.body, properties(message)).await
}

/// Nobody listening is no error, hence not mandatory.
pub(super) async fn notice(link: &Arc<Link>, pipeline: &str, notice: &[u8]) -> Result<()> {
    let exchange = topology::notice_exchange(pipeline);
    link.converse(Role::Send, "broadcast", |line| {
        let exchange = exchange.clone();
        async move {
            if !line.declared().contains(&exchange) {
                topology::declare_notices(line.channel(), pipeline).await?;
                line.declared().add(&exchange);
            }
            send_news(line.channel(), &exchange, "", notice).await
        }
    })
    .await
}

pub(super) async fn event(link: &Arc<Link>, pipeline: &str, event: &[u8]) -> Result<()> {
    let queue = topology::event_queue(pipeline);
    link.converse(Role::Send, "emit an event", |line| {
        let queue = queue.clone();
        async move {
            if !line.declared().contains(&queue) {
                topology::declare_events(line.channel(), pipeline).await?;
                line.declared().add(&queue);
            }
            send_news(line.channel(), "", &queue, event).await
        }
    })
    .await
}

/// Confirmed although only a hint: an emitter that never waits could flood the broker.
/// News to a queue (on the default exchange) are mandatory: it may have been deleted since it was declared.
pub(super) async fn send_news(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(TRANSIENT);
    let options = BasicPublishOptions { mandatory: exchange.is_empty(), ..BasicPublishOptions::default() };
    match channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await? {
        Confirmation::Ack(None) => Ok(()),
        _ => Err(std::io::Error::other("the broker did not take it").into()),
    }
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
    }
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.as_str().into())
        .with_headers(headers)
}

/// The other direction of [`properties`]. Headers that are no text were added by the broker and are left out.
pub(super) fn message(delivery: &mut lapin::message::Delivery) -> Message {
    let id = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let mut headers = std::collections::BTreeMap::new();
    for (name, value) in delivery.properties.headers().iter().flat_map(FieldTable::inner) {
        if let AMQPValue::LongString(value) = value {
            headers.insert(name.to_string(), value.to_string());
        }
    }
    Message { id, body: std::mem::take(&mut delivery.data), headers }
}
