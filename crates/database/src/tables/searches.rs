//! Searches for a network for a new dataset, and what they proposed.

use crate::table::table;
use crate::tables::{ARCH_INDEX, AT_LEAST_ONE, FINITE, NOT_NEGATIVE, SHARE};
use chrono::{DateTime, Utc};

table! {
    /// One row per search.
    pub struct SearchRow in "searches", version 1;
    order(dataset_id, search_id);
    key(search_id);
    references();
    columns {
        /// Id of the search task.
        deterministic search_id: String;
        /// Dataset that was searched for.
        deterministic dataset_id: String;
        /// Its name.
        deterministic dataset_name: String;
        /// Id of the generator's checkpoint.
        deterministic generator_id: String;
        /// Id of the predictor's checkpoint.
        deterministic predictor_id: String;
        /// Seed of the draws.
        deterministic seed: i64;
        /// Candidates that were asked for.
        deterministic candidates_requested: i64 = AT_LEAST_ONE;
        /// Graphs that the generator drew.
        deterministic graphs_drawn: i64 = NOT_NEGATIVE;
        /// Drawn graphs that are cells.
        deterministic graphs_valid: i64 = NOT_NEGATIVE;
        /// Distinct cells among them.
        deterministic cells_distinct: i64 = NOT_NEGATIVE;
        /// Classes of cells that compute different functions among them.
        deterministic cells_canonical: i64 = NOT_NEGATIVE;
        /// Time of the search, in seconds, without reading the pictures.
        measured search_seconds: f64 = NOT_NEGATIVE;
        /// Device that searched.
        measured device: String;
        /// When it ended.
        measured finished_at: DateTime<Utc>;
    }
}

table! {
    /// One row per cell that a search ranked or compared with.
    pub struct CandidateRow in "candidates", version 1;
    order(dataset_id, search_id, role, rank);
    key(search_id, role, rank);
    references(search_id => "searches"."search_id");
    columns {
        /// The search, see `searches`.
        deterministic search_id: String;
        /// Dataset that was searched for.
        deterministic dataset_id: String;
        /// `chosen` (trained), `candidate` (ranked only) or `random` (trained for comparison).
        deterministic role: String;
        /// Place by predicted accuracy within the search, from 1; within the role for random cells.
        deterministic rank: i64 = AT_LEAST_ONE;
        /// Index of the cell in the order of NATS-Bench.
        deterministic arch_index: i64 = ARCH_INDEX;
        /// The cell as NAS-Bench-201 writes it.
        deterministic cell: String;
        /// Predicted accuracy; not clipped, so it may leave [0, 1]. Null for cells that were not ranked.
        deterministic predicted_accuracy: Option<f64> = FINITE;
        /// Standard deviation of the prediction over draws of the dataset's pictures.
        deterministic predicted_accuracy_sd: Option<f64> = NOT_NEGATIVE;
        /// Trainable parameters of its network.
        deterministic params: i64 = NOT_NEGATIVE;
        /// Multiply-adds for one picture of its network.
        deterministic flops: i64 = NOT_NEGATIVE;
        /// Time of one picture through its network, in milliseconds; null where it was not measured.
        measured latency_milliseconds: Option<f64> = NOT_NEGATIVE;
        /// The training that measured it, see `evaluations`; null where it was not trained.
        deterministic unit_id: Option<String>;
        /// Share of validation pictures classified rightly; null where it was not trained.
        deterministic valid_accuracy: Option<f64> = SHARE;
        /// Share of test pictures classified rightly; null where it was not trained.
        deterministic test_accuracy: Option<f64> = SHARE;
        /// Time of all training steps, in seconds; null where it was not trained.
        measured train_seconds: Option<f64> = NOT_NEGATIVE;
    }
}
