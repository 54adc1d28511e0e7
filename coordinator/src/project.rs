//! `pipeline.yaml` on disk → a specification whose paths are absolute.

use std::path::{Path, PathBuf};

use anyhow::Context;
use metad2a_pipeline::specification::Specification;

use crate::cli::Addresses;

/// A file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{}` cannot be read; name the pipeline's file", file.display())]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("`{}` cannot be read", file.display())]
    UnreadableInput { file: PathBuf, source: std::io::Error },
}

/// A specification with absolute paths, and the folder of its file.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) specification: Specification,
    /// The text of the file, kept with every run.
    pub(crate) text: String,
}

/// Reads and checks the file. Paths in it are relative to its own folder.
pub(crate) fn load(file: &Path, addresses: &Addresses) -> anyhow::Result<Project> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| Error::Unreadable { file: file.to_owned(), source })?;
    let mut specification = Specification::parse(&file.display().to_string(), &text)?;
    let file = file.canonicalize().with_context(|| format!("`{}` has no absolute path", file.display()))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    let here = std::env::current_dir().context("the current folder is gone")?;
    for source in specification.sources.values_mut() {
        for path in &mut source.paths {
            *path = absolute(path, folder);
        }
    }
    specification.extractor.weights = absolute(&specification.extractor.weights, folder);
    // Flags and variables are relative to where the person is, the file's own entries to the file.
    specification.store = match &addresses.store {
        Some(url) => absolute_url(url, &here),
        None => absolute_url(&specification.store, folder),
    };
    specification.queue = match &addresses.queue {
        Some(url) => absolute_url(url, &here),
        None => absolute_url(&specification.queue, folder),
    };
    Ok(Project { specification, text })
}

/// The store that a command works on: a given address, relative to where the person is, or else the file's.
pub(crate) fn store_url(file: &Path, given: Option<&str>) -> anyhow::Result<String> {
    if let Some(url) = given {
        let here = std::env::current_dir().context("the current folder is gone")?;
        return Ok(absolute_url(url, &here));
    }
    Ok(load(file, &Addresses { store: None, queue: None })?.specification.store)
}

/// A path or URL; only a relative path changes.
pub(crate) fn absolute(path: &str, folder: &Path) -> String {
    if path.contains("://") || Path::new(path).is_absolute() {
        return path.to_owned();
    }
    tidy(&folder.join(path)).display().to_string()
}

/// `file:` and `sqlite:` name local paths; all other URLs stay as they are.
fn absolute_url(url: &str, folder: &Path) -> String {
    for scheme in ["file:", "sqlite:"] {
        if let Some(path) = url.strip_prefix(scheme) {
            let path = path.strip_prefix("//").unwrap_or(path);
            return format!("{scheme}{}", tidy(&folder.join(path)).display());
        }
    }
    url.to_owned()
}

/// Without `.` parts, so that messages and stored addresses are short and equal.
fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_paths_and_local_urls_change() {
        let folder = Path::new("/home/ada");
        assert_eq!(absolute("./letters.parquet", folder), "/home/ada/letters.parquet");
        assert_eq!(absolute("/data/x", folder), "/data/x");
        assert_eq!(absolute("s3://bucket/x", folder), "s3://bucket/x");
        assert_eq!(absolute_url("file:./store", folder), "file:/home/ada/store");
        assert_eq!(absolute_url("file:///srv/store", folder), "file:/srv/store");
        assert_eq!(absolute_url("sqlite:queue.sqlite", folder), "sqlite:/home/ada/queue.sqlite");
        assert_eq!(absolute_url("amqps://broker", folder), "amqps://broker");
    }
}
