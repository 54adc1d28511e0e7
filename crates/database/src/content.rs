//! Data files, named by their own content: `results/<kind>/<2 hex>/<sha256>.<ext>`.
//!
//! Such a file is the same whoever writes it, however often, so writing needs no condition and a slow duplicate can
//! harm nobody. A file that no marker names is an orphan, which garbage collection removes after its grace.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::names::check_name;
use crate::{Error, Result, Store, TableRow, decode, encode};

/// How many requests one call keeps in flight.
pub(crate) const CONCURRENT_REQUESTS: usize = 32;

/// A data file as markers and manifests name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// From the root of the store.
    pub path: String,
    /// Of the whole file, 64 hex digits.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
    /// Rows, where the file is a table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
}

impl FileRef {
    /// The kind a result file was stored under (`results/<kind>/…`), e.g. `evaluations`.
    pub fn kind(&self) -> Option<&str> {
        self.path.strip_prefix("results/")?.split('/').next()
    }
}

/// The SHA-256 of `bytes` in 64 hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Store {
    /// Stores a result and returns its name. Data first: whoever commits names it in a marker afterwards.
    ///
    /// `kind` says what the file holds (a table's name, `weights`, …), `ext` is the file name's ending without the
    /// full stop, `rows` counts a table's rows. Storing the same content twice is harmless and refreshes its age.
    pub async fn put_data(&self, kind: &str, ext: &str, data: Bytes, rows: Option<u64>) -> Result<FileRef> {
        check_name("kind of data", kind)?;
        check_name("file ending", ext)?;
        let sha256 = sha256_hex(&data);
        let path = format!("results/{kind}/{}/{sha256}.{ext}", &sha256[..2]);
        let bytes = data.len() as u64;
        // Overwriting renews the age, so that garbage collection cannot take an old orphan of the same content away
        // between this call and the commit; it also mends a damaged copy.
        self.overwrite(&path, data).await?;
        Ok(FileRef { path, sha256, bytes, rows })
    }

    /// Reads a data file and checks its content against its name.
    pub async fn get_data(&self, file: &FileRef) -> Result<Bytes> {
        let data = self.get(&file.path).await?.ok_or_else(|| Error::Missing {
            path: file.path.clone(),
            consequence: "a marker or manifest names it; restore it from a copy".to_owned(),
        })?;
        let found = sha256_hex(&data);
        if found != file.sha256 {
            return Err(Error::Damaged {
                path: file.path.clone(),
                expected: file.sha256.clone(),
                found,
                found_bytes: data.len() as u64,
            });
        }
        Ok(data)
    }

    /// Stores rows as one Parquet file, in the table's order. Equal rows give equal bytes.
    pub async fn put_rows<T: TableRow>(&self, kind: &str, rows: &[T]) -> Result<FileRef> {
        self.put_data(kind, "parquet", encode(rows)?, Some(rows.len() as u64)).await
    }

    /// Reads the rows of several files, in the order of the files.
    pub async fn read_files<T: TableRow>(&self, files: &[FileRef]) -> Result<Vec<T>> {
        let parts: Vec<Vec<T>> = // Owned: a stream that borrows them would make the future of every caller impossible to spawn.
        futures::stream::iter(files.to_vec())
            .map(|file| async move { decode::<T>(&file.path, self.get_data(&file).await?) })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        Ok(parts.into_iter().flatten().collect())
    }
}
