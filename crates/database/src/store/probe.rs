//! What is checked when a store is opened: the layout's version, and that put-if-absent holds.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult};
use serde::{Deserialize, Serialize};

use crate::error::is_transient;
use crate::store::pauses::Pauses;
use crate::store::{Access, Put, Store};
use crate::{Error, Result, random_id};

/// Raised when a program that knows only the old layout would do harm.
const LAYOUT: u32 = 1;
const FORMAT_PATH: &str = "format.json";

#[derive(Serialize, Deserialize)]
struct Format {
    product: String,
    layout: u32,
}

/// What [`examine`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Examined {
    /// Of a layout that this program knows.
    pub has_database: bool,
    /// The store's own clock.
    pub time: DateTime<Utc>,
}

/// Looks whether the programs can work with a store: reachable, put-if-absent, and the rights to write, read, list and
/// remove. Unlike [`Store::open`] it makes no database of an empty store, and leaves nothing behind.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn examine(url: &str) -> Result<Examined> {
    let store = Store::unprepared(url, Access::ReadWrite)?;
    let format = store.get_json::<Format>(FORMAT_PATH, "layout version").await?;
    if let Some(format) = &format {
        check_layout(&store, format)?;
    }
    check_put_if_absent(&store).await?;
    let time = store.time().await?;
    store.list("probe/").await?;
    Ok(Examined { has_database: format.is_some(), time })
}

pub(super) async fn prepare(store: &Store) -> Result<()> {
    match (store.get_json::<Format>(FORMAT_PATH, "layout version").await?, store.access) {
        (Some(format), access) => {
            check_layout(store, &format)?;
            if access == Access::ReadWrite {
                check_put_if_absent(store).await?;
            }
        }
        (None, Access::ReadOnly) => return Err(Error::NoDatabase { url: store.url.clone() }),
        (None, Access::ReadWrite) => {
            check_put_if_absent(store).await?;
            let ours = Format { product: "metad2a".to_owned(), layout: LAYOUT };
            if store.put_json_if_absent(FORMAT_PATH, &ours).await? == Put::Exists {
                // Somebody opened the same empty store at this moment, perhaps with a newer program.
                if let Some(format) = store.get_json::<Format>(FORMAT_PATH, "layout version").await? {
                    check_layout(store, &format)?;
                }
            }
        }
    }
    Ok(())
}

impl Store {
    /// Whether the store can be reached at all: `Ok` if it answers a small read.
    pub async fn check_reachable(&self) -> Result<()> {
        self.get(FORMAT_PATH).await.map(|_| ())
    }
}

fn check_layout(store: &Store, format: &Format) -> Result<()> {
    if format.layout > LAYOUT {
        return Err(Error::Layout { url: store.url.clone(), found: format.layout, supported: LAYOUT });
    }
    Ok(())
}

/// Writes a random name twice. Some servers accept the condition and overwrite all the same.
async fn check_put_if_absent(store: &Store) -> Result<()> {
    let path = format!("probe/{}", random_id());
    let location = Path::from(path.as_str());
    let (first, second) = (Bytes::from(random_id()), Bytes::from(random_id()));
    // A first write that cannot be settled is reported as what it is: the store cannot be reached.
    store.put_if_absent(&path, first.clone()).await?;
    let answer = write_again(store, &location, &second).await;
    let kept = store.get(&path).await?;
    // The probe is removed whatever it showed; one that stays behind is harmless and says what it is.
    let _ = store.objects.delete(&location).await;
    let found = match answer {
        Ok(_) => "a second write was accepted",
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            if kept.as_ref() == Some(&first) {
                return Ok(());
            }
            "a second write was refused, but changed the object"
        }
        Err(error) => return Err(super::storage("probe", &path, error)),
    };
    Err(Error::NoPutIfAbsent { url: store.url.clone(), found: found.to_owned() })
}

/// Tries until the server itself has said yes or no: a lost answer proves nothing.
async fn write_again(store: &Store, location: &Path, content: &Bytes) -> object_store::Result<PutResult> {
    let mut pauses = Pauses::new();
    loop {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.once.put_opts(location, PutPayload::from(content.clone()), options).await {
            Err(error) if is_transient(&error) && pauses.are_left() => {
                tracing::warn!(%location, %error, "the outcome of a write is unknown; trying again");
                pauses.next().await;
            }
            settled => return settled,
        }
    }
}
