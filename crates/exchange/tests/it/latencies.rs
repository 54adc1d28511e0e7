use metad2a_exchange::{Error, ImportedLatencies, LatenciesDeclaration, latencies};

use crate::{SHAPE, stamp, text};

fn declared() -> LatenciesDeclaration {
    LatenciesDeclaration {
        origin: "a test".to_owned(),
        protocol: "onnx-fp32".to_owned(),
        device: None,
        batch_size: None,
        column: None,
        shape: SHAPE,
        image_size: 32,
        classes: 10,
    }
}

fn import(rows: &str) -> Result<ImportedLatencies, Error> {
    import_as(rows, &declared())
}

fn import_as(rows: &str, declared: &LatenciesDeclaration) -> Result<ImportedLatencies, Error> {
    latencies(&text("latency.csv", rows), declared, &stamp(), 20)
}

#[test]
fn a_table_with_a_column_for_each_device_is_read_one_column_at_a_time() {
    let rows = "arch_index,pixel3,raspi4,p95_ms\n7,12.5,80,90\n8,20,95,99\n";
    let declared = LatenciesDeclaration {
        device: Some("raspi4".to_owned()),
        batch_size: Some(1),
        column: Some("raspi4".to_owned()),
        ..declared()
    };
    let imported = import_as(rows, &declared).unwrap();
    let figures: Vec<_> =
        imported.latencies.iter().map(|row| (row.device.as_str(), row.latency_milliseconds)).collect();
    assert_eq!(figures, [("raspi4", 80.0), ("raspi4", 95.0)]);
    // Nothing says whose 95th percentile that is.
    assert!(imported.latencies.iter().all(|row| row.latency_p95_milliseconds.is_none()));
    assert_eq!(imported.ignored, ["pixel3", "p95_ms"]);

    let both = import_as("arch_index,device,raspi4\n7,raspi4,80\n", &declared).unwrap_err();
    insta::assert_snapshot!(both, @"
    nothing was imported: 1 problem to mend
      `latency.csv`: has a column `device`, and `--device` says it too; leave out the flag
    ");
    let unknown = LatenciesDeclaration { column: Some("pixel2".to_owned()), ..declared.clone() };
    insta::assert_snapshot!(import_as(rows, &unknown).unwrap_err(), @"
    nothing was imported: 1 problem to mend
      `latency.csv`: has no column `pixel2`; its columns are `arch_index`, `pixel3`, `raspi4`, `p95_ms`
    ");
    let nameless = LatenciesDeclaration { device: Some(String::new()), ..declared };
    insta::assert_snapshot!(import_as(rows, &nameless).unwrap_err(), @"`--device` must have 1 to 100 characters and no spaces around it");
}

#[test]
fn a_row_is_a_cell_on_a_device_at_a_batch_size() {
    let imported = import(
        "arch_index,device,batch,latency_ms,p95_ms\n7,pixel3,1,12.5,14\n7,pixel3,32,300,\n7,raspi4,1,80,80\n",
    )
    .unwrap();
    let rows: Vec<_> = imported
        .latencies
        .iter()
        .map(|row| {
            (row.device.as_str(), row.batch_size, row.latency_milliseconds, row.latency_p95_milliseconds)
        })
        .collect();
    assert_eq!(
        rows,
        [("pixel3", 1, 12.5, Some(14.0)), ("pixel3", 32, 300.0, None), ("raspi4", 1, 80.0, Some(80.0))]
    );
    let row = &imported.latencies[0];
    assert_eq!((row.arch_index, row.protocol.as_str(), row.classes), (7, "onnx-fp32", 10));
    assert_eq!(row.provenance, "a test: latency.csv, row 1");
}

#[test]
fn every_bad_row_is_named_by_row_column_and_rule() {
    let error = import(
        "arch_index,device,batch,latency_ms,p95_ms\n\
         7,pixel3,1,12.5,12\n\
         15625, pixel3,0,-1,\n\
         7,pixel3,1,12.5,\n\
         8,,1,fast,\n\
         8,pixel3\n",
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 9 problems to mend
      `latency.csv`, row 5: has 2 fields, the heading has 5
      `latency.csv`, row 1, column `p95_ms`: is 12, less than the median of the row
      `latency.csv`, row 2, column `arch_index`: must be a whole number from 0 to 15624, got `15625`
      `latency.csv`, row 2, column `device`: must have 1 to 100 characters and no spaces around it
      `latency.csv`, row 2, column `batch`: must be a whole number from 1 to 1000000, got `0`
      `latency.csv`, row 2, column `latency_ms`: is -1, must be at least 0
      `latency.csv`, row 3: has another latency of the cell, device and batch size of row 1
      `latency.csv`, row 4, column `device`: must be a text, is empty
      `latency.csv`, row 4, column `latency_ms`: must be a finite number, got `fast`
    ");
    let error = import("device,latency_ms\n").unwrap_err();
    insta::assert_snapshot!(error, @"
    nothing was imported: 3 problems to mend
      `latency.csv`: has no column `arch` or `arch_index`; its columns are `device`, `latency_ms`
      `latency.csv`: has no column `batch_size` or `batch`; say it with `--batch-size`
      `latency.csv`: has no rows to import
    ");
}
