//! Bytes of local files and objects of a store.

use std::path::Path as LocalPath;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;

use crate::{Error, Result};

/// Where a path of a source points to.
pub(crate) struct Place {
    store: Arc<dyn ObjectStore>,
    path: Path,
    name: String,
}

/// A file below a folder.
pub(crate) struct Entry {
    /// Relative to the folder, with `/` between the parts.
    pub(crate) name: String,
    /// Its size.
    pub(crate) bytes: u64,
    path: Path,
}

fn unreadable(path: &str, reason: impl std::fmt::Display) -> Error {
    Error::Unreadable { path: path.to_owned(), reason: reason.to_string() }
}

/// The environment, without what is not text.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

impl Place {
    /// A URL of an object store (credentials come from its usual environment variables), or a local path.
    pub(crate) fn new(path: &str) -> Result<Self> {
        if path.contains("://") {
            let url = Url::parse(path).map_err(|error| unreadable(path, error))?;
            let (store, inner) =
                object_store::parse_url_opts(&url, variables()).map_err(|error| unreadable(path, error))?;
            return Ok(Self { store: Arc::from(store), path: inner, name: path.to_owned() });
        }
        let absolute = LocalPath::new(path).canonicalize().map_err(|error| unreadable(path, error))?;
        let inner = Path::from_absolute_path(&absolute).map_err(|error| unreadable(path, error))?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), path: inner, name: path.to_owned() })
    }

    /// As the user wrote it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The whole file.
    pub(crate) async fn read(&self) -> Result<Bytes> {
        self.fetch(&self.path, &self.name).await
    }

    /// All files below the folder, sorted by name. Hidden ones are left out.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>> {
        let found: Vec<_> = self
            .store
            .list(Some(&self.path))
            .try_collect()
            .await
            .map_err(|error| unreadable(&self.name, error))?;
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter_map(|object| {
                let parts = object.location.prefix_match(&self.path)?;
                let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
                Some(Entry { name, bytes: object.size, path: object.location })
            })
            .filter(|entry| !entry.name.split('/').any(|part| part.starts_with('.')))
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    pub(crate) async fn read_entry(&self, entry: &Entry) -> Result<Bytes> {
        self.fetch(&entry.path, &format!("{}/{}", self.name, entry.name)).await
    }

    async fn fetch(&self, path: &Path, name: &str) -> Result<Bytes> {
        let object = self.store.get(path).await.map_err(|error| unreadable(name, error))?;
        object.bytes().await.map_err(|error| unreadable(name, error))
    }
}
