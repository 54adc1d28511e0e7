//! Sending: confirmed, in a window, and again what was not confirmed.

use lapin::{
    BasicProperties, Channel, Confirmation, PublisherConfirm,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};

use super::{
    link::{Link, Retry},
    topology,
};
use crate::{Error, Message, Result};

/// How many messages may be unconfirmed at a time: enough to hide the broker's disk, few enough to repeat.
const WINDOW: usize = 256;

const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// Stores all messages in the lane. Those already confirmed are not sent again after a lost connection.
pub(super) async fn to_lane(link: &Link, lane: &str, pipeline: &str, messages: &[Message]) -> Result<()> {
    const ACTION: &str = "publish";
    let mut retry = Retry::new(link.options().patience);
    let mut open: Vec<&Message> = messages.iter().collect();
    loop {
        let result = match link.channel(ACTION).await {
            Ok(channel) => send(link, &channel, lane, pipeline, &mut open).await,
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.is_retryable() => retry.pause(link, error).await?,
            done => return done,
        }
    }
}

/// Sends what is open, and removes from it what was confirmed.
async fn send(
    link: &Link,
    channel: &Channel,
    lane: &str,
    pipeline: &str,
    open: &mut Vec<&Message>,
) -> Result<()> {
    const ACTION: &str = "publish";
    link.within(ACTION, topology::declare_lane(channel, lane, pipeline)).await?;
    link.within(ACTION, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    while !open.is_empty() {
        let window = &open[..open.len().min(WINDOW)];
        let mut confirms: Vec<PublisherConfirm> = Vec::with_capacity(window.len());
        let mut broken = None;
        for message in window {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let publish =
                channel.basic_publish("".into(), lane.into(), options, &message.body, properties(message));
            match link.within(ACTION, publish).await {
                Ok(confirm) => confirms.push(confirm),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
        }
        let mut unconfirmed = Vec::new();
        let unsent = window[confirms.len()..].to_vec();
        let rest = open[window.len()..].to_vec();
        for (message, confirm) in window.iter().zip(confirms) {
            let failure = match link.within(ACTION, confirm).await {
                Ok(Confirmation::Ack(None)) => continue,
                // Refused, or returned because no queue took it.
                Ok(_) => Error::NotConfirmed {
                    address: link.address().clone(),
                    lane: lane.to_owned(),
                    id: message.id.clone(),
                },
                Err(error) => error,
            };
            unconfirmed.push(*message);
            broken.get_or_insert(failure);
        }
        *open = [unconfirmed, unsent, rest].concat();
        if let Some(error) = broken {
            return Err(error);
        }
    }
    Ok(())
}

/// Nobody listening is no error, hence not mandatory.
pub(super) async fn notice(link: &Link, pipeline: &str, notice: &[u8]) -> Result<()> {
    link.converse("broadcast", |channel| async move {
        topology::declare_notices(&channel, pipeline).await?;
        send_news(&channel, &topology::notice_exchange(pipeline), "", notice).await
    })
    .await
}

pub(super) async fn event(link: &Link, pipeline: &str, event: &[u8]) -> Result<()> {
    link.converse("emit an event", |channel| async move {
        topology::declare_events(&channel, pipeline).await?;
        send_news(&channel, "", &topology::event_queue(pipeline), event).await
    })
    .await
}

/// Confirmed although only a hint: an emitter that never waits could flood the broker.
pub(super) async fn send_news(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(TRANSIENT);
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?.await?;
    Ok(())
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
