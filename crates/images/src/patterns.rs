//! Paths that grow: a folder, or a pattern such as `data/*.parquet`, stands for the files that are there now.

use std::path::Path;

use crate::files::Place;
use crate::{Error, Result};

/// The files that a source's paths stand for. A path with a `*` in its last part is a pattern; a local folder, or one that
/// ends with `/`, stands for its files whose names end with `ending`. Each is replaced by its files in the order of their
/// names; every other path stands for itself.
pub(crate) async fn expand(paths: &[String], ending: &str) -> Result<Vec<String>> {
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        match pattern_of(path, ending) {
            Some((folder, pattern)) => files.extend(matching(path, folder, &pattern).await?),
            None => files.push(path.clone()),
        }
    }
    Ok(files)
}

/// The folder and the pattern of the names in it; none where the path names one file.
fn pattern_of<'a>(path: &'a str, ending: &str) -> Option<(&'a str, String)> {
    if let Some(folder) = path.strip_suffix('/') {
        return Some((folder, format!("*{ending}")));
    }
    if !path.contains("://") && Path::new(path).is_dir() {
        return Some((path, format!("*{ending}")));
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    name.contains('*').then(|| (folder, name.to_owned()))
}

async fn matching(path: &str, folder: &str, pattern: &str) -> Result<Vec<String>> {
    let entries = Place::new(folder)?.list().await?;
    let names = entries.into_iter().map(|entry| entry.name);
    let files: Vec<String> = names
        .filter(|name| !name.contains('/') && matches(pattern, name))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    if files.is_empty() {
        let rule = format!("it has no file whose name is like `{pattern}`");
        return Err(Error::invalid(path, "the folder", rule));
    }
    Ok(files)
}

/// `*` stands for any letters, or none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // What follows the last star ends the name; what lies between two is found at its first place.
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(place) = left.find(part) else { return false };
        left = &left[place + part.len()..];
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name) in [
            ("*.parquet", "a.parquet"),
            ("a*", "a"),
            ("*", ""),
            ("a*b*c", "abc"),
            ("a*b*c", "axxbxbc"),
            ("a", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.parquet", "a.parquet.part"), ("a*", "ba"), ("a*b*c", "acb"), ("ab*ba", "aba"), ("a", "ab")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
