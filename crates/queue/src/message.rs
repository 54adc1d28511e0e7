//! What travels in a lane: an id, a small body, and text headers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The largest body, in bytes. Weights and data go through the store, never through the queue.
pub const LARGEST_BODY: usize = 100 * 1024;

/// Ids and names of headers are short strings in AMQP.
const LONGEST_NAME: usize = 255;

/// All headers together, in bytes.
const LARGEST_HEADERS: usize = 16 * 1024;

/// One task on its way. The queue never looks into the body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The task's id, 1 to 255 bytes. The queue does not deduplicate by it.
    pub id: String,
    /// At most [`LARGEST_BODY`] bytes.
    pub body: Vec<u8>,
    /// Attempt counter, trace context and the like; returned unchanged.
    pub headers: BTreeMap<String, String>,
}

impl Message {
    pub fn new(id: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { id: id.into(), body: body.into(), headers: BTreeMap::new() }
    }

    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Checks the limits before anything is sent, so that a batch with one bad message changes nothing.
    pub(crate) fn check_all(messages: &[Message]) -> Result<()> {
        messages.iter().try_for_each(Message::check)
    }

    fn check(&self) -> Result<()> {
        let refuse = |what, size, limit| Err(Error::TooLarge { id: self.id.clone(), what, size, limit });
        if self.id.is_empty() {
            return Err(Error::EmptyId);
        }
        if self.id.len() > LONGEST_NAME {
            return refuse("id", self.id.len(), LONGEST_NAME);
        }
        if self.body.len() > LARGEST_BODY {
            return refuse("body", self.body.len(), LARGEST_BODY);
        }
        if let Some(name) = self.headers.keys().find(|name| name.len() > LONGEST_NAME) {
            return refuse("header name", name.len(), LONGEST_NAME);
        }
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers > LARGEST_HEADERS {
            return refuse("headers", headers, LARGEST_HEADERS);
        }
        Ok(())
    }
}

/// Notices and events obey the limit of bodies.
pub(crate) fn check_news(bytes: &[u8]) -> Result<()> {
    if bytes.len() > LARGEST_BODY {
        return Err(Error::TooLarge {
            id: "notice or event".to_owned(),
            what: "body",
            size: bytes.len(),
            limit: LARGEST_BODY,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_inclusive() {
        assert!(Message::new("x".repeat(255), vec![0; LARGEST_BODY]).check().is_ok());
        assert!(Message::new("x".repeat(256), []).check().is_err());
        assert!(Message::new("x", vec![0; LARGEST_BODY + 1]).check().is_err());
        assert!(Message::new("", []).check().is_err());
        assert!(Message::new("x", []).with_header("h".repeat(256), "").check().is_err());
        assert!(Message::new("x", []).with_header("h", "v".repeat(LARGEST_HEADERS)).check().is_err());
        assert!(Message::new("x", []).with_header("h", "v".repeat(LARGEST_HEADERS - 1)).check().is_ok());
    }
}
