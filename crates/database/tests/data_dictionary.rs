//! The committed document must be what the definitions say.

use std::path::Path;

#[test]
fn docs_data_md_holds_the_current_dictionary() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/DATA.md");
    let document = std::fs::read_to_string(path).unwrap();
    let current = metad2a_database::with_dictionary(&document).unwrap();
    assert!(
        document == current,
        "docs/DATA.md is stale: run `cargo run -p metad2a-database --example data_dictionary`"
    );
}

#[test]
fn a_document_without_a_place_for_the_dictionary_is_refused() {
    let error = metad2a_database::with_dictionary("# Data\n").unwrap_err().to_string();
    assert!(error.contains("docs/DATA.md"), "{error}");
}

/// Every reference names columns that exist, and every order and key too.
#[test]
fn definitions_are_consistent() {
    let tables = metad2a_database::tables::all();
    let has = |table: &str, column: &str| {
        tables.iter().any(|found| found.name == table && found.columns.iter().any(|it| it.name == column))
    };
    for table in tables {
        for column in table.order.iter().chain(table.key) {
            assert!(has(table.name, column), "{}.{column}", table.name);
        }
        for reference in table.references {
            assert!(has(table.name, reference.column), "{}.{}", table.name, reference.column);
            assert!(has(reference.table, reference.key), "{}.{}", reference.table, reference.key);
        }
        for column in table.columns {
            assert!(
                column.description.ends_with('.'),
                "{}.{} has no full description",
                table.name,
                column.name
            );
        }
    }
}
