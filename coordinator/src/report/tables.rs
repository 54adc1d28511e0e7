//! The rows that a report is made from.

use metad2a_database::tables::{
    CandidateRow, CurveRow, DatasetRow, EvaluationRow, ModelRow, RunRow, SearchRow, TrainingMetricRow,
};
use metad2a_database::{Snapshot, Store};

/// Rows of a snapshot. By default none.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) datasets: Vec<DatasetRow>,
    pub(crate) evaluations: Vec<EvaluationRow>,
    pub(crate) candidates: Vec<CandidateRow>,
    pub(crate) searches: Vec<SearchRow>,
    pub(crate) training_metrics: Vec<TrainingMetricRow>,
    pub(crate) models: Vec<ModelRow>,
    /// Only those of [`Tables::read_all`].
    pub(crate) curves: Vec<CurveRow>,
    /// Only those of [`Tables::read_all`].
    pub(crate) runs: Vec<RunRow>,
}

impl Tables {
    /// What the outcome of a run is told from.
    pub(crate) async fn read(store: &Store, snapshot: &Snapshot) -> metad2a_database::Result<Self> {
        Ok(Self {
            datasets: store.read_table(snapshot).await?,
            evaluations: store.read_table(snapshot).await?,
            candidates: store.read_table(snapshot).await?,
            searches: store.read_table(snapshot).await?,
            training_metrics: store.read_table(snapshot).await?,
            models: store.read_table(snapshot).await?,
            ..Self::default()
        })
    }

    /// The same with learning curves, of which there are many, and runs.
    pub(crate) async fn read_all(store: &Store, snapshot: &Snapshot) -> metad2a_database::Result<Self> {
        let tables = Self::read(store, snapshot).await?;
        Ok(Self {
            curves: store.read_table(snapshot).await?,
            runs: store.read_table(snapshot).await?,
            ..tables
        })
    }

    pub(crate) fn imported_evaluations(&self) -> u64 {
        self.evaluations.iter().filter(|row| row.protocol.is_some()).count() as u64
    }
}
