//! The object store, reduced to what the product needs: put-if-absent, read, list, delete.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::content::CONCURRENT_REQUESTS;
use crate::error::is_transient;
use crate::{Error, Result, random_id};
use pauses::Pauses;

mod location;
mod pauses;
mod probe;
mod staged;

pub use probe::{Examined, examine};

/// What a program may do with a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every write is refused before it reaches the store.
    ReadOnly,
    /// The store proves at opening that it honours put-if-absent.
    ReadWrite,
}

/// What became of a put-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// This call created the object.
    Created,
    /// It existed, and was left as it is.
    Exists,
}

/// An object of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the store.
    pub path: String,
    pub size: u64,
    /// By the store's own clock, see [`Store::time`].
    pub modified: DateTime<Utc>,
}

/// A handle to the database. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Store {
    /// Retries by itself, which is right for everything that may be done twice.
    objects: Arc<dyn ObjectStore>,
    /// Never retries: after a retry, "already exists" could mean our own first attempt.
    once: Arc<dyn ObjectStore>,
    url: String,
    /// What table paths begin with for outside readers.
    base: String,
    /// Of a local store.
    folder: Option<PathBuf>,
    access: Access,
}

/// What every object store lists in one request.
const LISTED_AT_ONCE: usize = 1_000;

impl Store {
    /// Opens the database at a URL: `file:PATH`, `s3://BUCKET/PREFIX`, `gs://…`, `az://…`, or `memory:NAME`.
    ///
    /// Credentials come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`; secrets also as `…_FILE`), never from
    /// the URL. `memory:NAME` is shared by everything in the process that opens the same name; `memory:` is not
    /// shared.
    ///
    /// With [`Access::ReadWrite`] the store must refuse a second put-if-absent, and an empty one gets its layout
    /// version. With [`Access::ReadOnly`] nothing is written and there must be a database.
    pub async fn open(url: &str, access: Access) -> Result<Self> {
        Self::prepare(Self::unprepared(url, access)?).await
    }

    fn unprepared(url: &str, access: Access) -> Result<Self> {
        let location = location::resolve(url, access)?;
        Ok(Self {
            objects: location.objects,
            once: location.once,
            url: url.to_owned(),
            base: location.base,
            folder: location.folder,
            access,
        })
    }

    /// Opens a database in a given object store, under a name for messages: for tests with stores that fail.
    pub async fn open_in(objects: Arc<dyn ObjectStore>, name: &str, access: Access) -> Result<Self> {
        Self::prepare(Self {
            once: objects.clone(),
            objects,
            url: name.to_owned(),
            base: name.to_owned(),
            folder: None,
            access,
        })
        .await
    }

    async fn prepare(store: Self) -> Result<Self> {
        probe::prepare(&store).await?;
        Ok(store)
    }

