//! From a frozen training set to what the models learn from: features and rows of its datasets.
//!
//! **Invariant:** labels come from validation accuracies and training losses. Test figures are never read here.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, bail};
use metad2a_database::FileRef;
use metad2a_database::tables::{COMPLETED, EvaluationRow, FeatureRow};
use metad2a_model::{DatasetFeatures, Row, TrainingSet};
use metad2a_pipeline::labels::{Label, Measured, labels};
use metad2a_pipeline::tasks::{Kind, Look};
use metad2a_pipeline::training_set::{FrozenSet, Group, TrainingDataset, TrainingSet as ChosenRows};
use metad2a_search_space::Cell;

use super::Engine;
use super::error::BadInput;

/// A training set, split by the role of its datasets.
pub(super) struct TrainingData {
    /// The models learn from these.
    pub(super) train: TrainingSet,
    /// Selection only.
    pub(super) valid: TrainingSet,
}

/// The last training set: rounds and shards share it.
#[derive(Default)]
pub(super) struct TrainingDataCache {
    last: Option<((String, Label), Rc<TrainingData>)>,
}

/// A class as an extractor saw it: content id of its source, look, and label.
pub(super) type SeenClass = (String, Look, i64);

/// Vectors of the pictures of one class.
pub(super) type ClassFeatures = Arc<Vec<Vec<f32>>>;

impl Engine {
    /// Reads the training set that was frozen under `id`, with labels of the wanted kind.
    pub(super) fn training_data(&mut self, id: &str, label: Label) -> anyhow::Result<Rc<TrainingData>> {
        let key = (id.to_owned(), label);
        if let Some((cached, data)) = &self.training_data.last
            && *cached == key
        {
            return Ok(data.clone());
        }
        self.training_data.last = None;
        let frozen = self.frozen_set(id)?;
        let features = self.features_of(frozen.datasets.iter().flat_map(|dataset| &dataset.features))?;
        let rows = self.rows_of(&frozen)?;
        let frozen_as = Frozen { id, set: &frozen, label };
        let mut train = assemble(&frozen_as, Group::MetaTrain, &features, &rows)?;
        for imported in &frozen.imported {
            self.add_imported(imported, label, &mut train)?.map_err(|rule| broken(id, rule))?;
        }
        let data =
            Rc::new(TrainingData { train, valid: assemble(&frozen_as, Group::MetaValid, &features, &rows)? });
        self.training_data.last = Some((key, data.clone()));
        Ok(data)
    }

    /// The first decision holds: the choice is frozen once, and later records under the id cannot change it.
    fn frozen_set(&self, id: &str) -> anyhow::Result<ChosenRows> {
        let decisions =
            self.runtime.block_on(self.store.decisions(id)).context("cannot read the frozen training set")?;
        let Some(first) = decisions.into_iter().find(|decision| decision.number == 0) else {
            bail!("training set `{id}` is not in the store: it is frozen as a decision before it is used");
        };
        let frozen: FrozenSet = serde_json::from_value(first.detail)
            .map_err(|error| broken(id, format!("its decision record cannot be read: {error}")))?;
        let parts = match frozen {
            FrozenSet::Stored { parts } => parts,
            FrozenSet::Whole(set) => return Ok(set),
        };
        let mut set = ChosenRows::default();
        for part in parts {
            let read = serde_json::from_slice(&self.blob(&part)?);
            set.append(read.map_err(|error| broken(id, format!("`{}` cannot be read: {error}", part.path)))?);
        }
        Ok(set)
    }

