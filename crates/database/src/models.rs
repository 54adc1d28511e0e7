//! Model checkpoints: `<pipeline>/models/<model>/<sha256>.safetensors` and a sidecar JSON.
//!
//! The sidecar is written after the weights, put-if-absent, so a model that is listed can be loaded.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::content::CONCURRENT_REQUESTS;
use crate::names::{check_name, check_pipeline};
use crate::store::parse_json;
use crate::{Error, FileRef, Result, Store, now, sha256_hex};

/// The sidecar of a checkpoint: what it is and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// Name of the model, e.g. `generator` or `predictor`.
    pub model: String,
    /// Of the safetensors file; the model's id.
    pub sha256: String,
    /// Size of the safetensors file.
    pub bytes: u64,
    /// Training round that ended with it; 0 is the start.
    pub round: u32,
    /// The model's configuration.
    pub config: serde_json::Value,
    /// Figures by name, e.g. `valid_spearman`.
    pub metrics: BTreeMap<String, f64>,
    /// Ids of the checkpoints it was made from.
    pub parents: Vec<String>,
    /// Number of the snapshot whose rows it was trained on.
    pub snapshot: Option<u32>,
    /// False where doing the training again may give other weights: a quorum below all shards could close its rounds.
    #[serde(default = "by_default")]
    pub reproducible: bool,
    pub created_at: DateTime<Utc>,
}

/// Records of versions that knew no quorum.
fn by_default() -> bool {
    true
}

impl ModelRecord {
    /// The record of `weights`, without metrics and parents yet.
    pub fn of(model: &str, round: u32, config: serde_json::Value, weights: &[u8]) -> Self {
        Self {
            model: model.to_owned(),
            sha256: sha256_hex(weights),
            bytes: weights.len() as u64,
            round,
            config,
            metrics: BTreeMap::new(),
            parents: Vec::new(),
            snapshot: None,
            reproducible: true,
            created_at: now(),
        }
    }
}

fn weights_path(pipeline: &str, model: &str, sha256: &str) -> Result<String> {
    check_pipeline(pipeline)?;
    check_name("model", model)?;
    check_name("model id", sha256)?;
    Ok(format!("{pipeline}/models/{model}/{sha256}.safetensors"))
}

/// The safetensors file of a checkpoint.
pub(crate) fn model_file(pipeline: &str, record: &ModelRecord) -> Result<FileRef> {
    let path = weights_path(pipeline, &record.model, &record.sha256)?;
    Ok(FileRef { path, sha256: record.sha256.clone(), bytes: record.bytes, rows: None })
}

fn sidecar_path(pipeline: &str, model: &str, sha256: &str) -> Result<String> {
    Ok(weights_path(pipeline, model, sha256)?.replace(".safetensors", ".json"))
}

impl Store {
    /// Stores a checkpoint, weights first. The same weights keep the record they were first stored with.
    pub async fn put_model(&self, pipeline: &str, record: &ModelRecord, weights: Bytes) -> Result<FileRef> {
        let path = weights_path(pipeline, &record.model, &record.sha256)?;
        let found = sha256_hex(&weights);
        if found != record.sha256 {
            return Err(Error::Invalid {
                what: format!("model `{}`", record.model),
                rule: format!("the record says sha256 `{}`, the weights have `{found}`", record.sha256),
            });
        }
        let bytes = weights.len() as u64;
        self.overwrite(&path, weights).await?;
        self.put_json_if_absent(&sidecar_path(pipeline, &record.model, &record.sha256)?, record).await?;
        Ok(FileRef { path, sha256: found, bytes, rows: None })
    }

    /// The record of one checkpoint.
    pub async fn model(&self, pipeline: &str, model: &str, sha256: &str) -> Result<Option<ModelRecord>> {
        self.get_json(&sidecar_path(pipeline, model, sha256)?, "model record").await
    }

    /// The records of all checkpoints of a pipeline, by model, round and id.
    pub async fn models(&self, pipeline: &str) -> Result<Vec<ModelRecord>> {
        check_pipeline(pipeline)?;
        let mut entries = self.list(&format!("{pipeline}/models/")).await?;
        entries.retain(|entry| entry.path.strip_suffix(".json").is_some());
        let found: Vec<Option<ModelRecord>> = futures::stream::iter(entries)
            .map(|entry| async move {
                let bytes = self.get(&entry.path).await?;
                bytes.map(|bytes| parse_json(&entry.path, "model record", &bytes)).transpose()
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        let mut records: Vec<ModelRecord> = found.into_iter().flatten().collect();
        records.sort_by(|a, b| (&a.model, a.round, &a.sha256).cmp(&(&b.model, b.round, &b.sha256)));
        Ok(records)
    }

    /// The safetensors file of a checkpoint, its content checked.
    pub async fn model_weights(&self, pipeline: &str, record: &ModelRecord) -> Result<Bytes> {
        self.get_data(&model_file(pipeline, record)?).await
    }
}
