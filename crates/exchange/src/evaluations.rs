//! Accuracies of trained cells from outside: NATS-Bench-style tables and rows of `MetaD2A` tasks.
//!
//! A training may stand in several rows, one for each split that it was measured on: they become one row of
//! `evaluations`. Two figures of one split for one training are refused, since nothing says which is right.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use metad2a_database::tables::{DatasetRow, EvaluationRow};
use metad2a_pipeline::ids::content_id;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};

use crate::cells::CellColumns;
use crate::datasets::{TaskClasses, dataset_row, read_definitions, read_task_classes, task_definition};
use crate::declaration::{AccuracyUnit, Protocol, RowRange, Split, check_name, check_origin};
use crate::problems::{Error, Problems};
use crate::sheet::{Column, Sheet, SourceFile};

const ACCURACY: [&str; 2] = ["accuracy", "acc"];
const EPOCHS: [&str; 1] = ["epochs"];
const SPLIT: [&str; 1] = ["split"];
const SEED: [&str; 1] = ["seed"];
const DATASET: [&str; 1] = ["dataset"];
const TASK: [&str; 1] = ["task"];
/// Seed of a row that tells none.
const NO_SEED: i64 = -1;
/// More is damage.
const MOST_EPOCHS: i64 = 100_000;

/// What a person says about a file of accuracies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluationsDeclaration {
    /// Where the file comes from.
    pub origin: String,
    pub accuracy_unit: AccuracyUnit,
    pub protocol: Protocol,
    /// Of every row, where the file has no column `epochs`.
    pub epochs: Option<u32>,
    /// Of every row, where the file has no column `split`.
    pub split: Option<Split>,
    /// Only these rows; all where absent.
    pub rows: Option<RowRange>,
    /// Of rows that name tasks in place of datasets.
    pub tasks: Option<TaskClasses>,
}

/// What became of a file of accuracies.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedEvaluations {
    pub evaluations: Vec<EvaluationRow>,
    /// Exactly the datasets that a row speaks of.
    pub datasets: Vec<DatasetRow>,
    /// Columns that nobody read.
    pub ignored: Vec<String>,
}

/// What is written into every row.
#[derive(Debug, Clone)]
pub struct Stamp {
    pub import: String,
    pub at: DateTime<Utc>,
}

/// Reads and checks a file of accuracies with the file that defines its datasets or tasks.
pub fn evaluations(
    file: &SourceFile,
    definitions: &SourceFile,
    declared: &EvaluationsDeclaration,
    stamp: &Stamp,
    max_problems: usize,
) -> Result<ImportedEvaluations, Error> {
    declared.protocol.validate()?;
    check_origin(&declared.origin)?;
    if let Some(tasks) = &declared.tasks {
        check_name("--class-source", &tasks.class_source)?;
    }
    let mut problems = Problems::new(max_problems);
    let datasets = Datasets::read(definitions, declared, &mut problems);
    let sheet = Sheet::read(file, &mut problems);
    let (Some(datasets), Some(sheet)) = (datasets, sheet) else {
        return Err(problems.into_error());
    };
    let Some(columns) = Columns::of(&sheet, file, declared, &mut problems) else {
        return Err(problems.into_error());
    };
    let trainings = trainings(&sheet, file, &columns, declared, &datasets, &mut problems);
    let read = columns.names();
    let ignored = sheet.names().iter().filter(|name| !read.contains(&name.as_str())).cloned().collect();
    let (rows, datasets) = trainings.into_rows(file, declared, stamp);
    problems.settle(ImportedEvaluations { evaluations: rows, datasets, ignored })
}

/// The datasets that rows may name.
enum Datasets {
    Named(BTreeMap<String, DatasetRow>),
    Tasks { classes: TaskClasses, labels: Vec<Vec<u32>>, provenance: String },
}

impl Datasets {
    fn read(file: &SourceFile, declared: &EvaluationsDeclaration, problems: &mut Problems) -> Option<Self> {
        let provenance = format!("{}: {}", declared.origin, file.name);
        if let Some(classes) = &declared.tasks {
            let labels = read_task_classes(file, problems)?;
            return Some(Self::Tasks { classes: classes.clone(), labels, provenance });
        }
        let mut rows = BTreeMap::new();
        for (name, definition) in read_definitions(file, problems)? {
            match dataset_row(&name, &definition, provenance.clone()) {
                Ok(row) => drop(rows.insert(name, row)),
                Err(rule) => problems.of_file(&file.name, rule),
            }
        }
        Some(Self::Named(rows))
    }

