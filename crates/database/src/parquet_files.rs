//! Parquet files of table rows: Zstandard, sorted, with statistics, the same bytes for the same rows.
//!
//! Each file describes itself: its columns' descriptions are field metadata of the Arrow schema and, for readers
//! that know no Arrow schema, JSON under the key `metad2a.columns` (in `DuckDB`: `parquet_kv_metadata`).

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::{Error, Result, Table, TableRow};

const TABLE_KEY: &str = "metad2a.table";
const VERSION_KEY: &str = "metad2a.schema_version";
const DESCRIPTION_KEY: &str = "metad2a.description";
const COLUMNS_KEY: &str = "metad2a.columns";

/// Bounds the memory of the Arrow form while encoding.
const ROWS_PER_BATCH: usize = 64 * 1024;
/// Large groups compress and scan best; the bytes bound what a reader of vectors must hold.
const ROW_GROUP_ROWS: usize = 1024 * 1024;
const ROW_GROUP_BYTES: usize = 128 * 1024 * 1024;
/// Measured by others as the usual optimum between size and speed.
const ZSTD_LEVEL: i32 = 3;

/// Encodes rows as one Parquet file, sorted in the table's order. Equal sets of rows give equal bytes.
pub fn encode<T: TableRow>(rows: &[T]) -> Result<Bytes> {
    if rows.is_sorted_by(|a, b| a.compare(b).is_le()) {
        return write(rows);
    }
    let mut sorted = rows.to_vec();
    sorted.sort_by(T::compare);
    write(&sorted)
}

