use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder};
use arrow_array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray};
use arrow_cast::cast;
use arrow_schema::{DataType, Field};
use metad2a_exchange::{FeaturesDeclaration, class_source_id, features};
use metad2a_pipeline::tasks::{Extractor, ExtractorKind};
use parquet::arrow::ArrowWriter;

use crate::file;

const WIDTH: usize = 512;

fn declared() -> FeaturesDeclaration {
    FeaturesDeclaration {
        origin: "a test".to_owned(),
        class_source: "imagenet600".to_owned(),
        extractor: Extractor {
            kind: ExtractorKind::Resnet18,
            weights_sha256: "ab".repeat(32),
            image_size: 32,
        },
    }
}

/// Lists of one length, as half-precision numbers.
fn halves(rows: &[Vec<f32>]) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), rows[0].len() as i32);
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    let half =
        DataType::FixedSizeList(Field::new("item", DataType::Float16, true).into(), rows[0].len() as i32);
    cast(&builder.finish(), &half).unwrap()
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn integers(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

#[test]
fn vectors_of_half_precision_come_back_exactly_with_their_provenance() {
    let vectors = vec![vec![0.5; WIDTH], vec![-0.25; WIDTH]];
    let bytes = parquet(vec![
        ("class_id", integers(&[600, 1])),
        ("wnid", Arc::new(StringArray::from(vec!["n1", "n2"]))),
        ("view", integers(&[0, 19])),
        ("features", halves(&vectors)),
    ]);
    let imported = features(&file("f.parquet", bytes), &declared(), 20).unwrap();
    assert_eq!((imported.classes, imported.ignored), (2, vec!["wnid".to_owned()]));
    let [first, second] = imported.features.as_slice() else { panic!() };
    assert_eq!((first.class_label, first.picture_index, &first.vector), (600, 0, &vectors[0]));
    assert_eq!((second.class_label, second.picture_index, &second.vector), (1, 19, &vectors[1]));
    assert_eq!(first.source_content_id, class_source_id("imagenet600"));
    assert_eq!(first.extractor, format!("resnet18:{}", "ab".repeat(32)));
    assert_eq!(second.provenance.as_deref(), Some("a test: f.parquet, row 2"));
    assert_ne!(first.picture_hash, second.picture_hash);
}

#[test]
fn every_bad_vector_is_named() {
    let mut builder = ListBuilder::new(Float32Builder::new());
    for (length, value) in [(WIDTH, 1.0), (3, 1.0), (WIDTH, f32::NAN), (WIDTH, 1.0), (WIDTH, 1.0)] {
        builder.values().append_slice(&vec![value; length]);
        builder.append(true);
    }
    builder.append(false);
    let bytes = parquet(vec![
        ("class_label", integers(&[1, 2, 3, 1, -4, 5])),
        ("picture_index", integers(&[0, 0, 0, 0, 0, 0])),
        ("vector", Arc::new(builder.finish())),
    ]);
    let error = features(&file("f.parquet", bytes), &declared(), 20).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 5 problems to mend
      `f.parquet`, row 2, column `vector`: has 3 numbers, `resnet18` gives 512
      `f.parquet`, row 3, column `vector`: number 1 is NaN, must be finite
      `f.parquet`, row 4: class 1 has another vector of picture 0
      `f.parquet`, row 5, column `class_label`: must be a whole number of at least 0, got `-4`
      `f.parquet`, row 6, column `vector`: is empty
    ");
}

#[test]
fn missing_columns_and_columns_of_another_type_are_named_together() {
    let bytes = parquet(vec![
        ("class_id", Arc::new(StringArray::from(vec!["7"]))),
        ("features", Arc::new(Float32Array::from(vec![1.0]))),
    ]);
    let error = features(&file("f.parquet", bytes), &declared(), 20).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 3 problems to mend
      `f.parquet`: column `class_id` must hold a whole number in each row, holds Utf8
      `f.parquet`: has no column `picture_index` or `view`
      `f.parquet`: column `features` must hold a list of numbers in each row, holds Float32
    ");
}

#[test]
fn an_empty_table_and_a_file_that_is_no_parquet_are_refused() {
    let bytes = parquet(vec![
        ("class_id", integers(&[])),
        ("view", integers(&[])),
        ("features", Arc::new(ListBuilder::new(Float32Builder::new()).finish())),
    ]);
    let error = features(&file("f.parquet", bytes), &declared(), 20).unwrap_err().to_string();
    assert!(error.contains("has no rows to import"), "{error}");
    let error =
        features(&file("f.csv", "class_id\n".as_bytes().to_vec()), &declared(), 20).unwrap_err().to_string();
    assert!(error.contains("is no readable Parquet file"), "{error}");
}
