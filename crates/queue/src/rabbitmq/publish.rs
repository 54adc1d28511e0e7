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
use crate::{Error, Lane, Message, Result};

/// How many messages may be unconfirmed at a time: enough to hide the broker's disk, few enough to repeat.
const WINDOW: usize = 256;

const ACTION: &str = "publish";
const ACTION_AGAIN: &str = "give a message back";
/// The header of a message that somebody took and gave back; no text, so that it is no header of the message itself.
const GIVEN_BACK: &str = "metad2a-given-back";
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
            match line.step(ACTION, put(line.channel(), lane, open[next], headers(open[next]))).await {
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

/// Stores a message that was taken in its lane once more, marked as given out before. Tried once: whoever calls this still
/// has the message.
pub(super) async fn again(link: &Arc<Link>, lane: &Lane, message: &Message) -> Result<()> {
    let (line, name) = (link.line(Role::Send, ACTION_AGAIN).await?, lane.to_string());
    if line.is_blocked() {
        return Err(Error::Blocked { address: link.address().clone() });
    }
    let sent = async {
        topology::ensure_lane(&line, ACTION_AGAIN, &name, &lane.pipeline).await?;
        line.step(ACTION_AGAIN, line.channel().confirm_select(ConfirmSelectOptions::default())).await?;
        let mut headers = headers(message);
        headers.insert(GIVEN_BACK.into(), AMQPValue::Boolean(true));
        let confirm = line.step(ACTION_AGAIN, put(line.channel(), &name, message, headers)).await?;
        match line.step(ACTION_AGAIN, confirm).await? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(Error::NotConfirmed {
                address: link.address().clone(),
                lane: name,
                id: message.id.clone(),
            }),
        }
    }
    .await;
    if sent.is_err() {
        line.declared().forget();
    }
    sent
}

async fn put(
    channel: &Channel,
    lane: &str,
    message: &Message,
    headers: FieldTable,
) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.as_str().into())
        .with_headers(headers);
    channel.basic_publish("".into(), lane.into(), options, &message.body, properties).await
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

fn headers(message: &Message) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
    }
    headers
}

/// Whether [`again`] published it.
pub(super) fn was_given_back(delivery: &lapin::message::Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    headers.is_some_and(|headers| headers.inner().contains_key(GIVEN_BACK))
}

/// The other direction of [`put`]. Headers that are no text are the broker's or ours, and are left out.
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
