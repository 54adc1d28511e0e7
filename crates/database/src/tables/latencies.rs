//! How long networks take on devices, as imports tell it. What is measured here stands in `evaluations`: a row of this
//! table speaks of a cell on a device, and one cell is trained several times.

use crate::table::table;
use crate::tables::{ARCH_INDEX, AT_LEAST_ONE, NOT_NEGATIVE};
use chrono::{DateTime, Utc};

table! {
    /// One row per cell, device and batch size: how long one forward pass takes. All of them are imported.
    pub struct LatencyRow in "latencies", version 1;
    order(device, batch_size, protocol, arch_index);
    key(device, batch_size, protocol, arch_index);
    references(arch_index => "architectures"."arch_index");
    columns {
        /// Index of the cell in the order of NATS-Bench.
        deterministic arch_index: i64 = ARCH_INDEX;
        /// The cell as NAS-Bench-201 writes it.
        deterministic cell: String;
        /// Device that was measured, as the import names it.
        measured device: String;
        /// Pictures in one forward pass.
        deterministic batch_size: i64 = AT_LEAST_ONE;
        /// How it was measured (runtime, precision, threads), as the import names it; only rows of one protocol compare.
        deterministic protocol: String;
        /// Median time of one forward pass of the whole batch, in milliseconds.
        measured latency_milliseconds: f64 = NOT_NEGATIVE;
        /// 95th percentile of the same, in milliseconds; null where the import does not tell.
        measured latency_p95_milliseconds: Option<f64> = NOT_NEGATIVE;
        /// Channels of the network's first stage.
        deterministic channels: i64 = AT_LEAST_ONE;
        /// Cells in each of the three stages.
        deterministic cells_per_stage: i64 = AT_LEAST_ONE;
        /// Height and width of the pictures, in pixels.
        deterministic image_size: i64 = AT_LEAST_ONE;
        /// Outputs of the network.
        deterministic classes: i64 = AT_LEAST_ONE;
        /// Where the row comes from: the declared source, the file and its row, from 1.
        deterministic provenance: String;
        /// Id of the import that brought the row.
        measured task_id: String;
        /// When it was imported.
        measured imported_at: DateTime<Utc>;
    }
}
