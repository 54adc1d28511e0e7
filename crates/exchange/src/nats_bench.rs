//! One row a cell, in the order of NATS-Bench: what a snapshot knows of all 15,625 cells on every dataset.
//!
//! A column is `<dataset>/<protocol>/<split>_accuracy`, in [0, 1]: the mean over seeds, null where nothing is known. Our
//! own trainings stand beside every cell that computes the function of the trained one, imported figures beside their
//! own cell only. Protocols never share a column. Columns without any figure are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use metad2a_database::tables::{DatasetRow, EvaluationRow, STOPPED};
use metad2a_search_space::{ArchIndex, CELL_COUNT, Cell};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::declaration::Split;
use crate::problems::Error;

/// More columns are of no use to anybody.
const MOST_COLUMNS: usize = 4_000;
/// Bounds the memory of the Arrow form while encoding: thousands of columns are nearly empty.
const ROWS_PER_BATCH: usize = 1_024;

/// A table of all cells. Most columns know few of them.
#[derive(Debug, Clone, PartialEq)]
pub struct CellTable {
    /// By name; what is known, by the cell's number.
    pub columns: BTreeMap<String, BTreeMap<u16, f64>>,
}

/// Gathers the figures of the named datasets, of all where none is named.
pub fn cell_table(
    datasets: &[DatasetRow],
    evaluations: &[EvaluationRow],
    wanted: &[String],
) -> Result<CellTable, Error> {
    if let Some(unknown) = wanted.iter().find(|name| !datasets.iter().any(|row| row.name == **name)) {
        let mut known: Vec<&str> = datasets.iter().map(|row| row.name.as_str()).take(20).collect();
        known.sort_unstable();
        let rule = format!("`{unknown}` is no dataset of the snapshot; it has `{}`", known.join("`, `"));
        return Err(Error::Declaration { flag: "--dataset", rule });
    }
    let names: BTreeMap<&str, &str> = datasets
        .iter()
        .filter(|row| wanted.is_empty() || wanted.contains(&row.name))
        .map(|row| (row.dataset_id.as_str(), row.name.as_str()))
        .collect();
    let members = members();
    let mut sums: BTreeMap<String, BTreeMap<u16, (f64, u32)>> = BTreeMap::new();
    for row in evaluations {
        let Some(dataset) = names.get(row.dataset_id.as_str()) else { continue };
        let cell = row
            .cell
            .parse::<Cell>()
            .map_err(|error| Error::Export(format!("unit `{}`: {error}", row.unit_id)))?;
        let own = [cell.index()];
        let shown = match &row.protocol {
            Some(_) => own.as_slice(),
            None => members[usize::from(cell.representative().index())].as_slice(),
        };
        for (split, accuracy) in figures(row) {
            let name = format!("{dataset}/{}/{}_accuracy", protocol(row), split.name());
            let is_new = !sums.contains_key(&name);
            if is_new && sums.len() == MOST_COLUMNS {
                let rule = format!(
                    "must name fewer datasets: the table would have more than {MOST_COLUMNS} columns"
                );
                return Err(Error::Declaration { flag: "--dataset", rule });
            }
            let column = sums.entry(name).or_default();
            for index in shown {
                let (sum, count) = column.entry(index.get()).or_default();
                *sum += accuracy;
                *count += 1;
            }
        }
    }
    let mean = |(index, (sum, count)): (u16, (f64, u32))| (index, sum / f64::from(count));
    let columns = sums.into_iter().map(|(name, sums)| (name, sums.into_iter().map(mean).collect())).collect();
    Ok(CellTable { columns })
}

/// None of a training that was stopped early: its protocol's figures are those after all epochs.
fn figures(row: &EvaluationRow) -> impl Iterator<Item = (Split, f64)> {
    let all = [
        (Split::Train, row.train_accuracy),
        (Split::Valid, row.valid_accuracy),
        (Split::Test, row.test_accuracy),
    ];
    let is_whole = row.status != STOPPED;
    all.into_iter().filter_map(move |(split, accuracy)| Some((split, accuracy.filter(|_| is_whole)?)))
}

/// Of our own trainings, the recipe's id and epochs.
fn protocol(row: &EvaluationRow) -> String {
    row.protocol.clone().unwrap_or_else(|| {
        let recipe: String = row.recipe_id.chars().take(12).collect();
        format!("recipe-{recipe}@{}", row.epochs)
    })
}

/// The cells of each class, by the number of the class's representative.
fn members() -> Vec<Vec<ArchIndex>> {
    let mut members = vec![Vec::new(); CELL_COUNT];
    for index in ArchIndex::all() {
        members[usize::from(index.cell().representative().index())].push(index);
    }
    members
}

impl CellTable {
    /// As CSV: an empty field where nothing is known.
    pub fn to_csv(&self) -> Result<Vec<u8>, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Export(format!("the table cannot be written as CSV: {error}"))
        };
        let mut writer = csv::Writer::from_writer(Vec::new());
        let heading = ["arch_index", "arch"].into_iter().chain(self.columns.keys().map(String::as_str));
        writer.write_record(heading).map_err(|error| failed(&error))?;
        for index in ArchIndex::all() {
            let figures = self
                .columns
                .values()
                .map(|column| column.get(&index.get()).map_or_else(String::new, ToString::to_string));
            let record = [index.to_string(), index.cell().to_string()].into_iter().chain(figures);
            writer.write_record(record).map_err(|error| failed(&error))?;
        }
        writer.into_inner().map_err(|error| failed(&error))
    }

    /// As Parquet with Zstandard.
    pub fn to_parquet(&self) -> Result<Vec<u8>, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::Export(format!("the table cannot be written as Parquet: {error}"))
        };
        let level = ZstdLevel::try_new(3).map_err(|error| failed(&error))?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let mut file = Vec::new();
        let schema = self.batch(&[]).map_err(|error| failed(&error))?.schema();
        let mut writer =
            ArrowWriter::try_new(&mut file, schema, Some(properties)).map_err(|error| failed(&error))?;
        let indices: Vec<ArchIndex> = ArchIndex::all().collect();
        for some in indices.chunks(ROWS_PER_BATCH) {
            let batch = self.batch(some).map_err(|error| failed(&error))?;
            writer.write(&batch).map_err(|error| failed(&error))?;
        }
        writer.close().map_err(|error| failed(&error))?;
        Ok(file)
    }

    /// The rows of these cells.
    fn batch(&self, indices: &[ArchIndex]) -> Result<RecordBatch, ArrowError> {
        let numbers = Int64Array::from_iter_values(indices.iter().map(|index| i64::from(*index)));
        let cells = StringArray::from_iter_values(indices.iter().map(|index| index.cell().to_string()));
        let mut columns: Vec<(&str, ArrayRef, bool)> =
            vec![("arch_index", Arc::new(numbers), false), ("arch", Arc::new(cells), false)];
        for (name, known) in &self.columns {
            let values = indices.iter().map(|index| known.get(&index.get()).copied());
            columns.push((name, Arc::new(values.collect::<Float64Array>()), true));
        }
        RecordBatch::try_from_iter_with_nullable(columns)
    }
}
