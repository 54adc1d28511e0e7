//! Leadership as an exclusive queue: the broker gives it to one connection, and ends it with that connection.
//!
//! Each leadership has a connection of its own, so that it can be given up alone. A keeper task watches it; after a
//! lost connection (a restart of the broker) it tries to lead again before it says that the leadership is lost.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lapin::options::BasicGetOptions;
use tokio::sync::{oneshot, watch};

use super::{
    line::Line,
    link::{Link, Role, reply_code},
    publish,
    retry::Retry,
    topology,
};
use crate::{LeaderGuard, Leadership, Result, leadership::Hold};

const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;

pub(super) async fn lead(link: &Arc<Link>, pipeline: &str, holder: &str) -> Result<Leadership> {
    let Some(line) = acquire(link, pipeline, holder).await? else {
        return Ok(Leadership::HeldBy(present_leader(link, pipeline).await?));
    };
    let (stop, stopped) = oneshot::channel();
    let (ended, lost) = watch::channel(false);
    let keeper = Keeper { link: Arc::clone(link), pipeline: pipeline.to_owned(), holder: holder.to_owned() };
    tokio::spawn(async move {
        keeper.keep(line, stopped).await;
        ended.send_replace(true);
    });
    Ok(Leadership::Held(LeaderGuard::new(RabbitHold { stop, lost })))
}

/// The name of the leader, if the broker says that a connection has its queue.
pub(super) async fn present(link: &Arc<Link>, pipeline: &str) -> Result<Option<String>> {
    let look = |line: Line| async move {
        match topology::look_for_leader(line.channel(), pipeline).await {
            Ok(()) => Ok(true),
            Err(error) => match reply_code(&error) {
                Some(RESOURCE_LOCKED) => Ok(true),
                Some(NOT_FOUND) => Ok(false),
                _ => Err(error),
            },
        }
    };
    if link.converse(Role::Receive, "look who leads", look).await? {
        return present_leader(link, pipeline).await.map(Some);
    }
    Ok(None)
}

/// The connection that leads now, or nothing if another one leads.
async fn acquire(link: &Arc<Link>, pipeline: &str, holder: &str) -> Result<Option<Line>> {
    const ACTION: &str = "become the leader";
    let line = link.own_line("leader", ACTION).await?;
    let declared = async {
        match topology::declare_leader(line.channel(), pipeline).await {
            Err(error) if reply_code(&error) == Some(RESOURCE_LOCKED) => Ok(false),
            other => other.map(|()| true),
        }
    };
    if !line.step(ACTION, declared).await? {
        line.close_connection().await;
        return Ok(None);
    }
    let name = async {
        topology::declare_leader_name(line.channel(), pipeline).await?;
        let queue = topology::leader_name_queue(pipeline);
        publish::send_news(line.channel(), "", &queue, holder.as_bytes()).await
    };
    line.step(ACTION, name).await?;
    Ok(Some(line))
}

/// Reads the name and puts it back by closing the channel. Another reader may have it for that moment.
async fn present_leader(link: &Arc<Link>, pipeline: &str) -> Result<String> {
    const TRIES: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..TRIES {
        let read = |line: Line| async move {
            topology::declare_leader_name(line.channel(), pipeline).await?;
            let name = topology::leader_name_queue(pipeline);
            Ok(line
                .channel()
                .basic_get(name.into(), BasicGetOptions::default())
                .await?
                .map(|got| got.delivery.data))
        };
        if let Some(name) = link.converse(Role::Receive, "read the leader's name", read).await? {
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
    async fn keep(&self, mut line: Line, mut stopped: oneshot::Receiver<()>) {
        loop {
            tokio::select! {
                // The guard was released or dropped, or the queue was closed.
                _ = &mut stopped => break,
                () = self.link.closed() => break,
                () = line.lost() => {}
            }
            tokio::select! {
                _ = &mut stopped => return,
                again = self.lead_again() => match again {
                    Some(again) => line = again,
                    None => return,
                },
            }
        }
        line.close_connection().await;
    }

    async fn lead_again(&self) -> Option<Line> {
        let mut retry = Retry::new(self.link.options().patience);
        loop {
            match acquire(&self.link, &self.pipeline, &self.holder).await {
                Ok(again) => return again,
                Err(error) => retry.pause(&self.link, error).await.ok()?,
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
