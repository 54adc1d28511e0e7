//! The models, how they were trained, and the runs that did it.

use crate::table::table;
use crate::tables::{FINITE, NOT_NEGATIVE};
use chrono::{DateTime, Utc};

table! {
    /// One row per published model checkpoint.
    pub struct ModelRow in "models", version 1;
    order(model, round, model_id);
    key(model, model_id);
    references();
    columns {
        /// Name of the model: `generator` or `predictor`.
        deterministic model: String;
        /// SHA-256 of its safetensors file, which lies at `<pipeline>/models/<model>/<model_id>.safetensors`.
        deterministic model_id: String;
        /// Id of the training it comes from; null for an imported model.
        deterministic training_id: Option<String>;
        /// Round of training that ended with it.
        deterministic round: i64 = NOT_NEGATIVE;
        /// Its configuration, as JSON.
        deterministic config_json: String;
        /// Ids of the checkpoints it was made from.
        deterministic parent_ids: Vec<String>;
        /// Number of the snapshot whose rows it was trained on; null where there was none.
        deterministic trained_on_snapshot: Option<i64> = NOT_NEGATIVE;
        /// Size of the safetensors file, in bytes.
        deterministic size_bytes: i64 = NOT_NEGATIVE;
        /// False where doing the training again may give another model: a quorum below all shards could close its
        /// rounds. Null in snapshots of versions without quorums, where every training was reproducible.
        deterministic reproducible: Option<bool>;
        /// When it was stored.
        measured created_at: DateTime<Utc>;
    }
}

table! {
    /// One row per figure of a round of training or of a validation.
    pub struct TrainingMetricRow in "training_metrics", version 1;
    order(model, training_id, round, metric, dataset_id);
    key(model, training_id, round, metric, dataset_id);
    references();
    columns {
        /// Name of the model: `generator` or `predictor`.
        deterministic model: String;
        /// Id of the training.
        deterministic training_id: String;
        /// Round of training that the figure belongs to.
        deterministic round: i64 = NOT_NEGATIVE;
        /// Name of the figure, e.g. `train_loss` or `valid_spearman`.
        deterministic metric: String;
        /// Dataset it was measured on; null for a figure of the whole round.
        deterministic dataset_id: Option<String>;
        /// Its value.
        deterministic value: f64 = FINITE;
    }
}

table! {
    /// One row per run of the pipeline.
    pub struct RunRow in "runs", version 1;
    order(started_at, run_id);
    key(run_id);
    references();
    columns {
        /// Random id of the run; its files lie at `<pipeline>/runs/<run_id>/`.
        measured run_id: String;
        /// Name of the pipeline.
        deterministic pipeline: String;
        /// Hash of the specification.
        deterministic specification_id: String;
        /// Version of the coordinator program.
        measured code_version: String;
        /// When it started.
        measured started_at: DateTime<Utc>;
        /// When it ended; null where the snapshot was published before that.
        measured finished_at: Option<DateTime<Utc>>;
        /// Tasks that it saw finished, by itself or by earlier runs.
        measured tasks_done: i64 = NOT_NEGATIVE;
        /// Tasks that failed for good.
        measured tasks_failed: i64 = NOT_NEGATIVE;
        /// How it ended: `done`, `done-with-failures` or `failed`.
        measured outcome: String;
    }
}