    /// The URL that the store was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether programs on this machine can read its files where they lie.
    pub fn is_local_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// What the store was opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Creates an object unless there is one of this name.
    ///
    /// `Created` is returned to exactly one caller, even where the answer to a write was lost: then the object is
    /// read back and compared. Two callers that may write equal bytes must put something of their own in them, such
    /// as a [`random_id`], if it matters which of them created it.
    pub async fn put_if_absent(&self, path: &str, content: Bytes) -> Result<Put> {
        self.must_write(path)?;
        let location = parse(path)?;
        // Once an attempt's outcome is unknown, an object of this name may be ours.
        let mut unknown_before = false;
        let mut pauses = Pauses::new();
        loop {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.once.put_opts(&location, PutPayload::from(content.clone()), options).await {
                Ok(_) => return Ok(Put::Created),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                    match self.get(path).await? {
                        Some(found) if unknown_before && found == content => return Ok(Put::Created),
                        Some(_) => return Ok(Put::Exists),
                        // S3 answers a conflict for a write that is still under way and may yet fail.
                        None => {}
                    }
                }
                Err(error) if is_transient(&error) => {
                    tracing::warn!(path, attempt = pauses.taken + 1, %error, "the outcome of a write is unknown; reading it back");
                    unknown_before = true;
                    match self.get(path).await? {
                        Some(found) if found == content => return Ok(Put::Created),
                        Some(_) => return Ok(Put::Exists),
                        None => {}
                    }
                }
                Err(error) => return Err(storage("create", path, error)),
            }
            if !pauses.are_left() {
                return Err(Error::Unsettled { path: path.to_owned(), attempts: Pauses::ATTEMPTS });
            }
            pauses.next().await;
        }
    }

    /// Creates a JSON object unless there is one of this name.
    pub async fn put_json_if_absent<T: Serialize + ?Sized>(&self, path: &str, value: &T) -> Result<Put> {
        self.put_if_absent(path, to_json(path, "value", value)?).await
    }

    /// Writes an object whose name says its content, so that overwriting changes nothing.
    pub(crate) async fn overwrite(&self, path: &str, content: Bytes) -> Result<()> {
        self.must_write(path)?;
        self.objects
            .put(&parse(path)?, PutPayload::from(content))
            .await
            .map_err(|error| storage("write", path, error))?;
        Ok(())
    }

    /// The content of an object.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let read = async { self.objects.get(&parse_path(path)?).await?.bytes().await };
        absent_is_none(read.await).map_err(|error| storage("read", path, error))
    }

    /// The content of an object with what the store says of it.
    pub(crate) async fn get_with_meta(&self, path: &str) -> Result<Option<(ObjectMeta, Bytes)>> {
        let read = async {
            let found = self.objects.get(&parse_path(path)?).await?;
            let meta = found.meta.clone();
            Ok((meta, found.bytes().await?))
        };
        absent_is_none(read.await).map_err(|error| storage("read", path, error))
    }

    /// A JSON object; `what` names its kind in errors.
    pub(crate) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &'static str,
    ) -> Result<Option<T>> {
        self.get(path).await?.map(|bytes| parse_json(path, what, &bytes)).transpose()
    }

    /// An object's size and age, without its content.
    pub async fn find(&self, path: &str) -> Result<Option<Entry>> {
        let head = async { self.objects.head(&parse_path(path)?).await };
        let meta = absent_is_none(head.await).map_err(|error| storage("look up", path, error))?;
        Ok(meta.map(|meta| Entry { path: path.to_owned(), size: meta.size, modified: meta.last_modified }))
    }

    /// An object's size in bytes.
    pub async fn size(&self, path: &str) -> Result<Option<u64>> {
        Ok(self.find(path).await?.map(|entry| entry.size))
    }

    /// Every object below a folder, by path. Files that a killed program left half written never show.
    pub async fn list(&self, folder: &str) -> Result<Vec<Entry>> {
        let prefix = parse(folder.trim_end_matches('/'))?;
        let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
        let mut pauses = Pauses::new();
        let found: Vec<_> = loop {
            match self.objects.list(prefix.as_ref()).try_collect().await {
                Ok(found) => break found,
                Err(error) => pauses.before_listing_again(folder, error).await?,
            }
        };
        let mut entries: Vec<Entry> = found
            .into_iter()
            .map(|meta| Entry {
                path: meta.location.to_string(),
                size: meta.size,
                modified: meta.last_modified,
            })
            .collect();
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Visits every object below a folder whose content is spread over 256 folders of two hex digits, in no order and
    /// some of them several times.
    ///
    /// A server lists a thousand objects a request, one request after the other. So what does not fit into the first
    /// is listed folder by folder, many at a time.
    pub(crate) async fn list_sharded(&self, folder: &str, mut visit: impl FnMut(ObjectMeta)) -> Result<()> {
        let prefix = parse(folder)?;
        let mut pauses = Pauses::new();
        loop {
            match self.list_shards(&prefix, &mut visit).await {
                Ok(()) => return Ok(()),
                Err(error) => pauses.before_listing_again(folder, error).await?,
            }
        }
    }

    async fn list_shards(
        &self,
        prefix: &Path,
        visit: &mut impl FnMut(ObjectMeta),
    ) -> object_store::Result<()> {
        let mut all = self.objects.list(Some(prefix));
        let mut found = 0;
        while let Some(meta) = all.try_next().await? {
            visit(meta);
            found += 1;
            if found > LISTED_AT_ONCE && self.folder.is_none() {
                let shards = (0..=u8::MAX).map(|shard| prefix.clone().join(format!("{shard:02x}")));
                let shards = futures::stream::iter(shards).map(|shard| self.objects.list(Some(&shard)));
                let mut sharded = shards.flatten_unordered(CONCURRENT_REQUESTS);
                while let Some(meta) = sharded.try_next().await? {
                    visit(meta);
                }
                break;
            }
        }
        Ok(())
    }

    /// Names of the folders below a folder, or below the store's root.
    pub(crate) async fn folders(&self, folder: Option<&str>) -> Result<Vec<String>> {
        let prefix = folder.map(parse).transpose()?;
        let found = self.objects.list_with_delimiter(prefix.as_ref()).await;
        let found = found.map_err(|error| storage("list", folder.unwrap_or_default(), error))?;
        let names = found.common_prefixes.iter().filter_map(|path| path.parts().next_back());
        Ok(names.map(|name| name.as_ref().to_owned()).collect())
    }

    /// Removes an object; one that is not there is no error.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.must_write(path)?;
        let removed = self.objects.delete(&parse(path)?).await;
        absent_is_none(removed).map_err(|error| storage("delete", path, error))?;
        Ok(())
    }

    /// The time of the store's own clock, which the ages of objects are measured by. Writes and removes an object.
    pub async fn time(&self) -> Result<DateTime<Utc>> {
        let path = format!("probe/{}", random_id());
        self.overwrite(&path, Bytes::from_static(b"what time is it?")).await?;
        let entry = self.find(&path).await?;
        self.delete(&path).await?;
        entry.map(|entry| entry.modified).ok_or_else(|| Error::Missing {
            path,
            consequence: "it was written a moment ago; the store does not show its own writes".to_owned(),
        })
    }

    /// A path of the store as outside readers know it.
    pub(crate) fn location_of(&self, path: &str) -> String {
        format!("{}/{path}", self.base.trim_end_matches('/'))
    }

    fn must_write(&self, path: &str) -> Result<()> {
        match self.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::ReadOnly { url: self.url.clone(), path: path.to_owned() }),
        }
    }
}

fn parse_path(path: &str) -> object_store::Result<Path> {
    Ok(Path::parse(path)?)
}

fn parse(path: &str) -> Result<Path> {
    parse_path(path).map_err(|error| storage("name", path, error))
}

fn storage(action: &'static str, path: &str, source: object_store::Error) -> Error {
    Error::Storage { action, path: path.to_owned(), source }
}

fn absent_is_none<T>(result: object_store::Result<T>) -> object_store::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// JSON for people too: indented, with a line end.
pub(crate) fn to_json<T: Serialize + ?Sized>(path: &str, what: &'static str, value: &T) -> Result<Bytes> {
    let mut json = serde_json::to_vec_pretty(value).map_err(|source| Error::Json {
        path: path.to_owned(),
        what,
        source,
    })?;
    json.push(b'\n');
    Ok(Bytes::from(json))
}

pub(crate) fn parse_json<T: DeserializeOwned>(path: &str, what: &'static str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path: path.to_owned(), what, source })
}
