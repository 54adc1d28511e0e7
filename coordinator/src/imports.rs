//! Imports in the store: committing one, data first and marker second, and reading those that a pipeline names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use chrono::{DateTime, Utc};
use metad2a_database::tables::{DatasetRow, EvaluationRow, FeatureRow, LatencyRow};
use metad2a_database::{Commit, FileRef, Marker, Store, TableRow, random_id};
use metad2a_pipeline::imports::{Holds, IMPORT_KIND, ImportSummary, Imports, rows_for};
use metad2a_pipeline::planner::Existing;
use metad2a_pipeline::study::Study;

/// The imports that a pipeline names cannot be used as it says.
#[derive(Debug, thiserror::Error)]
#[error("the imports of pipeline `{pipeline}` have {} to mend:\n  {}", count(problems), problems.join("\n  "))]
pub(crate) struct Error {
    pub(crate) pipeline: String,
    pub(crate) problems: Vec<String>,
}

fn count(problems: &[String]) -> String {
    if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) }
}

/// A checked import whose data files are stored.
pub(crate) struct NewImport {
    pub(crate) id: String,
    pub(crate) summary: ImportSummary,
    pub(crate) files: Vec<FileRef>,
    pub(crate) started_at: DateTime<Utc>,
}

/// Writes the marker, unless somebody was first: then theirs.
pub(crate) async fn commit(store: &Store, import: NewImport) -> anyhow::Result<Commit> {
    let finished_at = metad2a_database::now();
    let took = finished_at - import.started_at;
    let marker = Marker {
        kind: IMPORT_KIND.to_owned(),
        id: import.id,
        execution_id: random_id(),
        worker: "metad2a import".to_owned(),
        attempt: 1,
        files: import.files,
        units: Vec::new(),
        device: String::new(),
        started_at: import.started_at,
        finished_at,
        seconds: took.num_milliseconds() as f64 / 1_000.0,
        summary: serde_json::to_value(&import.summary)?,
    };
    Ok(store.commit(&marker).await?)
}

/// What a marker of an import says.
pub(crate) fn summary_of(marker: &Marker) -> anyhow::Result<ImportSummary> {
    serde_json::from_value(marker.summary.clone())
        .with_context(|| format!("the marker of import `{}` has an unknown summary", marker.id))
}

/// All imports of a store.
pub(crate) async fn read(store: &Store) -> anyhow::Result<Imports> {
    let markers = store.markers(IMPORT_KIND).await?;
    markers.iter().map(|marker| Ok((marker.id.clone(), summary_of(marker)?))).collect()
}

/// What a pipeline's imports add to its snapshots.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Result files by table, but for `datasets`.
    pub(crate) files: BTreeMap<String, Vec<FileRef>>,
    /// Each dataset once, however many imports speak of it.
    pub(crate) datasets: Vec<DatasetRow>,
    /// Channels, cells per stage, picture size and classes of every imported network.
    pub(crate) shapes: BTreeSet<(u64, u64, u64, u64)>,
    pub(crate) evaluations: u64,
}

impl Named {
    /// How many rows of each table are imported.
    pub(crate) fn rows(&self) -> BTreeMap<String, u64> {
        let of_files = |files: &Vec<FileRef>| files.iter().filter_map(|file| file.rows).sum();
        let mut rows: BTreeMap<String, u64> =
            self.files.iter().map(|(table, files)| (table.clone(), of_files(files))).collect();
        rows.insert(DatasetRow::NAME.to_owned(), self.datasets.len() as u64);
        rows.retain(|_, rows| *rows > 0);
        rows
    }
}

/// Whether the imports that a study names are there and can be learnt from as it says, by their markers alone.
pub(crate) fn usable(study: &Study, existing: &Existing) -> Result<(), Error> {
    match rows_for(&study.specification, existing.imports(), &study.extractor) {
        Ok(_) => Ok(()),
        Err(problems) => Err(Error { pipeline: study.specification.name.clone(), problems }),
    }
}

