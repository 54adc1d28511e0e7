//! Rows from outside → datasets that teach, by the frozen choice of protocols.
//!
//! **Invariant:** a dataset holds the rows of one protocol only, and stands among those that teach, never among those
//! that select. A dataset teaches if two trainings or more have a validation accuracy and every class has features.

use std::collections::BTreeMap;

use metad2a_database::tables::{DatasetRow, EvaluationRow};
use metad2a_model::{DatasetFeatures, Row, TrainingSet};
use metad2a_pipeline::imports::{IMPORT_KIND, LEAST_ROWS};
use metad2a_pipeline::labels::{Label, Measured, labels};
use metad2a_pipeline::tasks::Look;
use metad2a_pipeline::training_set::ImportedRows;
use metad2a_search_space::Cell;

use super::Engine;
use super::training_data::{ClassFeatures, SeenClass};

impl Engine {
    /// Adds the datasets of one protocol to those that teach. The error is the rule that is broken.
    pub(super) fn add_imported(
        &self,
        imported: &ImportedRows,
        label: Label,
        train: &mut TrainingSet,
    ) -> anyhow::Result<Result<(), String>> {
        let features = self.files_of(IMPORT_KIND, imported.features.iter(), "features")?;
        let features = self.features_in(&features)?;
        let datasets = self.files_of(IMPORT_KIND, imported.evaluations.iter(), "datasets")?;
        let rows = self.files_of(IMPORT_KIND, imported.evaluations.iter(), "evaluations")?;
        let datasets: Vec<DatasetRow> = self.runtime.block_on(self.store.read_files(&datasets))?;
        let rows: Vec<EvaluationRow> = self.runtime.block_on(self.store.read_files(&rows))?;
        let before = (train.datasets.len(), train.rows.len());
        let taught = teach(&imported.protocol, &datasets, &rows, &features, label, train);
        tracing::info!(
            protocol = imported.protocol,
            datasets = train.datasets.len() - before.0,
            rows = train.rows.len() - before.1,
            of_datasets = datasets.len(),
            of_rows = rows.len(),
            "imported rows that teach: where two trainings have a validation accuracy and all classes features"
        );
        Ok(taught)
    }
}

/// Rows in the order of dataset id, cell and seed, so that a training repeats bit for bit.
fn teach(
    protocol: &str,
    datasets: &[DatasetRow],
    rows: &[EvaluationRow],
    features: &BTreeMap<SeenClass, ClassFeatures>,
    label: Label,
    train: &mut TrainingSet,
) -> Result<(), String> {
    let datasets: BTreeMap<&str, &DatasetRow> =
        datasets.iter().map(|row| (row.dataset_id.as_str(), row)).collect();
    let mut by_dataset: BTreeMap<&str, BTreeMap<(i64, i64), &EvaluationRow>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.protocol.as_deref() == Some(protocol)) {
        by_dataset.entry(&row.dataset_id).or_default().insert((row.arch_index, row.seed), row);
    }
    let before = train.datasets.len();
    for (id, rows) in by_dataset {
        let mut cells = Vec::new();
        let mut measured = Vec::new();
        for row in rows.into_values() {
            if let Some(valid_accuracy) = row.valid_accuracy {
                let cell = row.cell.parse::<Cell>();
                cells.push(cell.map_err(|error| format!("unit `{}` names no cell: {error}", row.unit_id))?);
                measured.push(Measured { valid_accuracy, fit_loss: row.fit_loss });
            }
        }
        let dataset = datasets.get(id).ok_or_else(|| format!("no import defines dataset `{id}`"))?;
        let class = |label: &i64| {
            features.get(&(dataset.source_content_id.clone(), Look::default(), *label)).cloned()
        };
        let classes: Option<Vec<ClassFeatures>> = dataset.class_labels.iter().map(class).collect();
        let Some(classes) = classes.filter(|_| cells.len() >= LEAST_ROWS) else { continue };
        let place = train.datasets.len();
        train.datasets.push(DatasetFeatures { id: format!("{id}/{protocol}"), classes });
        let targets = labels(label, &measured);
        train.rows.extend(cells.into_iter().zip(targets).map(|(cell, target)| Row {
            dataset: place,
            cell,
            target,
        }));
    }
    if train.datasets.len() == before {
        return Err(format!(
            "no dataset of protocol `{protocol}` has {LEAST_ROWS} validation accuracies and features of all its classes"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn dataset(id: &str, class_labels: &[i64]) -> DatasetRow {
        DatasetRow {
            dataset_id: id.to_owned(),
            source_content_id: "source".to_owned(),
            class_labels: class_labels.to_vec(),
            ..DatasetRow::default()
        }
    }

    fn row(dataset: &str, index: u32, protocol: &str, valid: Option<f64>) -> EvaluationRow {
        let cell = metad2a_search_space::ArchIndex::try_from(index).unwrap().cell();
        EvaluationRow {
            dataset_id: dataset.to_owned(),
            arch_index: index.into(),
            cell: cell.to_string(),
            valid_accuracy: valid,
            // Never read: a training that looked at it would learn from test figures.
            test_accuracy: Some(1.0),
            protocol: Some(protocol.to_owned()),
            ..EvaluationRow::default()
        }
    }

    fn features(labels: &[i64]) -> BTreeMap<SeenClass, ClassFeatures> {
        labels
            .iter()
            .map(|label| {
                (("source".to_owned(), Look::default(), *label), Arc::new(vec![vec![*label as f32]]))
            })
            .collect()
    }

    fn taught(rows: &[EvaluationRow], labels: &[i64]) -> Result<TrainingSet, String> {
        let datasets = [dataset("d1", &[7, 3]), dataset("d2", &[3, 4])];
        let mut train = TrainingSet::default();
        teach("a@50", &datasets, rows, &features(labels), Label::FittedAccuracy, &mut train)?;
        Ok(train)
    }

    #[test]
    fn a_dataset_holds_one_protocol_in_a_fixed_order_and_its_classes_in_its_own() {
        let mut rows = vec![
            row("d1", 9, "a@50", Some(0.25)),
            row("d1", 4, "a@50", Some(0.5)),
            row("d1", 5, "b@50", Some(0.75)),
            row("d1", 6, "a@50", None),
        ];
        let train = taught(&rows, &[3, 7]).unwrap();
        let found: Vec<(u16, f64)> =
            train.rows.iter().map(|row| (row.cell.index().get(), row.target)).collect();
        assert_eq!(found, [(4, 0.5), (9, 0.25)]);
        let [only] = train.datasets.as_slice() else { panic!("{:?}", train.datasets) };
        assert_eq!(only.id, "d1/a@50");
        assert_eq!(only.classes.iter().map(|class| class[0][0]).collect::<Vec<_>>(), [7.0, 3.0]);
        rows.reverse();
        assert_eq!(taught(&rows, &[3, 7]).unwrap().rows, train.rows);
    }

    #[test]
    fn datasets_with_one_accuracy_or_a_class_without_features_teach_nothing() {
        let rows = [
            row("d1", 4, "a@50", Some(0.5)),
            row("d2", 4, "a@50", Some(0.5)),
            row("d2", 5, "a@50", Some(0.6)),
        ];
        assert_eq!(taught(&rows, &[3, 4, 7]).unwrap().datasets.len(), 1);
        let error = taught(&rows, &[3, 7]).unwrap_err();
        assert_eq!(
            error,
            "no dataset of protocol `a@50` has 2 validation accuracies and features of all its classes"
        );
    }
}
