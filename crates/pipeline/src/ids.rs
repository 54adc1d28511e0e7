//! Content ids: the SHA-256 of a value's canonical JSON, so that the same work always has the same name.
//!
//! Deliberately absent from every hashed value: URLs, devices, worker names, times and outputs. Values that are hashed
//! serialise their fields in the order of their declaration, and maps are ordered maps: the JSON is canonical by
//! construction. Changing such a type changes ids, which a pinned test of each task kind shows.

use std::fmt;
use std::io;

use serde::{Serialize, Serializer};
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
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        formatter.write_str(str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

/// As its text.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
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

/// The fewest letters by which a person may name a task.
pub const SHORTEST_PREFIX: usize = 8;

/// An id that a person began to write and that names no task, or not one alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("task `{prefix}`: write at least {SHORTEST_PREFIX} letters of its id")]
    TooShort { prefix: String },
    #[error("no task `{prefix}`; `metad2a tasks list` and `metad2a tasks list --state done` name them")]
    Unknown { prefix: String },
    #[error("task `{prefix}` could be any of {}; write more of its id", candidates.join(", "))]
    Ambiguous { prefix: String, candidates: Vec<String> },
}

/// The one id among `ids` that starts with `prefix`. An id may be named several times.
pub fn resolve<'a>(prefix: &str, ids: impl IntoIterator<Item = &'a str>) -> Result<String, PrefixError> {
    let prefix = prefix.to_owned();
    if prefix.len() < SHORTEST_PREFIX {
        return Err(PrefixError::TooShort { prefix });
    }
    let mut candidates: Vec<&str> = ids.into_iter().filter(|id| id.starts_with(&prefix)).collect();
    candidates.sort_unstable();
    candidates.dedup();
    match candidates.as_slice() {
        [] => Err(PrefixError::Unknown { prefix }),
        [id] => Ok((*id).to_owned()),
        // A whole id is meant even where it begins a longer one.
        [id, ..] if *id == prefix => Ok(prefix),
        _ => {
            let candidates = candidates.into_iter().map(str::to_owned).collect();
            Err(PrefixError::Ambiguous { prefix, candidates })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_by_the_start_of_its_id_where_that_is_long_and_unique() {
        let ids = ["0123456789ab", "01234567ffff", "fedcba987654", "fedcba987654"];
        assert_eq!(resolve("012345678", ids), Ok("0123456789ab".to_owned()));
        assert_eq!(resolve("fedcba98", ids), Ok("fedcba987654".to_owned()));
        let told = |prefix: &str| resolve(prefix, ids).unwrap_err().to_string();
        assert_eq!(told("0123456"), "task `0123456`: write at least 8 letters of its id");
        assert_eq!(
            told("01234567"),
            "task `01234567` could be any of 0123456789ab, 01234567ffff; write more of its id"
        );
        assert!(told("aaaaaaaa").starts_with("no task `aaaaaaaa`"));
        assert_eq!(resolve("abcdefgh", ["abcdefgh", "abcdefghi"]), Ok("abcdefgh".to_owned()));
    }

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
