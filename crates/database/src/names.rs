//! The rules for names that become parts of paths.

use crate::{Error, Result, sha256_hex};

/// Checks a name that is exactly one part of a path.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    let rule = if name.is_empty() {
        "must not be empty"
    } else if name.len() > 200 {
        // A local file name holds 255 bytes, and the staged copy's suffix and `.json` need room.
        "must have at most 200 characters"
    } else if name.starts_with('.') {
        "must not start with a full stop"
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:=+@".contains(&byte)) {
        "may hold only letters, digits and `-_.:=+@`"
    } else {
        return Ok(());
    };
    Err(Error::Name { what, name: name.to_owned(), rule })
}

/// Checks a name of one or more parts separated by `/`.
pub(crate) fn check_parts(what: &'static str, name: &str) -> Result<()> {
    name.split('/').try_for_each(|part| check_name(what, part)).map_err(|error| match error {
        Error::Name { what, rule, .. } => Error::Name { what, name: name.to_owned(), rule },
        other => other,
    })
}

/// Folders of the store's root that belong to no pipeline.
const RESERVED: [&str; 6] = ["done", "results", "index", "decisions", "checkpoints", "probe"];

/// Checks the name of a pipeline, which is a folder in the store's root.
pub(crate) fn check_pipeline(name: &str) -> Result<()> {
    check_name("pipeline", name)?;
    if RESERVED.contains(&name) {
        let rule = "must not be one of `done`, `results`, `index`, `decisions`, `checkpoints`, `probe`";
        return Err(Error::Name { what: "pipeline", name: name.to_owned(), rule });
    }
    Ok(())
}

/// Two hex digits that spread ids over 256 folders: the id's own first two where it is a hash.
pub(crate) fn shard(id: &str) -> String {
    match id.get(..2) {
        Some(start) if start.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) => {
            start.to_owned()
        }
        _ => sha256_hex(id.as_bytes())[..2].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_folder() {
        for bad in ["", ".", "..", "a/b", "a\\b", "a#1", "a b", "ä", "a%2f", &"x".repeat(201)] {
            assert!(check_name("name", bad).is_err(), "{bad}");
        }
        for good in ["a", "0f", "tiny-imagenet_32.v1", "round:3", "a=b"] {
            check_name("name", good).unwrap();
        }
        check_parts("name", "generator/round:3").unwrap();
        for bad in ["/a", "a/", "a//b", "a/../b"] {
            assert!(check_parts("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_are_no_hashes_are_spread_too() {
        assert_eq!(shard("0fab"), "0f");
        assert_eq!(shard("import-metad2a").len(), 2);
        assert_ne!(shard("import-a"), shard("import-b"));
    }
}
