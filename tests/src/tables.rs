//! What the published tables say, without what a clock or a machine says.

use std::collections::BTreeMap;

use metad2a_database::tables::{
    ArchitectureRow, CandidateRow, CurveRow, DatasetRow, EvaluationRow, FeatureRow, ModelRow, SearchRow,
    TrainingMetricRow,
};
use metad2a_database::{Access, Repeatability, Snapshot, Store, TableRow};
use serde_json::Value;

/// All tables but `runs`, which tells of runs and not of results.
pub const DETERMINISTIC_TABLES: usize = 9;

/// [`deterministic_tables_of`] the pipeline `small`.
///
/// # Panics
/// If there is no snapshot, or it cannot be read.
pub async fn deterministic_tables(store: &str) -> BTreeMap<&'static str, Vec<String>> {
    deterministic_tables_of(store, "small").await
}

/// The deterministic columns of every table of a pipeline's newest snapshot, by table, as sorted JSON rows.
///
/// # Panics
/// If there is no snapshot, or it cannot be read.
pub async fn deterministic_tables_of(store: &str, pipeline: &str) -> BTreeMap<&'static str, Vec<String>> {
    let store = Store::open(store, Access::ReadOnly).await.expect("the store opens");
    let current = store.current_snapshot(pipeline).await.expect("snapshots can be listed");
    let snapshot = current.expect("the pipeline has published a snapshot");
    let mut tables = BTreeMap::new();
    add::<DatasetRow>(&store, &snapshot, &mut tables).await;
    add::<ArchitectureRow>(&store, &snapshot, &mut tables).await;
    add::<EvaluationRow>(&store, &snapshot, &mut tables).await;
    add::<CurveRow>(&store, &snapshot, &mut tables).await;
    add::<FeatureRow>(&store, &snapshot, &mut tables).await;
    add::<ModelRow>(&store, &snapshot, &mut tables).await;
    add::<TrainingMetricRow>(&store, &snapshot, &mut tables).await;
    add::<SearchRow>(&store, &snapshot, &mut tables).await;
    add::<CandidateRow>(&store, &snapshot, &mut tables).await;
    tables
}

async fn add<T: TableRow + serde::Serialize>(
    store: &Store,
    snapshot: &Snapshot,
    tables: &mut BTreeMap<&'static str, Vec<String>>,
) {
    let rows: Vec<T> = store.read_table(snapshot).await.expect("a published table can be read");
    let mut lines: Vec<String> = rows.iter().map(deterministic).collect();
    lines.sort_unstable();
    tables.insert(T::NAME, lines);
}

fn deterministic<T: TableRow + serde::Serialize>(row: &T) -> String {
    let mut value = serde_json::to_value(row).expect("a row has a JSON form");
    if let Value::Object(columns) = &mut value {
        for column in T::table().columns {
            if column.repeatability == Repeatability::Measured {
                columns.remove(column.name);
            }
        }
    }
    value.to_string()
}