    /// The dataset of a row, counted from 0.
    fn find(&self, column: &Column<'_>, row: usize, problems: &mut Problems) -> Option<DatasetRow> {
        match self {
            Self::Named(rows) => {
                let name = column.text(row, problems)?;
                if let Some(found) = rows.get(name) {
                    return Some(found.clone());
                }
                let known = rows.keys().map(String::as_str).collect::<Vec<_>>().join("`, `");
                let rule = format!("`{name}` is not defined; the file of `--datasets` defines `{known}`");
                column.problem(row, rule, problems);
                None
            }
            Self::Tasks { classes, labels, provenance } => {
                let most = labels.len() as i64 - 1;
                let task = column.integer(row, 0, most, problems)? as usize;
                let name = classes.name(task);
                dataset_row(&name, &task_definition(classes, &labels[task]), provenance.clone())
                    .map_err(|rule| column.problem(row, rule, problems))
                    .ok()
            }
        }
    }
}

/// The columns that are read.
struct Columns<'a> {
    cells: CellColumns<'a>,
    dataset: Column<'a>,
    accuracy: Column<'a>,
    epochs: Option<Column<'a>>,
    split: Option<Column<'a>>,
    seed: Option<Column<'a>>,
}

impl<'a> Columns<'a> {
    fn of(
        sheet: &'a Sheet,
        file: &SourceFile,
        declared: &EvaluationsDeclaration,
        problems: &mut Problems,
    ) -> Option<Self> {
        let names = if declared.tasks.is_some() { &TASK } else { &DATASET };
        let cells = CellColumns::of(sheet, &file.name, problems);
        let dataset = sheet.required(names, problems);
        let accuracy = sheet.required(&ACCURACY, problems);
        let epochs = sheet.optional(&EPOCHS, problems);
        // In rows of MetaD2A tasks `split` tells the authors' training and validation tasks, not pictures.
        let splits: &[&str] = if declared.tasks.is_some() { &[] } else { &SPLIT };
        let split = sheet.optional(splits, problems);
        sheet.either_or(&EPOCHS, "--epochs", declared.epochs.is_some(), problems);
        sheet.either_or(splits, "--split", declared.split.is_some(), problems);
        let seed = sheet.optional(&SEED, problems);
        Some(Self { cells, dataset: dataset?, accuracy: accuracy?, epochs, split, seed })
    }

    fn names(&self) -> Vec<&str> {
        let others = [
            Some(&self.dataset),
            Some(&self.accuracy),
            self.epochs.as_ref(),
            self.split.as_ref(),
            self.seed.as_ref(),
        ];
        self.cells.names().chain(others.into_iter().flatten().map(Column::name)).collect()
    }
}

/// Dataset id, cell's number, epochs, seed.
type TrainingKey = (String, u16, i64, i64);

/// One training and where its figures stand.
struct Training {
    cell: Cell,
    /// By split: accuracy in [0, 1] and row, from 1.
    figures: BTreeMap<Split, (f64, u64)>,
}

#[derive(Default)]
struct Trainings {
    by_key: BTreeMap<TrainingKey, Training>,
    datasets: BTreeMap<String, DatasetRow>,
}

