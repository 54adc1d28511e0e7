//! A snapshot's tables as views of `DuckDB`. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Statements that make one view for each table, whose files lie at the given places.
///
/// Files of older versions may lack a column that newer ones have, which then is null: hence `union_by_name`.
pub(crate) fn create_views(tables: &BTreeMap<String, Vec<String>>) -> String {
    let mut statements = String::new();
    for (table, files) in tables {
        let files = files.iter().map(|file| text(file)).collect::<Vec<_>>().join(",\n    ");
        let _ = writeln!(
            statements,
            "create or replace view {table} as select * from read_parquet([\n    {files}\n], union_by_name = true);"
        );
    }
    statements
}

/// A text in SQL.
fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// Whether a query may be reading this table: its name stands in it as a word.
pub(crate) fn mentions(query: &str, table: &str) -> bool {
    let mut words = query.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    words.any(|word| word.eq_ignore_ascii_case(table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_table_is_a_view_over_all_its_files() {
        let tables = BTreeMap::from([
            ("curves".to_owned(), vec!["/store/a.parquet".to_owned(), "/store/b.parquet".to_owned()]),
            ("runs".to_owned(), vec!["/ada's/c.parquet".to_owned()]),
        ]);
        insta::assert_snapshot!(create_views(&tables), @r"
        create or replace view curves as select * from read_parquet([
            '/store/a.parquet',
            '/store/b.parquet'
        ], union_by_name = true);
        create or replace view runs as select * from read_parquet([
            '/ada''s/c.parquet'
        ], union_by_name = true);
        ");
    }

    #[test]
    fn a_table_is_mentioned_by_its_whole_name_only() {
        let query = "select * from Evaluations e join my_datasets using (dataset_id)";
        assert!(mentions(query, "evaluations"));
        assert!(!mentions(query, "datasets"));
        assert!(mentions("from\truns;", "runs"));
    }
}
