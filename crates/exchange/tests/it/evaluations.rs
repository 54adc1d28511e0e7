use std::fmt::Write;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float32Array, Int32Array, RecordBatch, StringArray};
use metad2a_exchange::{
    AccuracyUnit, Error, EvaluationsDeclaration, ImportedEvaluations, Protocol, RowRange, Split, TaskClasses,
    evaluations,
};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use crate::{SHAPE, file, stamp, text};

const DATASETS: &str = r#"{
    "cifar100": {"classes": 100, "image_size": 32},
    "imagenet16-120": {"classes": 120, "image_size": 16}
}"#;
/// Number 0 of NATS-Bench.
const FIRST: &str =
    "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|";

fn declared(unit: AccuracyUnit) -> EvaluationsDeclaration {
    EvaluationsDeclaration {
        origin: "a test".to_owned(),
        accuracy_unit: unit,
        protocol: Protocol {
            name: "nats-bench".to_owned(),
            shape: SHAPE,
            batch_size: 256,
            learning_rate: 0.1,
        },
        epochs: None,
        split: None,
        rows: None,
        tasks: None,
    }
}

fn import(rows: &str, declared: &EvaluationsDeclaration) -> Result<ImportedEvaluations, Error> {
    evaluations(&text("rows.csv", rows), &text("datasets.json", DATASETS), declared, &stamp(), 20)
}

#[test]
fn rows_of_one_training_become_one_row_with_protocol_and_provenance() {
    let rows = format!(
        "arch,arch_index,dataset,epochs,split,accuracy,hours\n\
         {FIRST},0,cifar100,200,valid,52.7,1\n\
         {FIRST},0,cifar100,12,test,31.26,1\n\
         {FIRST},0,cifar100,200,test,52.9133,1\n"
    );
    let imported = import(&rows, &declared(AccuracyUnit::Percent)).unwrap();
    assert_eq!(imported.ignored, ["hours"]);
    let [short, long] = imported.evaluations.as_slice() else { panic!("{:?}", imported.evaluations) };
    assert_eq!((short.valid_accuracy, short.test_accuracy), (None, Some(0.3126)));
    assert_eq!((long.valid_accuracy, long.test_accuracy), (Some(0.527), Some(52.9133 / 100.0)));
    assert_eq!(long.protocol.as_deref(), Some("nats-bench@200"));
    assert_eq!(long.provenance.as_deref(), Some("a test: rows.csv, rows 1, 3"));
    assert_eq!(short.provenance.as_deref(), Some("a test: rows.csv, row 2"));
    assert_ne!(short.unit_id, long.unit_id);
    assert_ne!(short.recipe_id, long.recipe_id);
    assert_eq!((long.arch_index, long.seed, long.epochs, long.task_id.as_str()), (0, -1, 200, "the-import"));
    // The benchmark's 129,306 parameters and 15.64737 M multiply-adds at 10 classes; 90 outputs more add 65 each.
    assert_eq!((long.params, long.flops), (135_156, 15_653_220));
    let [dataset] = imported.datasets.as_slice() else {
        panic!("only datasets with a row: {:?}", imported.datasets)
    };
    assert_eq!(
        (dataset.name.as_str(), dataset.classes, dataset.class_group.as_str()),
        ("cifar100", 100, "imported")
    );
    assert_eq!(dataset.dataset_id, long.dataset_id);
}

#[test]
fn the_same_file_gives_the_same_rows_and_units_do_not_depend_on_its_name_or_order() {
    let rows =
        "arch_index,dataset,epochs,split,accuracy\n5,cifar100,200,valid,0.5\n6,cifar100,200,valid,0.6\n";
    let turned =
        "accuracy,split,epochs,dataset,arch_index\n0.6,valid,200,cifar100,6\n0.5,valid,200,cifar100,5\n";
    let declared = declared(AccuracyUnit::Fraction);
    let first = import(rows, &declared).unwrap();
    assert_eq!(import(rows, &declared).unwrap(), first);
    let units = |imported: &ImportedEvaluations| {
        imported
            .evaluations
            .iter()
            .map(|row| (row.unit_id.clone(), row.valid_accuracy.unwrap().to_bits()))
            .collect::<Vec<_>>()
    };
    assert_eq!(units(&import(turned, &declared).unwrap()), units(&first));
}

