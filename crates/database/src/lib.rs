//! The database: what exists, in an object store, and the tables that analysts read.
//!
//! ```text
//!   a task's rows ─► put_rows ─► results/<kind>/<hash>.parquet     data first, named by its own content
//!                    commit   ─► done/<kind>/<id>.json             marker last, put-if-absent: the only commit point
//!   a task's slice ─► record_checkpoint ─► checkpoints/<id>/<slice>.json   one winner a slice
//!                    publish  ─► <pipeline>/tables/<table>/…       merged, sorted, checked
//!                             ─► <pipeline>/snapshots/000042.json  manifest, put-if-absent: whole, or not at all
//! ```
//!
//! The object store is the only truth of the product, and put-if-absent the only primitive that anything here rests
//! on: a local folder and every honest object store behave alike. [`Store::open`] proves that the store keeps that
//! promise before anything is written.
//!
//! **Invariants.** A marker exists only if all its files do. A data file never changes, since its name is the hash
//! of its content. A manifest names only files that exist and that passed every check.
//!
//! Deliberately absent: rename, conditional update, lists of tasks kept beside the markers, a cache, and any table
//! format that needs a library to read it.

mod checkpoints;
mod commit;
mod compare;
mod content;
mod decisions;
mod dictionary;
mod error;
mod gc;
mod index;
mod models;
mod names;
mod parquet_files;
mod publish;
mod runs;
mod snapshots;
mod store;
mod table;
pub mod tables;

pub use checkpoints::{Checkpoint, Checkpoints, Recorded};
pub use commit::{Commit, Marker};
pub use compare::TableChange;
pub use content::{FileRef, sha256_hex};
pub use decisions::{Decided, Decision};
pub use dictionary::{DICTIONARY_END, DICTIONARY_START, data_dictionary_markdown, with_dictionary};
pub use error::{Error, Result};
pub use gc::{Garbage, Inventory, Limits, Reason, Removed, garbage, names_in};
pub use index::{Folding, FreshMarker};
pub use models::ModelRecord;
pub use parquet_files::{NamedFile, decode, encode, merge};
pub use publish::{Broken, Verified};
pub use snapshots::{Checks, Published, Snapshot, SnapshotDraft, SnapshotSource, SnapshotTable, TableFile};
pub use store::{Access, Entry, Examined, Put, Store, examine};
pub use table::{Column, ColumnType, Reference, Repeatability, Table, TableRow, Value};

use chrono::{DateTime, SubsecRound, Utc};

/// A fresh random id of 32 hex digits: for executions, runs and whatever must tell two writers apart.
pub fn random_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}

/// The time of this machine's clock, in whole microseconds, as the tables keep it.
///
/// For records and displays. What is compared with the age of an object uses [`Store::time`] instead.
pub fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}
