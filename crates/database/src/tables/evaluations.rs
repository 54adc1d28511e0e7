//! What trainings gave: one row per trained network, one per epoch of each.

use crate::table::table;
use crate::tables::{ARCH_INDEX, AT_LEAST_ONE, NOT_NEGATIVE, SHARE};
use chrono::{DateTime, Utc};

/// The status of a row whose training went through all epochs.
pub const COMPLETED: &str = "completed";
/// The status of a row whose training lost its numbers.
pub const DIVERGED: &str = "diverged";
/// The status of a row whose training was ended early, on purpose.
pub const STOPPED: &str = "stopped";
/// The status of a row whose network could not be trained.
pub const FAILED: &str = "failed";

table! {
    /// One row per trained network: a dataset, a cell, a recipe and a seed; trained here, or imported.
    pub struct EvaluationRow in "evaluations", version 1;
    order(dataset_id, arch_index, seed, recipe_id);
    key(unit_id);
    references(dataset_id => "datasets"."dataset_id", arch_index => "architectures"."arch_index");
    columns {
        /// Id of the unit of work: a hash of dataset, representative cell, recipe, seed and semantics; of an imported row,
        /// of dataset, cell, protocol and seed.
        deterministic unit_id: String;
        /// Dataset it was trained on, see `datasets`.
        deterministic dataset_id: String;
        /// Index of the trained cell, see `architectures`: the representative of its class, in imported rows the cell itself.
        deterministic arch_index: i64 = ARCH_INDEX;
        /// The trained cell as NAS-Bench-201 writes it.
        deterministic cell: String;
        /// Seed of weights, order of pictures and augmentation; -1 in imported rows that tell none or are means over
        /// seeds.
        deterministic seed: i64;
        /// Hash of the recipe.
        deterministic recipe_id: String;
        /// Epochs of the recipe.
        deterministic epochs: i64 = AT_LEAST_ONE;
        /// Pictures per step.
        deterministic batch_size: i64 = AT_LEAST_ONE;
        /// Learning rate at the start of the cosine.
        deterministic learning_rate: f64 = NOT_NEGATIVE;
        /// Channels of the first stage.
        deterministic channels: i64 = AT_LEAST_ONE;
        /// Cells in each of the three stages.
        deterministic cells_per_stage: i64 = AT_LEAST_ONE;
        /// Height and width of the pictures, in pixels.
        deterministic image_size: i64 = AT_LEAST_ONE;
        /// `completed`, `diverged`, `stopped` (early, on purpose) or `failed` (it could not be trained: no figures).
        deterministic status: String;
        /// Why it diverged, was stopped or failed; null where it completed.
        deterministic status_reason: Option<String>;
        /// Epochs that were trained to their end; fewer than `epochs` unless completed, and 0 where it failed.
        deterministic epochs_done: i64 = NOT_NEGATIVE;
        /// Share of training pictures classified rightly after training.
        deterministic train_accuracy: Option<f64> = SHARE;
        /// Mean cross-entropy on the training pictures after training.
        deterministic train_loss: Option<f64> = NOT_NEGATIVE;
        /// Share of validation pictures classified rightly after training; selection uses this.
        deterministic valid_accuracy: Option<f64> = SHARE;
        /// Mean cross-entropy on the validation pictures after training.
        deterministic valid_loss: Option<f64> = NOT_NEGATIVE;
        /// Share of test pictures classified rightly after training; for reports only.
        deterministic test_accuracy: Option<f64> = SHARE;
        /// Mean cross-entropy on the test pictures after training; for reports only.
        deterministic test_loss: Option<f64> = NOT_NEGATIVE;
        /// Mean training loss of the last ten epochs: the label that short trainings rank cells by.
        deterministic fit_loss: Option<f64> = NOT_NEGATIVE;
        /// Sum of the training losses of the epochs that were trained to their end.
        deterministic train_loss_sum: Option<f64> = NOT_NEGATIVE;
        /// Trainable parameters of the trained network.
        deterministic params: i64 = NOT_NEGATIVE;
        /// Multiply-adds for one picture of the trained network.
        deterministic flops: i64 = NOT_NEGATIVE;
        /// Hash of the pictures it was trained on, see `datasets`; empty in imported rows.
        deterministic data_hash: String;
        /// Time of all training steps, in seconds; 0 where it failed, and in imported rows that do not tell it.
        measured train_seconds: f64 = NOT_NEGATIVE;
        /// Version of the worker program; `imported` in imported rows.
        measured code_version: String;
        /// Version of libtorch; empty in imported rows.
        measured libtorch_version: String;
        /// Device that trained it; empty in imported rows.
        measured device: String;
        /// Id of the task or import that produced the row.
        measured task_id: String;
        /// When the training ended; of an imported row, when it was imported.
        measured finished_at: DateTime<Utc>;
        /// Training protocol of an imported row, `<name>@<epochs>`: figures of two protocols are not comparable. Null where
        /// it was trained here, with the recipe of `recipe_id`.
        deterministic protocol: Option<String>;
        /// Where an imported row comes from: the declared source, the file and its row, from 1. Null where it was trained
        /// here.
        deterministic provenance: Option<String>;
        /// What its network computed with: `float32` or `bfloat16`. Null in rows from before there was a choice and in
        /// imported ones.
        deterministic precision: Option<String>;
        /// Pictures that a training step took in per second, over the finished epochs and without validation; null where no
        /// epoch was finished.
        measured images_per_second: Option<f64> = NOT_NEGATIVE;
        /// Most resident memory of the compute process while it trained this network, in bytes; its programs, pictures and
        /// caches are part of it, an accelerator's memory is not. Null where it was trained on one, or where the system does
        /// not tell.
        measured peak_memory_bytes: Option<i64> = NOT_NEGATIVE;
        /// Median time of a forward pass of one picture through the trained network on `device`, in milliseconds; null where
        /// the pipeline does not ask for it (`evaluations.latency`), or the training did not complete.
        measured latency_batch_1_median_milliseconds: Option<f64> = NOT_NEGATIVE;
        /// 95th percentile of the same, in milliseconds.
        measured latency_batch_1_p95_milliseconds: Option<f64> = NOT_NEGATIVE;
        /// Median time of a forward pass of 64 pictures at once, in milliseconds for all of them; null as for one picture,
        /// and where 64 do not fit into memory.
        measured latency_batch_64_median_milliseconds: Option<f64> = NOT_NEGATIVE;
        /// 95th percentile of the same, in milliseconds.
        measured latency_batch_64_p95_milliseconds: Option<f64> = NOT_NEGATIVE;
    }
}

