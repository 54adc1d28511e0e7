//! Content ids: the SHA-256 of a value's canonical JSON, so that the same work always has the same name.
//!
//! Deliberately absent from every hashed value: URLs, devices, worker names, times and outputs. Values that are hashed
//! serialise their fields in the order of their declaration, and maps are ordered maps: the JSON is canonical by
//! construction. Changing such a type changes ids, which a pinned test of each task kind shows.

use std::fmt;
use std::io;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// A content id as its 32 bytes: what tables of hundreds of thousands of ids are made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id([u8; 32]);

impl Id {
    /// The id of `value` in the name space `domain`, raised by hand through `semantics` when results change.
    ///
    /// # Panics
    /// If `value` cannot be written as JSON, which no hashed type of this crate can cause.
    pub fn of<T: Serialize>(domain: &str, semantics: u32, value: &T) -> Self {
        let mut hash = Hashing(Sha256::new());
        hash.0.update(format!("{domain}/{semantics}\n"));
        // Never in one piece: a whole study is more than a hundred megabytes of JSON.
        serde_json::to_writer(&mut hash, value).expect("hashed values have string keys and finite shape");
        Self(hash.0.finalize().into())
    }

    /// An id from its 64 hexadecimal digits; none where the text is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The first four bytes: enough to find the few places that an id may concern.
    pub(crate) fn prefix(self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// [`Id::of`] as text: 64 lower-case hexadecimal digits.
///
/// # Panics
/// If `value` cannot be written as JSON, which no hashed type of this crate can cause.
pub fn content_id<T: Serialize>(domain: &str, semantics: u32, value: &T) -> String {
    Id::of(domain, semantics, value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_semantics_and_value_all_count() {
        let id = content_id("unit", 1, &("a", 1));
        assert_eq!(id.len(), 64);
        assert_ne!(id, content_id("task", 1, &("a", 1)));
        assert_ne!(id, content_id("unit", 2, &("a", 1)));
        assert_ne!(id, content_id("unit", 1, &("a", 2)));
        assert_eq!(id, content_id("unit", 1, &("a", 1)));
    }

    #[test]
    fn an_id_survives_its_text_and_other_text_is_none() {
        let id = Id::of("unit", 1, &"a");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse("import-of-rows"), None);
        assert_eq!(Id::parse(&id.to_string()[1..]), None);
    }
}