/// Reads what the study's imports hold, and checks that it can stand beside its own rows: everything that is wrong at
/// once. A pipeline without imports costs nothing.
pub(crate) async fn named(store: &Store, study: &Study, existing: &Existing) -> anyhow::Result<Named> {
    let specification = &study.specification;
    let refuse =
        |problems: Vec<String>| anyhow::Error::from(Error { pipeline: specification.name.clone(), problems });
    usable(study, existing)?;
    let shared = sharing_features(&specification.imports, existing.imports());
    let mut named = Named::default();
    let (mut evaluations, mut latencies, mut features) = (Vec::new(), Vec::new(), Vec::new());
    let mut datasets = Vec::new();
    for id in &specification.imports {
        let marker = store.marker(IMPORT_KIND, id).await?;
        let marker =
            marker.with_context(|| format!("the marker of import `{id}` vanished from the store"))?;
        evaluations.push((id, rows::<EvaluationRow>(store, &marker).await?));
        latencies.push((id, rows::<LatencyRow>(store, &marker).await?));
        // Vectors are large, and read only where they could be of one picture.
        if shared.contains(id) {
            features.push((id, rows::<FeatureRow>(store, &marker).await?));
        }
        datasets.push((id, rows::<DatasetRow>(store, &marker).await?));
        for file in &marker.files {
            let kind = file.kind().unwrap_or_default().to_owned();
            if kind != DatasetRow::NAME {
                named.files.entry(kind).or_default().push(file.clone());
            }
        }
    }
    let mut problems = Vec::new();
    problems.extend(doubled(&evaluations));
    problems.extend(doubled(&latencies));
    problems.extend(doubled(&features));
    let own: Vec<&str> = study.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    named.datasets = merged(&datasets, &own, &mut problems);
    if !problems.is_empty() {
        return Err(refuse(problems));
    }
    let classes: HashMap<&str, i64> =
        named.datasets.iter().map(|row| (row.dataset_id.as_str(), row.classes)).collect();
    for row in evaluations.iter().flat_map(|(_, rows)| rows) {
        named.evaluations += 1;
        if let Some(classes) = classes.get(row.dataset_id.as_str()) {
            named.shapes.insert(shape(row.channels, row.cells_per_stage, row.image_size, *classes));
        }
    }
    for row in latencies.iter().flat_map(|(_, rows)| rows) {
        named.shapes.insert(shape(row.channels, row.cells_per_stage, row.image_size, row.classes));
    }
    Ok(named)
}

fn shape(channels: i64, cells_per_stage: i64, image_size: i64, classes: i64) -> (u64, u64, u64, u64) {
    (channels as u64, cells_per_stage as u64, image_size as u64, classes as u64)
}

/// Those that hold features of a class source and an extractor of which another one holds features too.
fn sharing_features<'a>(named: &'a [String], imports: &Imports) -> BTreeSet<&'a String> {
    let mut holders: BTreeMap<(&str, String), Vec<&String>> = BTreeMap::new();
    for id in named {
        if let Some(Holds::Features { class_source, extractor, .. }) =
            imports.get(id).map(|import| &import.holds)
        {
            holders.entry((class_source, extractor.name())).or_default().push(id);
        }
    }
    holders.into_values().filter(|ids| ids.len() > 1).flatten().collect()
}

async fn rows<T: TableRow>(store: &Store, marker: &Marker) -> anyhow::Result<Vec<T>> {
    let files: Vec<FileRef> = marker.files_of(T::NAME).cloned().collect();
    Ok(store.read_files(&files).await?)
}

/// Rows of one key in two imports: nothing says which is right. One line for each pair of imports.
fn doubled<T: TableRow>(imports: &[(&String, Vec<T>)]) -> Vec<String> {
    let mut holders: HashMap<String, &String> = HashMap::new();
    let mut pairs: BTreeMap<(&String, &String), (u64, String)> = BTreeMap::new();
    for (id, rows) in imports {
        for row in rows {
            let key = row.key();
            match holders.get(&key) {
                Some(first) => pairs.entry((first, id)).or_insert((0, key)).0 += 1,
                None => drop(holders.insert(key, id)),
            }
        }
    }
    let line = |((first, second), (count, key)): (_, _)| {
        let table = T::NAME;
        format!(
            "imports `{first}` and `{second}` both have {count} rows of `{table}`, such as `{key}`; list one of them"
        )
    };
    pairs.into_iter().map(line).collect()
}