table! {
    /// One row per trained network and epoch.
    pub struct CurveRow in "curves", version 1;
    order(dataset_id, arch_index, seed, epoch);
    key(unit_id, epoch);
    references(unit_id => "evaluations"."unit_id");
    columns {
        /// The trained network, see `evaluations`.
        deterministic unit_id: String;
        /// Dataset it was trained on.
        deterministic dataset_id: String;
        /// Index of the trained cell.
        deterministic arch_index: i64 = ARCH_INDEX;
        /// Seed of the training.
        deterministic seed: i64;
        /// Epoch, from 1.
        deterministic epoch: i64 = NOT_NEGATIVE;
        /// Learning rate of the epoch.
        deterministic learning_rate: f64 = NOT_NEGATIVE;
        /// Mean cross-entropy over the epoch's training steps; null where it was not a number.
        deterministic train_loss: Option<f64> = NOT_NEGATIVE;
        /// Share of pictures classified rightly over the epoch's training steps.
        deterministic train_accuracy: Option<f64> = SHARE;
        /// Mean cross-entropy on the validation pictures; null where the epoch was not validated.
        deterministic valid_loss: Option<f64> = NOT_NEGATIVE;
        /// Share of validation pictures classified rightly; null where the epoch was not validated.
        deterministic valid_accuracy: Option<f64> = SHARE;
        /// Time of the epoch's training steps, in seconds.
        measured train_seconds: f64 = NOT_NEGATIVE;
    }
}
