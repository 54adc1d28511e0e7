//! The pauses between the attempts at one request. They double: 25 s in all, as long as a server may restart.

use std::time::Duration;

use crate::error::is_transient;
use crate::{Error, Result};

const FIRST: Duration = Duration::from_millis(100);
/// How often a listing that broke off is read again. Few: in an outage, each attempt lasts most of a minute.
const LIST_AGAIN: u32 = 3;

pub(super) struct Pauses {
    pub(super) taken: u32,
}

impl Pauses {
    /// At one conditional write, the first included.
    pub(super) const ATTEMPTS: u32 = 9;

    pub(super) fn new() -> Self {
        Self { taken: 0 }
    }

    pub(super) fn are_left(&self) -> bool {
        self.taken + 1 < Self::ATTEMPTS
    }

    pub(super) async fn next(&mut self) {
        tokio::time::sleep(FIRST * (1 << self.taken)).await;
        self.taken += 1;
    }

    /// Pauses where a listing is worth another attempt, and returns the error where it is not. The object store repeats
    /// requests that fail, but not those whose answer breaks off.
    pub(super) async fn before_listing_again(
        &mut self,
        folder: &str,
        error: object_store::Error,
    ) -> Result<()> {
        if !is_transient(&error) || self.taken == LIST_AGAIN {
            return Err(Error::Storage { action: "list", path: folder.to_owned(), source: error });
        }
        tracing::warn!(folder, %error, "a listing broke off; trying again");
        self.next().await;
        Ok(())
    }
}
