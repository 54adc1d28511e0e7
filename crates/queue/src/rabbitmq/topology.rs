//! Names and settings of everything on the broker. All declarations are harmless when repeated.
//!
//! Settings cannot change once a queue exists, so only what never changes stands here.

use std::time::Duration;

use lapin::{
    Channel, ExchangeKind, Result,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions},
    types::{AMQPValue, FieldTable},
};

use super::line::Line;
use crate::EVENT_CAPACITY;

/// The last net under a message that kills whoever takes it; workers count real attempts themselves. Generous, because lost
/// machines and connections count, too.
const DELIVERY_LIMIT: i64 = 100;

/// How long a delivery of a lane may stay unanswered before the broker gives it to another. Lost supervisors are noticed
/// sooner, by their connections; this catches one that lives and forgot. Brokers before 3.12 ignore it and use their own
/// `consumer_timeout`, for all queues alike.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_hours(2);

pub(super) fn dead_exchange(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.dead")
}

pub(super) fn dead_queue(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.dead-letters")
}

pub(super) fn notice_exchange(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.notices")
}

pub(super) fn event_queue(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.events")
}

pub(super) fn leader_queue(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.leader")
}

pub(super) fn leader_name_queue(pipeline: &str) -> String {
    format!("metad2a.{pipeline}.leader-name")
}

/// Declares a lane once on each connection: four questions before each message would cost more than the message.
pub(super) async fn ensure_lane(
    line: &Line,
    action: &'static str,
    lane: &str,
    pipeline: &str,
) -> crate::Result<()> {
    if !line.declared().contains(lane) {
        line.step(action, declare_lane(line.channel(), lane, pipeline)).await?;
        line.declared().add(lane);
    }
    Ok(())
}

/// Declares a lane and where its dead letters go. Returns how many messages wait in it.
pub(super) async fn declare_lane(channel: &Channel, lane: &str, pipeline: &str) -> Result<u64> {
    declare_dead_letters(channel, pipeline).await?;
    let arguments = table([
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", text(&dead_exchange(pipeline))),
        ("x-dead-letter-strategy", text("at-least-once")),
        // At-least-once needs it: with `drop-head` the broker silently falls back to at-most-once.
        ("x-overflow", text("reject-publish")),
        ("x-consumer-timeout", AMQPValue::LongLongInt(ANSWER_LIMIT.as_millis() as i64)),
    ]);
    declare_queue(channel, lane, arguments).await
}

/// Returns how many dead letters there are.
pub(super) async fn declare_dead_letters(channel: &Channel, pipeline: &str) -> Result<u64> {
    let (exchange, queue) = (dead_exchange(pipeline), dead_queue(pipeline));
    declare_fanout(channel, &exchange).await?;
    let waiting = declare_queue(channel, &queue, table([("x-queue-type", text("quorum"))])).await?;
    bind(channel, &queue, &exchange).await?;
    Ok(waiting)
}

pub(super) async fn declare_notices(channel: &Channel, pipeline: &str) -> Result<()> {
    declare_fanout(channel, &notice_exchange(pipeline)).await
}

/// A queue for one listener, which ends with its connection. Returns its name, which the broker chose.
pub(super) async fn declare_listener(channel: &Channel, pipeline: &str) -> Result<String> {
    declare_notices(channel, pipeline).await?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let name = queue.name().to_string();
    bind(channel, &name, &notice_exchange(pipeline)).await?;
    Ok(name)
}

/// Durable, because RabbitMQ 4.3 refuses other shared queues; the events in it are not.
pub(super) async fn declare_events(channel: &Channel, pipeline: &str) -> Result<()> {
    let arguments = table([
        ("x-max-length", AMQPValue::LongLongInt(i64::from(EVENT_CAPACITY))),
        ("x-overflow", text("drop-head")),
    ]);
    declare_queue(channel, &event_queue(pipeline), arguments).await?;
    Ok(())
}

/// The lock itself: only one connection may have it.
pub(super) async fn declare_leader(channel: &Channel, pipeline: &str) -> Result<()> {
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(leader_queue(pipeline).into(), options, FieldTable::default()).await?;
    Ok(())
}

/// Declares nothing. Fails with the reason why the queue is not ours: there is none, or another connection has it.
pub(super) async fn look_for_leader(channel: &Channel, pipeline: &str) -> Result<()> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(leader_queue(pipeline).into(), options, FieldTable::default()).await?;
    Ok(())
}

/// Holds one message: the name of the newest leader.
pub(super) async fn declare_leader_name(channel: &Channel, pipeline: &str) -> Result<()> {
    let arguments = table([("x-max-length", AMQPValue::LongLongInt(1)), ("x-overflow", text("drop-head"))]);
    declare_queue(channel, &leader_name_queue(pipeline), arguments).await?;
    Ok(())
}

pub(super) async fn purge(channel: &Channel, queue: &str) -> Result<u64> {
    Ok(u64::from(channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?))
}

async fn declare_queue(channel: &Channel, name: &str, arguments: FieldTable) -> Result<u64> {
    let queue = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments).await?;
    Ok(u64::from(queue.message_count()))
}

async fn declare_fanout(channel: &Channel, name: &str) -> Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.into(), ExchangeKind::Fanout, options, FieldTable::default()).await
}

async fn bind(channel: &Channel, queue: &str, exchange: &str) -> Result<()> {
    channel
        .queue_bind(
            queue.into(),
            exchange.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
