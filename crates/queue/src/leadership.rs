//! Who leads a pipeline. For liveness only: two leaders at once must be harmless.

use std::fmt::Debug;

use async_trait::async_trait;

/// The answer of [`Queue::lead`](crate::Queue::lead).
#[derive(Debug)]
pub enum Leadership {
    /// We lead until the guard is dropped or released, or [`LeaderGuard::lost`] returns.
    Held(LeaderGuard),
    /// Someone else leads: the name they gave, for a message to people.
    HeldBy(String),
}

/// A back-end's hold on the leadership. Dropping it releases, perhaps a moment later.
#[async_trait]
pub(crate) trait Hold: Debug + Send + Sync {
    async fn lost(&self);
    async fn release(self: Box<Self>);
}

/// Keeps the leadership while it lives.
#[derive(Debug)]
pub struct LeaderGuard(Box<dyn Hold>);

impl LeaderGuard {
    pub(crate) fn new(hold: impl Hold + 'static) -> Self {
        Self(Box::new(hold))
    }

    /// Returns when someone else may lead, and never otherwise. Cancel safe.
    pub async fn lost(&self) {
        self.0.lost().await;
    }

    /// Gives the leadership up and returns when others can get it.
    pub async fn release(self) {
        self.0.release().await;
    }
}