#[test]
fn every_bad_row_is_named_by_row_column_and_rule() {
    let rows = format!(
        "arch,arch_index,dataset,epochs,split,accuracy\n\
         {FIRST},1,cifar100,200,valid,0.5\n\
         |none~0|,2,cifar10,200,valid,0.5\n\
         {FIRST},0,cifar100,0,x-valid,74.8\n\
         {FIRST},0,cifar100,200,test,\n\
         {FIRST},0,cifar100,200,test,0.25\n\
         {FIRST},0,cifar100,200,test,0.25\n"
    );
    let error = import(&rows, &declared(AccuracyUnit::Fraction)).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 8 problems to mend
      `rows.csv`, row 1, column `arch_index`: is 1, but `|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|` has the number 0
      `rows.csv`, row 2, column `arch`: not a cell: at character 6, expected `~0|+|`, found `~0|`; the form is `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`
      `rows.csv`, row 2, column `dataset`: `cifar10` is not defined; the file of `--datasets` defines `cifar100`, `imagenet16-120`
      `rows.csv`, row 3, column `accuracy`: is 74.8, must lie in 0 to 1; for percent say `--accuracy-unit percent`
      `rows.csv`, row 3, column `epochs`: must be a whole number from 1 to 100000, got `0`
      `rows.csv`, row 3, column `split`: must be `train`, `valid` or `test`, got `x-valid`
      `rows.csv`, row 4, column `accuracy`: must be a finite number, is empty
      `rows.csv`, row 6: has another test accuracy of the training of row 5
    ");
}

#[test]
fn what_the_file_does_not_tell_must_be_declared_and_not_twice() {
    let error = import("arch_index,dataset,accuracy\n0,cifar100,0.5\n", &declared(AccuracyUnit::Fraction))
        .unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 2 problems to mend
      `rows.csv`: has no column `epochs`; say it with `--epochs`
      `rows.csv`: has no column `split`; say it with `--split`
    ");
    let twice = EvaluationsDeclaration {
        epochs: Some(200),
        split: Some(Split::Valid),
        ..declared(AccuracyUnit::Fraction)
    };
    let error = import("arch_index,dataset,accuracy,epochs\n0,cifar100,0.5,200\n", &twice).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 1 problem to mend
      `rows.csv`: has a column `epochs`, and `--epochs` says it too; leave out the flag
    ");
}

#[test]
fn shares_that_are_declared_as_percent_are_refused() {
    let rows =
        "arch_index,dataset,accuracy,epochs,split\n0,cifar100,0.5,200,valid\n1,cifar100,0.9,200,valid\n";
    let error = import(rows, &declared(AccuracyUnit::Percent)).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 1 problem to mend
      `rows.csv`: has no accuracy above 1 %, so its unit is hardly percent; is it `--accuracy-unit fraction`?
    ");
}

#[test]
fn tasks_name_their_classes_and_the_authors_split_of_tasks_is_no_split_of_pictures() {
    let rows = "row,split,task,nb201_index,acc\n0,train,1,0,74.8\n1,valid,0,3,70\n2,valid,2,3,70\n";
    let tasks = Some(TaskClasses { class_source: "imagenet600".to_owned(), image_size: 32 });
    let declared = EvaluationsDeclaration {
        epochs: Some(50),
        split: Some(Split::Valid),
        tasks,
        ..declared(AccuracyUnit::Percent)
    };
    let classes = text("task_classes.json", "[[3, 1], [7, 600]]");
    let error = evaluations(&text("rows.csv", rows), &classes, &declared, &stamp(), 20).unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 1 problem to mend
      `rows.csv`, row 3, column `task`: must be a whole number from 0 to 1, got `2`
    ");
    let declared = EvaluationsDeclaration { rows: Some(RowRange { first: 1, last: 2 }), ..declared };
    let imported = evaluations(&text("rows.csv", rows), &classes, &declared, &stamp(), 20).unwrap();
    assert_eq!(imported.ignored, ["row", "split"]);
    let mut datasets: Vec<_> = imported
        .datasets
        .iter()
        .map(|row| (row.name.as_str(), row.class_labels.clone(), row.source.as_str()))
        .collect();
    datasets.sort();
    assert_eq!(
        datasets,
        [
            ("imagenet600-task-00000", vec![3, 1], "imagenet600"),
            ("imagenet600-task-00001", vec![7, 600], "imagenet600")
        ]
    );
    assert!(imported.evaluations.iter().all(|row| row.protocol.as_deref() == Some("nats-bench@50")));
}

