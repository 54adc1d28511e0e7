//! Leadership as an exclusive queue: the broker gives it to one connection, and ends it with that connection.
//!
//! Each leadership has a connection of its own, so that it can be given up alone. A keeper task watches it; after a
//! lost connection (a restart of the broker) it tries to lead again before it says that the leadership is lost.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::{Connection, options::BasicGetOptions};
use tokio::sync::{oneshot, watch};

use super::{
    link::{Link, Retry, close_connection, reply_code},
    publish, topology,
};
use crate::{LeaderGuard, Leadership, Result, leadership::Hold};

const RESOURCE_LOCKED: u16 = 405;

/// How often the keeper looks at its connection.
const WATCH: Duration = Duration::from_millis(500);

pub(super) async fn lead(link: &Arc<Link>, pipeline: &str, holder: &str) -> Result<Leadership> {
    let Some(connection) = acquire(link, pipeline, holder).await? else {
        return Ok(Leadership::HeldBy(present_leader(link, pipeline).await?));
    };
    let (stop, stopped) = oneshot::channel();
    let (ended, lost) = watch::channel(false);
    let keeper = Keeper { link: Arc::clone(link), pipeline: pipeline.to_owned(), holder: holder.to_owned() };
    tokio::spawn(async move {
        keeper.keep(connection, stopped).await;
        ended.send_replace(true);
    });
    Ok(Leadership::Held(LeaderGuard::new(RabbitHold { stop, lost })))
}

/// The connection that leads now, or nothing if another one leads.
async fn acquire(link: &Link, pipeline: &str, holder: &str) -> Result<Option<Connection>> {
    const ACTION: &str = "become the leader";
    let connection = link.new_connection("leader").await?;
    let channel = link.within(ACTION, connection.create_channel()).await?;
    let declared = async {
        match topology::declare_leader(&channel, pipeline).await {
            Err(error) if reply_code(&error) == Some(RESOURCE_LOCKED) => Ok(false),
            other => other.map(|()| true),
        }
    };
    if !link.within(ACTION, declared).await? {
        close_connection(&connection).await;
        return Ok(None);
    }
    let name = async {
        let channel = connection.create_channel().await?;
        topology::declare_leader_name(&channel, pipeline).await?;
        publish::send_news(&channel, "", &topology::leader_name_queue(pipeline), holder.as_bytes()).await
    };
    link.within(ACTION, name).await?;
    Ok(Some(connection))
}

/// Reads the name and puts it back by closing the channel. Another reader may have it for that moment.
async fn present_leader(link: &Link, pipeline: &str) -> Result<String> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..TRIES {
        let read = |channel: lapin::Channel| async move {
            topology::declare_leader_name(&channel, pipeline).await?;
            let name = topology::leader_name_queue(pipeline);
            Ok(channel.basic_get(name.into(), BasicGetOptions::default()).await?.map(|got| got.delivery.data))
        };
        if let Some(name) = link.converse("read the leader's name", read).await? {
            return Ok(String::from_utf8_lossy(&name).into_owned());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok("an unnamed leader".to_owned())
}

struct Keeper {
    link: Arc<Link>,
    pipeline: String,
    holder: String,
}

impl Keeper {
    async fn keep(&self, mut connection: Connection, mut stopped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                // The guard was released or dropped, or the queue was closed.
                _ = &mut stopped => break,
                () = self.link.closed() => break,
                () = tokio::time::sleep(WATCH) => {}
            }
            if connection.status().connected() {
                continue;
            }
            tokio::select! {
                _ = &mut stopped => return,
                again = self.lead_again() => match again {
                    Some(again) => connection = again,
                    None => return,
                },
            }
        }
        close_connection(&connection).await;
    }

    async fn lead_again(&self) -> Option<Connection> {
        let mut retry = Retry::new(self.link.options().patience);
        loop {
            match acquire(&self.link, &self.pipeline, &self.holder).await {
                Ok(again) => return again,
                Err(error) if error.is_retryable() => retry.pause(&self.link, error).await.ok()?,
                Err(_) => return None,
            }
        }
    }
}

#[derive(Debug)]
struct RabbitHold {
    /// Dropping it stops the keeper.
    stop: oneshot::Sender<()>,
    lost: watch::Receiver<bool>,
}

#[async_trait]
impl Hold for RabbitHold {
    async fn lost(&self) {
        // An error means that the keeper is gone, with its runtime.
        let mut lost = self.lost.clone();
        let _ended = lost.wait_for(|lost| *lost).await;
    }

    async fn release(self: Box<Self>) {
        let Self { stop, mut lost } = *self;
        drop(stop);
        let _ended = lost.wait_for(|lost| *lost).await;
    }
}