/// Every dataset once. A name stands for one dataset, and for none of the pipeline's own.
fn merged(
    imports: &[(&String, Vec<DatasetRow>)],
    own: &[&str],
    problems: &mut Vec<String>,
) -> Vec<DatasetRow> {
    let mut by_id: BTreeMap<&str, &DatasetRow> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, (&str, &String)> = BTreeMap::new();
    for (id, rows) in imports {
        for row in rows {
            by_id.entry(&row.dataset_id).or_insert(row);
            let (dataset, first) = by_name.entry(&row.name).or_insert((&row.dataset_id, id));
            if *dataset != row.dataset_id {
                problems.push(format!(
                    "imports `{first}` and `{id}` define dataset `{}` differently; give both the same definition",
                    row.name
                ));
            }
        }
    }
    for (name, (_, id)) in by_name.iter().filter(|(name, _)| own.contains(name)) {
        problems.push(format!(
            "import `{id}` has a dataset `{name}`, which is the name of one of the pipeline's own; rename one of them"
        ));
    }
    by_id.into_values().cloned().collect()
}

#[cfg(test)]
mod tests {
    use metad2a_pipeline::tasks::{Extractor, ExtractorKind};

    use super::*;

    fn dataset(name: &str, id: &str) -> DatasetRow {
        DatasetRow { dataset_id: id.to_owned(), name: name.to_owned(), ..DatasetRow::default() }
    }

    fn evaluation(unit: &str) -> EvaluationRow {
        EvaluationRow { unit_id: unit.to_owned(), ..EvaluationRow::default() }
    }

    #[test]
    fn vectors_are_looked_at_only_where_two_imports_could_hold_one_picture() {
        let features = |class_source: &str, weights: &str| ImportSummary {
            origin: "a test".to_owned(),
            files: Vec::new(),
            declaration: serde_json::Value::Null,
            holds: Holds::Features {
                class_source: class_source.to_owned(),
                extractor: Extractor {
                    kind: ExtractorKind::Resnet18,
                    weights_sha256: weights.to_owned(),
                    image_size: 32,
                },
                classes: 1,
                rows: 1,
            },
        };
        let imports = [
            ("alone", features("birds", "w")),
            ("other-weights", features("fish", "v")),
            ("first", features("fish", "w")),
            ("second", features("fish", "w")),
        ];
        let imports: Imports = imports.map(|(id, import)| (id.to_owned(), import)).into();
        let named: Vec<String> = imports.keys().cloned().collect();
        let shared: Vec<&String> = sharing_features(&named, &imports).into_iter().collect();
        assert_eq!(shared, ["first", "second"]);
        assert_eq!(sharing_features(&named[..2], &imports).len(), 0);
    }

    #[test]
    fn a_training_in_two_imports_names_both() {
        let (first, second) = ("aa".to_owned(), "bb".to_owned());
        let imports = [
            (&first, vec![evaluation("u1"), evaluation("u2")]),
            (&second, vec![evaluation("u2"), evaluation("u3")]),
        ];
        assert_eq!(
            doubled(&imports),
            ["imports `aa` and `bb` both have 1 rows of `evaluations`, such as `u2`; list one of them"]
        );
        assert_eq!(doubled(&imports[..1]), Vec::<String>::new());
    }

    #[test]
    fn a_dataset_of_two_imports_is_published_once_and_a_name_means_one_dataset() {
        let (first, second) = ("aa".to_owned(), "bb".to_owned());
        let imports = [
            (&first, vec![dataset("cifar", "1"), dataset("tiny", "2")]),
            (&second, vec![dataset("cifar", "1"), dataset("tiny", "3")]),
        ];
        let mut problems = Vec::new();
        let rows = merged(&imports, &["cifar"], &mut problems);
        assert_eq!(rows.iter().map(|row| row.dataset_id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
        insta::assert_snapshot!(problems.join("\n"), @"
        imports `aa` and `bb` define dataset `tiny` differently; give both the same definition
        import `aa` has a dataset `cifar`, which is the name of one of the pipeline's own; rename one of them
        ");
    }
}