#[test]
fn a_parquet_file_reads_like_a_csv_file_whatever_else_it_holds() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("is_best", Arc::new(BooleanArray::from(vec![true, false]))),
        ("arch_index", Arc::new(Int32Array::from(vec![5, 6]))),
        ("dataset", Arc::new(StringArray::from(vec!["cifar100", "cifar100"]))),
        ("accuracy", Arc::new(Float32Array::from(vec![0.5, 0.75]))),
        ("epochs", Arc::new(Int32Array::from(vec![200, 200]))),
        ("split", Arc::new(StringArray::from(vec!["valid", "valid"]))),
    ];
    let declared = declared(AccuracyUnit::Fraction);
    let import_parquet = |columns: Vec<(&str, ArrayRef)>| {
        let bytes = parquet(columns);
        evaluations(&file("rows.parquet", bytes), &text("datasets.json", DATASETS), &declared, &stamp(), 20)
    };
    let parquet = import_parquet(columns.clone()).unwrap();
    assert_eq!(parquet.ignored, ["is_best"]);
    let rows =
        "arch_index,dataset,accuracy,epochs,split\n5,cifar100,0.5,200,valid\n6,cifar100,0.75,200,valid\n";
    let csv = import(rows, &declared).unwrap();
    let figures = |imported: &ImportedEvaluations| {
        imported.evaluations.iter().map(|row| (row.unit_id.clone(), row.valid_accuracy)).collect::<Vec<_>>()
    };
    assert_eq!(figures(&parquet), figures(&csv));

    let mut wrong = columns;
    wrong[1].1 = wrong[0].1.clone();
    insta::assert_snapshot!(import_parquet(wrong).unwrap_err(), @"
    nothing was imported: 1 problem to mend
      `rows.parquet`: column `arch_index` must hold texts or numbers, holds Boolean
    ");
}

fn parquet(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

proptest! {
    /// Whatever stands in a file, reading it ends with rows or with problems.
    #[test]
    fn no_file_makes_it_panic(rows in ".{0,200}", datasets in ".{0,60}") {
        let declared = declared(AccuracyUnit::Fraction);
        let _ = evaluations(&text("rows.csv", &rows), &text("datasets.json", &datasets), &declared, &stamp(), 3);
        let _ = evaluations(&text("rows.parquet", &rows), &text("datasets.json", DATASETS), &declared, &stamp(), 3);
    }

    #[test]
    fn imported_accuracies_lie_in_0_to_1_and_no_row_is_lost(
        accuracies in prop::collection::vec(1.1..100.0_f64, 1..40)
    ) {
        let mut rows = "arch_index,dataset,accuracy,epochs,split\n".to_owned();
        for (index, accuracy) in accuracies.iter().enumerate() {
            let _ = writeln!(rows, "{index},cifar100,{accuracy},200,test");
        }
        let imported = import(&rows, &declared(AccuracyUnit::Percent)).unwrap();
        prop_assert_eq!(imported.evaluations.len(), accuracies.len());
        for row in &imported.evaluations {
            let test = row.test_accuracy.unwrap();
            prop_assert!((test * 100.0 - accuracies[row.arch_index as usize]).abs() < 1e-9);
        }
    }
}
