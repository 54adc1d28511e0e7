//! Latencies of cells on devices, from CSV or Parquet.

use std::collections::BTreeMap;

use metad2a_database::tables::LatencyRow;
use serde::{Deserialize, Serialize};

use crate::cells::CellColumns;
use crate::declaration::{NetworkShape, check_name, check_origin};
use crate::evaluations::Stamp;
use crate::problems::{Error, Problems};
use crate::sheet::{Column, Sheet, SourceFile};

const DEVICE: [&str; 1] = ["device"];
const BATCH: [&str; 2] = ["batch_size", "batch"];
const MEDIAN: [&str; 3] = ["latency_milliseconds", "latency_ms", "median_ms"];
const P95: [&str; 3] = ["latency_p95_milliseconds", "latency_p95_ms", "p95_ms"];
/// More is damage.
const MOST_PICTURES: i64 = 1_000_000;

/// What a person says about a file of latencies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatenciesDeclaration {
    /// Where the file comes from.
    pub origin: String,
    /// How it was measured: runtime, precision, threads.
    pub protocol: String,
    /// Of every row, where the file has no column `device`.
    pub device: Option<String>,
    /// Pictures in one forward pass of every row, where the file has no column `batch_size`.
    pub batch_size: Option<u32>,
    /// The column that is read, of a table with one for each device; one of the known names where absent.
    pub column: Option<String>,
    pub shape: NetworkShape,
    /// Height and width of the pictures, in pixels.
    pub image_size: u32,
    /// Outputs of the network.
    pub classes: u32,
}

/// What became of a file of latencies.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedLatencies {
    pub latencies: Vec<LatencyRow>,
    /// Columns that nobody read.
    pub ignored: Vec<String>,
}

/// Reads and checks a file of latencies.
pub fn latencies(
    file: &SourceFile,
    declared: &LatenciesDeclaration,
    stamp: &Stamp,
    max_problems: usize,
) -> Result<ImportedLatencies, Error> {
    check_origin(&declared.origin)?;
    check_name("--protocol", &declared.protocol)?;
    if let Some(rule) = declared.device.as_deref().and_then(|name| device_rule(name).err()) {
        return Err(Error::Declaration { flag: "--device", rule: rule.to_owned() });
    }
    let mut problems = Problems::new(max_problems);
    let mut imported = ImportedLatencies { latencies: Vec::new(), ignored: Vec::new() };
    if let Some(sheet) = Sheet::read(file, &mut problems) {
        read(&sheet, file, declared, stamp, &mut imported, &mut problems);
    }
    problems.settle(imported)
}

fn read(
    sheet: &Sheet,
    file: &SourceFile,
    declared: &LatenciesDeclaration,
    stamp: &Stamp,
    imported: &mut ImportedLatencies,
    problems: &mut Problems,
) {
    let cells = CellColumns::of(sheet, &file.name, problems);
    let device = sheet.optional(&DEVICE, problems);
    let batch = sheet.optional(&BATCH, problems);
    let median = match &declared.column {
        Some(name) => sheet.required(&[name], problems),
        None => sheet.required(&MEDIAN, problems),
    };
    // Beside a column of one device, it could be another device's.
    let p95 = if declared.column.is_some() { None } else { sheet.optional(&P95, problems) };
    sheet.either_or(&DEVICE, "--device", declared.device.is_some(), problems);
    sheet.either_or(&BATCH, "--batch-size", declared.batch_size.is_some(), problems);
    let Some(median) = median else { return };
    let read: Vec<&str> = cells
        .names()
        .chain(
            [device.as_ref(), batch.as_ref(), Some(&median), p95.as_ref()]
                .into_iter()
                .flatten()
                .map(Column::name),
        )
        .collect();
    imported.ignored = sheet.names().iter().filter(|name| !read.contains(&name.as_str())).cloned().collect();
    let mut first_row: BTreeMap<(String, i64, u16), usize> = BTreeMap::new();
    for row in sheet.whole_rows() {
        let cell = cells.cell(row, problems);
        let name = match &device {
            Some(column) => device_name(column, row, problems),
            None => declared.device.as_deref(),
        };
        let pictures = match &batch {
            Some(column) => column.integer(row, 1, MOST_PICTURES, problems),
            None => declared.batch_size.map(i64::from),
        };
        let milliseconds = milliseconds(&median, row, problems);
        let slow = match &p95 {
            Some(column) if !column.is_null(row) => match self::milliseconds(column, row, problems) {
                Some(slow) if milliseconds.is_some_and(|median| slow < median) => {
                    column.problem(row, format!("is {slow}, less than the median of the row"), problems);
                    None
                }
                other => other,
            },
            _ => None,
        };
        let (Some(cell), Some(name), Some(pictures), Some(milliseconds)) =
            (cell, name, pictures, milliseconds)
        else {
            continue;
        };
        if let Some(first) = first_row.insert((name.to_owned(), pictures, cell.index().get()), row) {
            let rule = format!("has another latency of the cell, device and batch size of row {}", first + 1);
            problems.of_row(&file.name, row, rule);
        }
        imported.latencies.push(LatencyRow {
            arch_index: cell.index().into(),
            cell: cell.to_string(),
            device: name.to_owned(),
            batch_size: pictures,
            protocol: declared.protocol.clone(),
            latency_milliseconds: milliseconds,
            latency_p95_milliseconds: slow,
            channels: declared.shape.channels.into(),
            cells_per_stage: declared.shape.cells_per_stage.into(),
            image_size: declared.image_size.into(),
            classes: declared.classes.into(),
            provenance: format!("{}: {}, row {}", declared.origin, file.name, row + 1),
            task_id: stamp.import.clone(),
            imported_at: stamp.at,
        });
    }
    if sheet.rows() == 0 {
        problems.of_file(&file.name, "has no rows to import");
    }
}

fn device_name<'a>(column: &'a Column<'_>, row: usize, problems: &mut Problems) -> Option<&'a str> {
    let name = column.text(row, problems)?;
    device_rule(name).map_err(|rule| column.problem(row, rule, problems)).ok()?;
    Some(name)
}

fn device_rule(name: &str) -> Result<(), &'static str> {
    if name.trim() == name && (1..=100).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err("must have 1 to 100 characters and no spaces around it")
}

fn milliseconds(column: &Column<'_>, row: usize, problems: &mut Problems) -> Option<f64> {
    let number = column.number(row, problems)?;
    if number >= 0.0 {
        return Some(number);
    }
    column.problem(row, format!("is {number}, must be at least 0"), problems);
    None
}