    /// The features of all classes that the `extract-features` tasks hold, by source, look and label.
    pub(super) fn features_of<'a>(
        &self,
        tasks: impl Iterator<Item = &'a String>,
    ) -> anyhow::Result<BTreeMap<SeenClass, ClassFeatures>> {
        let files = self.files_of(Kind::ExtractFeatures.name(), tasks, "features")?;
        self.features_in(&files)
    }

    /// The features of all classes in these files, by source, look and label.
    pub(super) fn features_in(
        &self,
        files: &[FileRef],
    ) -> anyhow::Result<BTreeMap<SeenClass, ClassFeatures>> {
        let rows: Vec<FeatureRow> =
            self.runtime.block_on(self.store.read_files(files)).context("cannot read features")?;
        let mut pictures: BTreeMap<SeenClass, BTreeMap<i64, Vec<f32>>> = BTreeMap::new();
        for row in rows {
            let look = Look {
                grey: row.grey.unwrap_or(false),
                resolution: row.resolution.and_then(|pixels| u32::try_from(pixels).ok()),
            };
            let class = (row.source_content_id, look, row.class_label);
            pictures.entry(class).or_default().insert(row.picture_index, row.vector);
        }
        Ok(pictures
            .into_iter()
            .map(|(class, pictures)| (class, Arc::new(pictures.into_values().collect())))
            .collect())
    }

    /// Rows of the listed units, by unit. Two bundles may hold one unit: the row of the smallest task id counts, as in
    /// what is published. Where bundles are halved it may have been stopped in one of them only.
    fn rows_of(&self, frozen: &ChosenRows) -> anyhow::Result<BTreeMap<String, EvaluationRow>> {
        let wanted: BTreeSet<&String> = frozen.datasets.iter().flat_map(|dataset| &dataset.units).collect();
        let files = self.files_of(Kind::Evaluate.name(), frozen.evaluations.iter(), "evaluations")?;
        let rows: Vec<EvaluationRow> =
            self.runtime.block_on(self.store.read_files(&files)).context("cannot read evaluations")?;
        let mut found = BTreeMap::new();
        for row in rows.into_iter().filter(|row| wanted.contains(&row.unit_id)) {
            found.entry(row.unit_id.clone()).or_insert(row);
        }
        Ok(found)
    }

    /// The files of one table that finished tasks or imports left behind.
    pub(super) fn files_of<'a>(
        &self,
        kind: &str,
        tasks: impl Iterator<Item = &'a String>,
        table: &str,
    ) -> anyhow::Result<Vec<FileRef>> {
        let tasks: BTreeSet<&String> = tasks.collect();
        self.runtime.block_on(async {
            let mut files = Vec::new();
            for task in tasks {
                let marker = self.store.marker(kind, task).await.context("cannot read a marker")?;
                let marker = marker.with_context(|| format!("task `{task}` of kind `{kind}` is not done"))?;
                files.extend(marker.files_of(table).cloned());
            }
            Ok(files)
        })
    }
}

/// The classes of a dataset in its own order.
pub(super) fn dataset_features(
    id: &str,
    (source, look): (&str, Look),
    classes: &[u32],
    features: &BTreeMap<SeenClass, ClassFeatures>,
) -> Result<DatasetFeatures, BadInput> {
    let classes = classes
        .iter()
        .map(|&class| {
            features
                .get(&(source.to_owned(), look, class.into()))
                .cloned()
                .ok_or_else(|| BadInput::NoFeatures { dataset: id.to_owned(), class })
        })
        .collect::<Result<_, _>>()?;
    Ok(DatasetFeatures { id: id.to_owned(), classes })
}

/// A frozen training set with its id, and the labels that are wanted of it.
struct Frozen<'a> {
    id: &'a str,
    set: &'a ChosenRows,
    label: Label,
}

/// The datasets of one group with their rows, in the order of the frozen record.
fn assemble(
    frozen: &Frozen<'_>,
    group: Group,
    features: &BTreeMap<SeenClass, ClassFeatures>,
    rows: &BTreeMap<String, EvaluationRow>,
) -> Result<TrainingSet, BadInput> {
    let mut set = TrainingSet { datasets: Vec::new(), rows: Vec::new() };
    for dataset in frozen.set.datasets.iter().filter(|dataset| dataset.group == group) {
        let drawn = &dataset.dataset;
        set.datasets.push(dataset_features(
            &dataset.id,
            (&drawn.source, drawn.look),
            &drawn.classes,
            features,
        )?);
        set.rows.extend(rows_of_dataset(frozen, set.datasets.len() - 1, dataset, rows)?);
    }
    if set.rows.is_empty() {
        return Err(broken(
            frozen.id,
            format!("its {} datasets have no completed row with a validation accuracy", group.name()),
        ));
    }
    Ok(set)
}

fn rows_of_dataset(
    frozen: &Frozen<'_>,
    position: usize,
    dataset: &TrainingDataset,
    rows: &BTreeMap<String, EvaluationRow>,
) -> Result<Vec<Row>, BadInput> {
    let id = frozen.id;
    let (mut cells, mut measured) = (Vec::new(), Vec::new());
    for unit in &dataset.units {
        let row = rows.get(unit).ok_or_else(|| {
            broken(id, format!("no listed bundle holds unit `{unit}` of dataset `{}`", dataset.id))
        })?;
        let cell: Cell =
            row.cell.parse().map_err(|error| broken(id, format!("unit `{unit}` names no cell: {error}")))?;
        // A network that diverged or failed has no accuracy to learn from. One that was stopped has that of fewer epochs,
        // which is no figure of the same thing.
        if let Some(valid_accuracy) = row.valid_accuracy.filter(|_| row.status == COMPLETED) {
            cells.push(cell);
            measured.push(Measured { valid_accuracy, fit_loss: row.fit_loss });
        }
    }
    let targets = labels(frozen.label, &measured);
    let found = cells.into_iter().zip(targets);
    Ok(found.map(|(cell, target)| Row { dataset: position, cell, target }).collect())
}

fn broken(id: &str, rule: String) -> BadInput {
    BadInput::TrainingSet { id: id.to_owned(), rule }
}