fn write<T: TableRow>(rows: &[T]) -> Result<Bytes> {
    // What can fail here is a mistake in a table's definition, or memory.
    let failed = |error: &dyn std::fmt::Display| broken::<T>("(being written)", error.to_string());
    let schema = Arc::new(T::table().schema());
    let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(|error| failed(&error))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_created_by(format!("metad2a {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(description(T::table())))
        .build();
    let mut file = Vec::new();
    let mut writer =
        ArrowWriter::try_new(&mut file, schema.clone(), Some(properties)).map_err(|error| failed(&error))?;
    for chunk in rows.chunks(ROWS_PER_BATCH) {
        let batch = RecordBatch::try_new(schema.clone(), T::arrays(chunk)).map_err(|error| failed(&error))?;
        writer.write(&batch).map_err(|error| failed(&error))?;
    }
    writer.close().map_err(|error| failed(&error))?;
    Ok(Bytes::from(file))
}

fn description(table: &Table) -> Vec<KeyValue> {
    let columns: Vec<serde_json::Value> = table
        .columns
        .iter()
        .map(|column| {
            serde_json::json!({
                "name": column.name,
                "type": column.column_type.name(),
                "nullable": column.nullable,
                "repeatability": column.repeatability.name(),
                "description": column.description,
            })
        })
        .collect();
    vec![
        KeyValue::new(TABLE_KEY.to_owned(), table.name.to_owned()),
        KeyValue::new(VERSION_KEY.to_owned(), table.version.to_string()),
        KeyValue::new(DESCRIPTION_KEY.to_owned(), table.description.to_owned()),
        KeyValue::new(COLUMNS_KEY.to_owned(), serde_json::Value::from(columns).to_string()),
    ]
}

/// Decodes a Parquet file of the table; `path` names it in errors.
pub fn decode<T: TableRow>(path: &str, file: Bytes) -> Result<Vec<T>> {
    let unreadable = |error: ParquetError| broken::<T>(path, format!("is no readable Parquet file: {error}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
    let pairs =
        builder.metadata().file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    check_description::<T>(path, pairs)?;
    let mut rows = Vec::new();
    for batch in builder.with_batch_size(ROWS_PER_BATCH).build().map_err(unreadable)? {
        let batch =
            batch.map_err(|error| broken::<T>(path, format!("is no readable Parquet file: {error}")))?;
        rows.extend(T::from_batch(&batch).map_err(|rule| broken::<T>(path, rule))?);
    }
    Ok(rows)
}

/// The file must be of this table, and not of a newer version of it.
fn check_description<T: TableRow>(path: &str, pairs: &[KeyValue]) -> Result<()> {
    let find = |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
    if find(TABLE_KEY) != Some(T::NAME) {
        let found =
            find(TABLE_KEY).map_or("no table of this product".to_owned(), |name| format!("table `{name}`"));
        return Err(broken::<T>(path, format!("is {found}")));
    }
    let known = T::table().version;
    match find(VERSION_KEY).and_then(|version| version.parse::<u32>().ok()) {
        Some(version) if version <= known => Ok(()),
        Some(version) => {
            let rule = format!(
                "has schema version {version}, this program knows {known}: use a newer version of it"
            );
            Err(broken::<T>(path, rule))
        }
        None => Err(broken::<T>(path, format!("has no valid `{VERSION_KEY}` in its metadata"))),
    }
}

/// A file's path, for errors, and its content.
pub type NamedFile = (String, Bytes);

/// Merges Parquet files of one table into one sorted file. Returns it and the number of its rows.
pub fn merge<T: TableRow>(files: &[NamedFile]) -> Result<(Bytes, u64)> {
    let mut rows: Vec<T> = Vec::new();
    for (path, file) in files {
        rows.extend(decode::<T>(path, file.clone())?);
    }
    rows.sort_by(T::compare);
    Ok((write(&rows)?, rows.len() as u64))
}

fn broken<T: TableRow>(path: &str, rule: String) -> Error {
    Error::Parquet { path: path.to_owned(), table: T::NAME, rule }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Table;
    use crate::tables::{CurveRow, DatasetRow, FeatureRow};
    use arrow_array::{ArrayRef, Float64Array, StringArray};
    use arrow_schema::{Field, Schema};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;

    /// A file of somebody else's making.
    fn foreign(table: &str, version: &str, columns: &[(&str, ArrayRef)]) -> Bytes {
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let pairs = vec![
            KeyValue::new(TABLE_KEY.to_owned(), table.to_owned()),
            KeyValue::new(VERSION_KEY.to_owned(), version.to_owned()),
        ];
        let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, schema.clone(), Some(properties)).unwrap();
        let arrays = columns.iter().map(|(_, array)| array.clone()).collect();
        writer.write(&RecordBatch::try_new(schema, arrays).unwrap()).unwrap();
        writer.close().unwrap();
        Bytes::from(file)
    }

    fn arrays_of(table: &'static Table, rows: &[CurveRow]) -> Vec<(&'static str, ArrayRef)> {
        table.columns.iter().map(|column| column.name).zip(CurveRow::arrays(rows)).collect()
    }

    #[test]
    fn a_file_describes_itself() {
        let file = encode(&[DatasetRow::default()]).unwrap();
        let reader = SerializedFileReader::new(file.clone()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
        let columns = pairs.iter().find(|pair| pair.key == COLUMNS_KEY).unwrap().value.clone().unwrap();
        assert!(
            columns.contains("Labels of its classes in the source, in the order of the network's outputs."),
            "{columns}"
        );
        let schema = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().clone();
        for column in DatasetRow::table().columns {
            let field = schema.field_with_name(column.name).unwrap();
            assert_eq!(field.data_type(), &column.column_type.arrow());
            assert_eq!(field.is_nullable(), column.nullable);
            assert_eq!(field.metadata().get("description").map(String::as_str), Some(column.description));
            assert_eq!(field.metadata().get("repeatability").unwrap(), column.repeatability.name());
        }
        let group = reader.metadata().row_group(0);
        assert!(group.columns().iter().all(|column| matches!(column.compression(), Compression::ZSTD(_))));
        assert!(group.column(0).statistics().is_some());
    }

    #[test]
    fn a_null_where_none_may_be_is_refused_by_its_column() {
        let table = CurveRow::table();
        let mut columns = arrays_of(table, &[CurveRow::default()]);
        columns[0].1 = Arc::new(StringArray::from(vec![None::<&str>]));
        let error =
            decode::<CurveRow>("x.parquet", foreign("curves", "1", &columns)).unwrap_err().to_string();
        assert_eq!(error, "`x.parquet`, table `curves`: column `unit_id`: must not be null");
    }

    #[test]
    fn a_column_of_another_type_is_refused_by_its_name() {
        let table = CurveRow::table();
        let mut columns = arrays_of(table, &[CurveRow::default()]);
        columns[2].1 = Arc::new(Float64Array::from(vec![1.0]));
        let error =
            decode::<CurveRow>("x.parquet", foreign("curves", "1", &columns)).unwrap_err().to_string();
        assert_eq!(error, "`x.parquet`, table `curves`: column `arch_index`: must be int64, is Float64");
    }

    #[test]
    fn a_column_that_an_older_file_lacks_reads_as_null_only_where_it_may() {
        let table = CurveRow::table();
        let row = CurveRow { epoch: 4, train_loss: Some(0.5), valid_loss: Some(0.25), ..CurveRow::default() };
        let mut columns = arrays_of(table, std::slice::from_ref(&row));
        columns.retain(|(name, _)| *name != "valid_loss");
        let rows = decode::<CurveRow>("x.parquet", foreign("curves", "1", &columns)).unwrap();
        assert_eq!(rows, [CurveRow { valid_loss: None, ..row }]);
        columns.retain(|(name, _)| *name != "epoch");
        let error =
            decode::<CurveRow>("x.parquet", foreign("curves", "1", &columns)).unwrap_err().to_string();
        assert_eq!(error, "`x.parquet`, table `curves`: column `epoch` is missing");
    }

    #[test]
    fn a_newer_schema_and_a_foreign_file_are_refused() {
        let columns = arrays_of(CurveRow::table(), &[CurveRow::default()]);
        for (table, version, part) in [
            ("curves", "99", "schema version 99"),
            ("curves", "x", "no valid"),
            ("orders", "1", "is table `orders`"),
        ] {
            let error =
                decode::<CurveRow>("x.parquet", foreign(table, version, &columns)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let error = decode::<CurveRow>("x.parquet", Bytes::from("no Parquet")).unwrap_err().to_string();
        assert!(error.starts_with("`x.parquet`, table `curves`: is no readable Parquet file"), "{error}");
    }

    prop_compose! {
        fn curve()(
            unit_id in "[a-c]{1,2}", arch_index in 0..4_i64, seed in any::<i64>(), epoch in 0..5_i64,
            train_loss in proptest::option::of(any::<f64>().prop_filter("equal to itself", |x| !x.is_nan())),
        ) -> CurveRow {
            CurveRow { dataset_id: unit_id.clone(), unit_id, arch_index, seed, epoch, train_loss, ..CurveRow::default() }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn rows_come_back_sorted_and_bit_for_bit(rows in proptest::collection::vec(curve(), 0..40)) {
            let decoded = decode::<CurveRow>("x", encode(&rows).unwrap()).unwrap();
            let mut expected = rows;
            expected.sort_by(CurveRow::compare);
            prop_assert_eq!(decoded, expected);
        }

        #[test]
        fn merging_parts_equals_encoding_the_whole(
            mut rows in proptest::collection::vec(curve(), 1..40), cut in any::<prop::sample::Index>()
        ) {
            // Bytes are promised for rows with unique keys.
            rows.sort_by(CurveRow::compare);
            rows.dedup_by(|a, b| a.compare(b).is_eq());
            let (first, second) = rows.split_at(cut.index(rows.len()));
            let parts = [
                ("second".to_owned(), encode(second).unwrap()),
                ("first".to_owned(), encode(first).unwrap()),
            ];
            prop_assert_eq!(merge::<CurveRow>(&parts).unwrap(), (encode(&rows).unwrap(), rows.len() as u64));
        }

        #[test]
        fn vectors_come_back_bit_for_bit(vector in proptest::collection::vec(any::<u32>(), 0..20)) {
            let vector: Vec<f32> = vector.into_iter().map(f32::from_bits).collect();
            let row = FeatureRow { vector: vector.clone(), ..FeatureRow::default() };
            let decoded = decode::<FeatureRow>("x", encode(&[row]).unwrap()).unwrap();
            let bits = |vector: &[f32]| vector.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&decoded[0].vector), bits(&vector));
        }
    }
}
