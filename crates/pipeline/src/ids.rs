//! Content ids: the SHA-256 of a value's canonical JSON, so that the same work always has the same name.
//!
//! Deliberately absent from every hashed value: URLs, devices, worker names, times and outputs. Values that are hashed
//! serialise their fields in the order of their declaration, and maps are ordered maps: the JSON is canonical by
//! construction. Changing such a type changes ids, which a pinned test of each task kind shows.

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The id of `value` in the name space `domain`, raised by hand through `semantics` when results change:
/// 64 lower-case hexadecimal digits.
///
/// # Panics
/// If `value` cannot be written as JSON, which no hashed type of this crate can cause.
pub fn content_id<T: Serialize>(domain: &str, semantics: u32, value: &T) -> String {
    let json = serde_json::to_vec(value).expect("hashed values have string keys and finite shape");
    let mut hash = Sha256::new();
    hash.update(format!("{domain}/{semantics}\n"));
    hash.update(&json);
    hex::encode(hash.finalize())
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
}
