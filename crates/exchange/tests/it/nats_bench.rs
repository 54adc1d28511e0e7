use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use metad2a_database::tables::{DatasetRow, EvaluationRow};
use metad2a_exchange::cell_table;
use metad2a_search_space::{ArchIndex, Cell};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

fn dataset(name: &str) -> DatasetRow {
    DatasetRow { dataset_id: format!("id of {name}"), name: name.to_owned(), ..DatasetRow::default() }
}

fn evaluation(dataset: &str, cell: Cell, protocol: Option<&str>, valid: f64) -> EvaluationRow {
    EvaluationRow {
        dataset_id: format!("id of {dataset}"),
        cell: cell.to_string(),
        recipe_id: "0123456789abcdef".to_owned(),
        epochs: 20,
        valid_accuracy: Some(valid),
        protocol: protocol.map(str::to_owned),
        ..EvaluationRow::default()
    }
}

/// A class with several cells: its representative, and another.
fn class() -> (Cell, Cell) {
    let other = Cell::all().find(|cell| cell.representative() != *cell && !cell.is_always_zero()).unwrap();
    (other.representative(), other)
}

#[test]
fn own_trainings_stand_beside_their_whole_class_and_imported_ones_beside_their_own_cell() {
    let (trained, other) = class();
    let rows = [
        evaluation("letters", trained, None, 0.5),
        evaluation("letters", trained, None, 0.75),
        evaluation("letters", other, Some("nats-bench@200"), 0.25),
    ];
    let table = cell_table(&[dataset("letters")], &rows, &[]).unwrap();
    let names: Vec<&str> = table.columns.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["letters/nats-bench@200/valid_accuracy", "letters/recipe-0123456789ab@20/valid_accuracy"]
    );
    let at = |name: &str, cell: Cell| table.columns[name].get(&cell.index().get()).copied();
    for cell in [trained, other] {
        assert_eq!(at(names[1], cell), Some(0.625), "the mean over seeds, for {cell}");
    }
    assert_eq!((at(names[0], trained), at(names[0], other)), (None, Some(0.25)));
}

#[test]
fn a_training_that_was_stopped_early_has_no_part_in_a_column_of_all_epochs() {
    let (trained, _) = class();
    let with_status = |status: &str, valid| EvaluationRow {
        status: status.to_owned(),
        ..evaluation("letters", trained, None, valid)
    };
    let rows = [with_status("completed", 0.5), with_status("stopped", 0.25)];
    let table = cell_table(&[dataset("letters")], &rows, &[]).unwrap();
    let column = &table.columns["letters/recipe-0123456789ab@20/valid_accuracy"];
    assert_eq!(column.get(&trained.index().get()), Some(&0.5));
    let table = cell_table(&[dataset("letters")], &rows[1..], &[]).unwrap();
    assert!(table.columns.is_empty(), "nothing is known of it");
}

#[test]
fn both_forms_have_one_row_a_cell_in_the_benchmarks_order_with_nulls() {
    let (trained, _) = class();
    let rows = [evaluation("letters", trained, Some("x@1"), 0.1 + 0.2)];
    let table = cell_table(&[dataset("letters")], &rows, &[]).unwrap();
    let bytes = table.to_parquet().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let batch = reader.with_batch_size(20_000).build().unwrap().next().unwrap().unwrap();
    assert_eq!(batch.num_rows(), 15_625);
    let indices = batch.column(0).as_primitive::<Int64Type>();
    assert!(indices.values().iter().enumerate().all(|(place, index)| place as i64 == *index));
    let figures = batch.column(2).as_primitive::<Float64Type>();
    let place = usize::from(trained.index());
    assert_eq!((figures.null_count(), figures.value(place).to_bits()), (15_624, (0.1_f64 + 0.2).to_bits()));

    let text = String::from_utf8(table.to_csv().unwrap()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 15_626);
    assert_eq!(lines[0], "arch_index,arch,letters/x@1/valid_accuracy");
    for (place, line) in lines[1..].iter().enumerate() {
        let fields: Vec<&str> = line.split(',').collect();
        let index = ArchIndex::try_from(place as u32).unwrap();
        assert_eq!(fields[..2], [place.to_string(), index.cell().to_string()]);
        let expected = if index == trained.index() { "0.30000000000000004" } else { "" };
        assert_eq!(fields[2], expected);
    }
}

#[test]
fn datasets_can_be_chosen_and_unknown_ones_are_named() {
    let (trained, _) = class();
    let rows = [evaluation("letters", trained, None, 0.5), evaluation("digits", trained, None, 0.9)];
    let datasets = [dataset("letters"), dataset("digits")];
    let table = cell_table(&datasets, &rows, &["digits".to_owned()]).unwrap();
    assert_eq!(table.columns.len(), 1);
    let error = cell_table(&datasets, &rows, &["clothes".to_owned()]).unwrap_err().to_string();
    assert_eq!(error, "`--dataset` `clothes` is no dataset of the snapshot; it has `digits`, `letters`");
}
