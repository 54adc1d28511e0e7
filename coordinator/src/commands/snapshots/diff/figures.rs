//! The figures of a snapshot that a comparison tells. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use metad2a_database::ModelRecord;
use metad2a_database::tables::{CandidateRow, DatasetRow, EvaluationRow};
use serde::Serialize;

use super::ModelChange;

/// Something in both snapshots; none where one of them has it not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Moved<T> {
    pub(super) before: Option<T>,
    pub(super) after: Option<T>,
}

/// Of a group of trainings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) evaluations: u64,
    /// Means over those that have the figure, in [0, 1].
    pub(super) mean_valid_accuracy: Option<f64>,
    pub(super) mean_test_accuracy: Option<f64>,
}

/// Everything that either side has.
pub(super) fn both<T: Clone>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
) -> BTreeMap<String, Moved<T>> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let moved = Moved { before: before.get(name).cloned(), after: after.get(name).cloned() };
            (name.clone(), moved)
        })
        .collect()
}

pub(super) fn model_change(records: &Moved<ModelRecord>) -> ModelChange {
    let metrics = |record: &Option<ModelRecord>| {
        record.as_ref().map(|record| record.metrics.clone()).unwrap_or_default()
    };
    let id = |record: &Option<ModelRecord>| record.as_ref().map(|record| record.sha256.clone());
    ModelChange {
        checkpoint: Moved { before: id(&records.before), after: id(&records.after) },
        metrics: both(&metrics(&records.before), &metrics(&records.after)),
    }
}

/// Figures of all trainings, by the class group of their datasets.
pub(super) fn trained(datasets: &[DatasetRow], evaluations: &[EvaluationRow]) -> BTreeMap<String, Figures> {
    let groups: HashMap<&str, &str> =
        datasets.iter().map(|row| (row.dataset_id.as_str(), row.class_group.as_str())).collect();
    let rows = evaluations.iter().filter_map(|row| {
        let group = groups.get(row.dataset_id.as_str())?;
        Some((*group, row.valid_accuracy, row.test_accuracy))
    });
    summed(rows)
}

/// Figures of the cells that searches had measured, by role.
pub(super) fn measured(candidates: &[CandidateRow]) -> BTreeMap<String, Figures> {
    let measured = candidates.iter().filter(|row| row.unit_id.is_some());
    summed(measured.map(|row| (row.role.as_str(), row.valid_accuracy, row.test_accuracy)))
}

fn summed<'a>(rows: impl Iterator<Item = (&'a str, Option<f64>, Option<f64>)>) -> BTreeMap<String, Figures> {
    let mut by_group: BTreeMap<&str, (u64, Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for (group, valid, test) in rows {
        let (count, valids, tests) = by_group.entry(group).or_default();
        *count += 1;
        valids.extend(valid);
        tests.extend(test);
    }
    by_group
        .into_iter()
        .map(|(group, (evaluations, valids, tests))| {
            let figures =
                Figures { evaluations, mean_valid_accuracy: mean(&valids), mean_test_accuracy: mean(&tests) };
            (group.to_owned(), figures)
        })
        .collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn training(dataset: &str, valid: Option<f64>, test: Option<f64>) -> EvaluationRow {
        EvaluationRow {
            dataset_id: dataset.to_owned(),
            valid_accuracy: valid,
            test_accuracy: test,
            ..EvaluationRow::default()
        }
    }

    #[test]
    fn trainings_are_counted_and_averaged_by_the_group_of_their_dataset() {
        let dataset = |id: &str, group: &str| DatasetRow {
            dataset_id: id.to_owned(),
            class_group: group.to_owned(),
            ..DatasetRow::default()
        };
        let datasets = [dataset("a", "meta-train"), dataset("b", "meta-train"), dataset("c", "target")];
        let rows = [
            training("a", Some(0.5), None),
            training("b", Some(0.25), None),
            training("b", None, None),
            training("c", Some(0.75), Some(0.5)),
        ];
        let figures = trained(&datasets, &rows);
        let expected = |evaluations, valid, test| Figures {
            evaluations,
            mean_valid_accuracy: Some(valid),
            mean_test_accuracy: test,
        };
        assert_eq!(
            figures["meta-train"],
            expected(3, 0.375, None),
            "a diverged training counts, without a figure"
        );
        assert_eq!(figures["target"], expected(1, 0.75, Some(0.5)));
    }

    #[test]
    fn only_measured_candidates_count() {
        let candidate = |role: &str, unit: Option<&str>| CandidateRow {
            role: role.to_owned(),
            unit_id: unit.map(str::to_owned),
            test_accuracy: Some(0.5),
            ..CandidateRow::default()
        };
        let rows =
            [candidate("chosen", Some("u")), candidate("random", Some("v")), candidate("candidate", None)];
        let figures = measured(&rows);
        assert_eq!(figures.keys().collect::<Vec<_>>(), ["chosen", "random"]);
        assert_eq!((figures["chosen"].evaluations, figures["chosen"].mean_test_accuracy), (1, Some(0.5)));
    }

    #[test]
    fn what_only_one_side_has_is_told_as_come_or_gone() {
        let mut old = ModelRecord::of("predictor", 1, serde_json::json!({}), b"old");
        old.metrics = BTreeMap::from([("spearman".to_owned(), 0.5), ("gone".to_owned(), 1.0)]);
        let mut new = ModelRecord::of("predictor", 1, serde_json::json!({}), b"new");
        new.metrics = BTreeMap::from([("spearman".to_owned(), 0.625)]);
        let change = model_change(&Moved { before: Some(old.clone()), after: Some(new.clone()) });
        assert_eq!(change.checkpoint, Moved { before: Some(old.sha256.clone()), after: Some(new.sha256) });
        assert_eq!(change.metrics["spearman"], Moved { before: Some(0.5), after: Some(0.625) });
        assert_eq!(change.metrics["gone"], Moved { before: Some(1.0), after: None });
        let lost = model_change(&Moved { before: Some(old), after: None });
        assert_eq!((lost.checkpoint.after, lost.metrics["gone"].after), (None, None));
    }
}
