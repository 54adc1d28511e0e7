//! Parquet files as Hugging Face writes image datasets: `image: {bytes, path}` and `label`, names in the footer.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, BinaryArray, LargeBinaryArray, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use serde_json::Value;

use crate::source::{Labels, SourceFile};
use crate::{Error, Picture, Result};

/// Larger labels are damage: no source has so many classes.
const MOST_CLASSES: i64 = 1_000_000;

pub(crate) fn labels(file: &SourceFile) -> Result<Labels> {
    let opened = open(file)?;
    let names = names(&opened);
    let classes = names.as_ref().map_or(MOST_CLASSES, |names| names.len() as i64);
    let mut labels = Vec::new();
    for batch in reader(file, opened, &["label"])? {
        let batch = batch.map_err(|error| damaged(file, &error))?;
        labels.extend(label_column(file, &batch, classes, labels.len())?);
    }
    Ok(Labels { labels, names })
}

pub(crate) fn pictures(file: &SourceFile, wanted: &BTreeSet<u32>) -> Result<Vec<(u32, Picture)>> {
    let opened = open(file)?;
    let classes = names(&opened).map_or(MOST_CLASSES, |names| names.len() as i64);
    let mut found = Vec::new();
    let mut row = 0;
    for batch in reader(file, opened, &["label", "image"])? {
        let batch = batch.map_err(|error| damaged(file, &error))?;
        let labels = label_column(file, &batch, classes, row)?;
        let images = image_bytes(file, &batch)?;
        for (position, label) in labels.iter().enumerate() {
            if wanted.contains(label) {
                let place = format!("row {}", row + position);
                let picture = Picture::decode(images.get(position).unwrap_or_default(), &file.name, &place)?;
                found.push((*label, picture));
            }
        }
        row += labels.len();
    }
    Ok(found)
}

type Opened = ParquetRecordBatchReaderBuilder<bytes::Bytes>;

fn damaged(file: &SourceFile, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(&file.name, "the file", format!("not a readable Parquet file: {error}"))
}

fn open(file: &SourceFile) -> Result<Opened> {
    ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).map_err(|error| damaged(file, &error))
}

/// Only the wanted columns are read, but both must be there.
fn reader(file: &SourceFile, opened: Opened, columns: &[&str]) -> Result<ParquetRecordBatchReader> {
    for column in ["label", "image"] {
        if opened.schema().field_with_name(column).is_err() {
            let known: Vec<&str> =
                opened.schema().fields().iter().map(|field| field.name().as_str()).collect();
            let rule = format!("column `{column}` is missing; it has `{}`", known.join("`, `"));
            return Err(Error::invalid(&file.name, "the schema", rule));
        }
    }
    let roots: Vec<usize> = opened
        .parquet_schema()
        .root_schema()
        .get_fields()
        .iter()
        .enumerate()
        .filter(|(_, field)| columns.contains(&field.name()))
        .map(|(position, _)| position)
        .collect();
    let mask = ProjectionMask::roots(opened.parquet_schema(), roots);
    opened.with_projection(mask).build().map_err(|error| damaged(file, &error))
}

/// Names of classes from the `huggingface` entry of the footer.
fn names(opened: &Opened) -> Option<Vec<String>> {
    let entries = opened.metadata().file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == "huggingface")?.value.as_deref()?;
    let value: Value = serde_json::from_str(text).ok()?;
    let names = value.pointer("/info/features/label/names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn label_column(file: &SourceFile, batch: &RecordBatch, classes: i64, first_row: usize) -> Result<Vec<u32>> {
    let column = batch.column_by_name("label").expect("the projection holds it");
    let Some(values) = whole_numbers(column) else {
        let rule = format!("column `label` must hold whole numbers, it holds {}", column.data_type());
        return Err(Error::invalid(&file.name, "the schema", rule));
    };
    let mut labels = Vec::with_capacity(values.len());
    for (position, value) in values.into_iter().enumerate() {
        let Some(label) = value.filter(|label| (0..classes).contains(label)) else {
            let found = value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            let rule = format!("label {found} is not a whole number from 0 to {}", classes - 1);
            return Err(Error::invalid(&file.name, format!("row {}", first_row + position), rule));
        };
        labels.push(label as u32);
    }
    Ok(labels)
}

fn whole_numbers(column: &ArrayRef) -> Option<Vec<Option<i64>>> {
    macro_rules! numbers {
        ($kind:ty) => {
            column
                .as_primitive::<$kind>()
                .iter()
                .map(|value| value.map(|value| i64::try_from(value).unwrap_or(-1)))
                .collect()
        };
    }
    Some(match column.data_type() {
        DataType::Int8 => numbers!(Int8Type),
        DataType::Int16 => numbers!(Int16Type),
        DataType::Int32 => numbers!(Int32Type),
        DataType::Int64 => numbers!(Int64Type),
        DataType::UInt8 => numbers!(UInt8Type),
        DataType::UInt16 => numbers!(UInt16Type),
        DataType::UInt32 => numbers!(UInt32Type),
        DataType::UInt64 => numbers!(UInt64Type),
        _ => return None,
    })
}

/// The `bytes` of column `image`, which may be a struct or plain bytes.
enum ImageBytes {
    Small(BinaryArray),
    Large(LargeBinaryArray),
}

impl ImageBytes {
    /// None where the value is null.
    fn get(&self, position: usize) -> Option<&[u8]> {
        match self {
            Self::Small(array) => array.is_valid(position).then(|| array.value(position)),
            Self::Large(array) => array.is_valid(position).then(|| array.value(position)),
        }
    }
}

fn image_bytes(file: &SourceFile, batch: &RecordBatch) -> Result<ImageBytes> {
    let column = batch.column_by_name("image").expect("the projection holds it");
    let column = match column.as_struct_opt() {
        Some(fields) => fields.column_by_name("bytes").cloned(),
        None => Some(column.clone()),
    };
    let bytes = column.and_then(|column| match column.data_type() {
        DataType::Binary => Some(ImageBytes::Small(column.as_binary::<i32>().clone())),
        DataType::LargeBinary => Some(ImageBytes::Large(column.as_binary::<i64>().clone())),
        _ => None,
    });
    bytes.ok_or_else(|| {
        let rule = "column `image` must be bytes, or a struct with a field `bytes`".to_owned();
        Error::invalid(&file.name, "the schema", rule)
    })
}