fn trainings(
    sheet: &Sheet,
    file: &SourceFile,
    columns: &Columns<'_>,
    declared: &EvaluationsDeclaration,
    datasets: &Datasets,
    problems: &mut Problems,
) -> Trainings {
    let mut all = Trainings::default();
    let mut highest: f64 = 0.0;
    let mut rows = 0;
    let wanted = |row: &usize| declared.rows.is_none_or(|range| range.holds(*row));
    for row in sheet.whole_rows().filter(wanted) {
        rows += 1;
        // All of them first: one row may have several problems.
        let cell = columns.cells.cell(row, problems);
        let dataset = datasets.find(&columns.dataset, row, problems);
        let accuracy = accuracy(&columns.accuracy, row, declared.accuracy_unit, problems);
        let epochs = match &columns.epochs {
            Some(column) => column.integer(row, 1, MOST_EPOCHS, problems),
            None => declared.epochs.map(i64::from),
        };
        let split = match &columns.split {
            Some(column) => split(column, row, problems),
            None => declared.split,
        };
        let seed = match &columns.seed {
            Some(column) if !column.is_null(row) => column.integer(row, NO_SEED, i64::MAX, problems),
            _ => Some(NO_SEED),
        };
        highest = highest.max(accuracy.unwrap_or_default());
        let (Some(cell), Some(dataset), Some(accuracy), Some(epochs), Some(split), Some(seed)) =
            (cell, dataset, accuracy, epochs, split, seed)
        else {
            continue;
        };
        let key = (dataset.dataset_id.clone(), cell.index().get(), epochs, seed);
        let training = all.by_key.entry(key).or_insert_with(|| Training { cell, figures: BTreeMap::new() });
        if let Some((_, first)) = training.figures.get(&split) {
            let rule = format!("has another {} accuracy of the training of row {first}", split.name());
            problems.of_row(&file.name, row, rule);
        } else {
            training.figures.insert(split, (accuracy, row as u64 + 1));
        }
        all.datasets.entry(dataset.dataset_id.clone()).or_insert(dataset);
    }
    if rows == 0 {
        problems.of_file(&file.name, "has no rows to import");
    } else if problems.is_empty() && declared.accuracy_unit == AccuracyUnit::Percent && highest <= 0.01 {
        let rule =
            "has no accuracy above 1 %, so its unit is hardly percent; is it `--accuracy-unit fraction`?";
        problems.of_file(&file.name, rule);
    }
    all
}

/// An accuracy in [0, 1].
fn accuracy(column: &Column<'_>, row: usize, unit: AccuracyUnit, problems: &mut Problems) -> Option<f64> {
    let number = column.number(row, problems)?;
    let (most, hint) = match unit {
        AccuracyUnit::Fraction => (1.0, "; for percent say `--accuracy-unit percent`"),
        AccuracyUnit::Percent => (100.0, ""),
    };
    if !(0.0..=most).contains(&number) {
        column.problem(row, format!("is {number}, must lie in 0 to {most}{hint}"), problems);
        return None;
    }
    Some(if unit == AccuracyUnit::Percent { number / 100.0 } else { number })
}

fn split(column: &Column<'_>, row: usize, problems: &mut Problems) -> Option<Split> {
    let text = column.text(row, problems)?;
    let found = Split::ALL.into_iter().find(|split| split.name() == text);
    if found.is_none() {
        column.problem(row, format!("must be `train`, `valid` or `test`, got `{text}`"), problems);
    }
    found
}

impl Trainings {
    fn into_rows(
        self,
        file: &SourceFile,
        declared: &EvaluationsDeclaration,
        stamp: &Stamp,
    ) -> (Vec<EvaluationRow>, Vec<DatasetRow>) {
        let protocol = &declared.protocol;
        let mut rows = Vec::with_capacity(self.by_key.len());
        for ((dataset_id, arch_index, epochs, seed), training) in self.by_key {
            let dataset = &self.datasets[&dataset_id];
            let name = protocol.with_epochs(epochs);
            let image_size = dataset.image_size as u32;
            let (params, flops) = protocol.shape.costs(training.cell, image_size, dataset.classes as u64);
            let of = |split| training.figures.get(&split).map(|(accuracy, _)| *accuracy);
            let places: Vec<String> = training.figures.values().map(|(_, row)| row.to_string()).collect();
            let word = if places.len() == 1 { "row" } else { "rows" };
            rows.push(EvaluationRow {
                unit_id: content_id("imported-unit", 1, &(&dataset_id, arch_index, &name, seed)),
                dataset_id,
                arch_index: arch_index.into(),
                cell: training.cell.to_string(),
                seed,
                recipe_id: protocol.recipe_id(epochs, image_size),
                epochs,
                batch_size: protocol.batch_size.into(),
                learning_rate: protocol.learning_rate,
                channels: protocol.shape.channels.into(),
                cells_per_stage: protocol.shape.cells_per_stage.into(),
                image_size: image_size.into(),
                status: "completed".to_owned(),
                epochs_done: epochs,
                train_accuracy: of(Split::Train),
                valid_accuracy: of(Split::Valid),
                test_accuracy: of(Split::Test),
                params,
                flops,
                code_version: "imported".to_owned(),
                task_id: stamp.import.clone(),
                finished_at: stamp.at,
                protocol: Some(name),
                provenance: Some(format!("{}: {}, {word} {}", declared.origin, file.name, places.join(", "))),
                ..EvaluationRow::default()
            });
        }
        (rows, self.datasets.into_values().collect())
    }
}
