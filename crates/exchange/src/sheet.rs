//! A CSV or Parquet file as columns of values, with a place for every complaint.
//!
//! Nothing is forgiven: no trimmed numbers, no guessed types, no short rows. A column may go by one of a few names, so
//! that published tables need no renaming; two of them at once are refused. A column that nobody reads may hold anything.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::problems::{Problem, Problems};

/// A file to be imported.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// As messages and provenance name it.
    pub name: String,
    pub bytes: Bytes,
}

/// One value of a sheet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Text(String),
    Integer(i64),
    Number(f64),
}

/// A table of values.
#[derive(Debug)]
pub(crate) struct Sheet {
    file: String,
    names: Vec<String>,
    /// What a column holds instead, where it holds neither texts nor numbers.
    columns: Vec<Result<Vec<Value>, String>>,
    rows: usize,
    /// Rows with too few or too many fields: nobody knows which value is whose.
    broken: BTreeSet<usize>,
}

/// A column of a sheet, by whichever of its names the file uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column<'a> {
    file: &'a str,
    name: &'a str,
    values: &'a [Value],
}

impl Sheet {
    /// Reads a file by the ending of its name. `None` where it cannot be read at all; the problem says why.
    pub(crate) fn read(file: &SourceFile, problems: &mut Problems) -> Option<Self> {
        let read = match ending(&file.name).as_str() {
            "csv" => read_csv(file, problems),
            "parquet" => read_parquet(file),
            _ => Err("must end in `.csv` or `.parquet`".to_owned()),
        };
        let sheet = read.map_err(|rule| problems.of_file(&file.name, rule)).ok()?;
        let mut seen = BTreeSet::new();
        for name in &sheet.names {
            if !seen.insert(name) {
                problems.of_file(&file.name, format!("has two columns `{name}`"));
            }
        }
        Some(sheet)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The rows, from 0, whose values can be told apart; of all others it was said that they cannot.
    pub(crate) fn whole_rows(&self) -> impl Iterator<Item = usize> {
        (0..self.rows).filter(|row| !self.broken.contains(row))
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the file has a column of one of these names, readable or not.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        self.names.iter().any(|name| names.contains(&name.as_str()))
    }

    /// The column of one of these names, if there is one that can be read.
    pub(crate) fn optional(&self, names: &[&str], problems: &mut Problems) -> Option<Column<'_>> {
        let found: Vec<usize> =
            (0..self.names.len()).filter(|place| names.contains(&self.names[*place].as_str())).collect();
        if let [first, second, ..] = found.as_slice()
            && self.names[*first] != self.names[*second]
        {
            let rule = format!(
                "has both `{}` and `{}`, two names of one thing; leave one",
                self.names[*first], self.names[*second]
            );
            problems.of_file(&self.file, rule);
        }
        let place = *found.first()?;
        let name = &self.names[place];
        match &self.columns[place] {
            Ok(values) => Some(Column { file: &self.file, name, values }),
            Err(found) => {
                let rule = format!("column `{name}` must hold texts or numbers, holds {found}");
                problems.of_file(&self.file, rule);
                None
            }
        }
    }

    /// The column of one of these names, which must be there.
    pub(crate) fn required(&self, names: &[&str], problems: &mut Problems) -> Option<Column<'_>> {
        let column = self.optional(names, problems);
        if !self.has(names) {
            problems.of_file(&self.file, self.lacks(names));
        }
        column
    }

    /// What a column of one of these names tells, or else the flag: exactly one of them must.
    pub(crate) fn either_or(&self, names: &[&str], flag: &str, is_declared: bool, problems: &mut Problems) {
        match (self.names.iter().find(|name| names.contains(&name.as_str())), is_declared) {
            (Some(name), true) => {
                let rule = format!("has a column `{name}`, and `{flag}` says it too; leave out the flag");
                problems.of_file(&self.file, rule);
            }
            (None, false) => {
                let rule = match names {
                    [] => format!("says nothing of `{flag}`; say it with the flag"),
                    _ => format!("has no column `{}`; say it with `{flag}`", names.join("` or `")),
                };
                problems.of_file(&self.file, rule);
            }
            (Some(_), false) | (None, true) => {}
        }
    }

    /// The sentence for a column that is not there.
    pub(crate) fn lacks(&self, names: &[&str]) -> String {
        format!("has no column `{}`; its columns are `{}`", names.join("` or `"), self.names.join("`, `"))
    }
}

impl Column<'_> {
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.values[row] == Value::Null
    }

    /// A problem of this column; `row` from 0.
    pub(crate) fn problem(&self, row: usize, rule: impl Into<String>, problems: &mut Problems) {
        problems.add(Problem {
            file: self.file.to_owned(),
            row: Some(row as u64 + 1),
            column: Some(self.name.to_owned()),
            rule: rule.into(),
        });
    }

    pub(crate) fn text(&self, row: usize, problems: &mut Problems) -> Option<&str> {
        match &self.values[row] {
            Value::Text(text) => return Some(text),
            value => self.wrong("a text", row, value, problems),
        }
        None
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn integer(&self, row: usize, least: i64, most: i64, problems: &mut Problems) -> Option<i64> {
        let value = &self.values[row];
        let number = match value {
            Value::Integer(number) => Some(*number),
            Value::Text(text) => text.parse().ok(),
            Value::Number(_) | Value::Null => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let expected = if most == i64::MAX {
                format!("a whole number of at least {least}")
            } else {
                format!("a whole number from {least} to {most}")
            };
            self.wrong(&expected, row, value, problems);
        }
        number
    }

    /// A finite number.
    pub(crate) fn number(&self, row: usize, problems: &mut Problems) -> Option<f64> {
        let value = &self.values[row];
        let number = match value {
            Value::Number(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            Value::Text(text) => text.parse().ok(),
            Value::Null => None,
        };
        let number = number.filter(|number| number.is_finite());
        if number.is_none() {
            self.wrong("a finite number", row, value, problems);
        }
        number
    }

    fn wrong(&self, expected: &str, row: usize, value: &Value, problems: &mut Problems) {
        let found = match value {
            Value::Null => "is empty".to_owned(),
            Value::Text(text) => format!("got `{}`", text.chars().take(40).collect::<String>()),
            Value::Integer(number) => format!("got `{number}`"),
            Value::Number(number) => format!("got `{number}`"),
        };
        self.problem(row, format!("must be {expected}, {found}"), problems);
    }
}

fn ending(name: &str) -> String {
    name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default()
}

/// An empty field is a null; everything else is text until somebody asks for a number.
fn read_csv(file: &SourceFile, problems: &mut Problems) -> Result<Sheet, String> {
    let unreadable = |error: csv::Error| format!("is no readable CSV file: {error}");
    let bytes = file.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&file.bytes);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let names: Vec<String> = reader.headers().map_err(unreadable)?.iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Err("is empty; the first line must name the columns".to_owned());
    }
    let mut columns: Vec<Vec<Value>> = names.iter().map(|_| Vec::new()).collect();
    let mut rows = 0;
    let mut broken = BTreeSet::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        if record.len() != names.len() {
            let rule = format!("has {} fields, the heading has {}", record.len(), names.len());
            problems.of_row(&file.name, rows, rule);
            broken.insert(rows);
        }
        for (place, column) in columns.iter_mut().enumerate() {
            column.push(match record.get(place) {
                None | Some("") => Value::Null,
                Some(text) => Value::Text(text.to_owned()),
            });
        }
        rows += 1;
    }
    let columns = columns.into_iter().map(Ok).collect();
    Ok(Sheet { file: file.name.clone(), names, columns, rows, broken })
}

/// The batches of a Parquet file.
pub(crate) fn parquet_batches(bytes: Bytes) -> Result<Vec<RecordBatch>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("is no readable Parquet file: {error}");
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| unreadable(&error))?;
    let schema = builder.schema().clone();
    let reader = builder.build().map_err(|error| unreadable(&error))?;
    let batches: Result<Vec<RecordBatch>, _> = reader.collect();
    let mut batches = batches.map_err(|error| unreadable(&error))?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

fn read_parquet(file: &SourceFile) -> Result<Sheet, String> {
    let batches = parquet_batches(file.bytes.clone())?;
    let schema = batches[0].schema();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let column = |place: usize| {
        let parts = batches.iter().map(|batch| values(batch.column(place).as_ref()));
        Ok(parts.collect::<Result<Vec<_>, String>>()?.concat())
    };
    let columns = (0..names.len()).map(column).collect();
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    Ok(Sheet { file: file.name.clone(), names, columns, rows, broken: BTreeSet::new() })
}

type ReadValue = fn(&dyn Array, usize) -> Value;

/// The values of an Arrow array of texts or numbers. The error is what it holds instead.
fn values(array: &dyn Array) -> Result<Vec<Value>, String> {
    let kind = match array.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let (wanted, read): (DataType, ReadValue) = if kind.is_integer() {
        (DataType::Int64, |array, row| Value::Integer(array.as_primitive::<Int64Type>().value(row)))
    } else if kind.is_floating() {
        (DataType::Float64, |array, row| Value::Number(array.as_primitive::<Float64Type>().value(row)))
    } else if kind.is_string() {
        (DataType::Utf8, |array, row| Value::Text(array.as_string::<i32>().value(row).to_owned()))
    } else {
        return Err(array.data_type().to_string());
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array = cast_with_options(array, &wanted, &options).map_err(|error| error.to_string())?;
    Ok((0..array.len())
        .map(|row| if array.is_null(row) { Value::Null } else { read(array.as_ref(), row) })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> SourceFile {
        SourceFile { name: "rows.csv".to_owned(), bytes: Bytes::from(text.to_owned()) }
    }

    fn complaints(problems: Problems) -> String {
        problems.settle(()).map_or_else(|error| error.to_string(), |()| "none".to_owned())
    }

    #[test]
    fn a_short_row_a_doubled_name_and_two_names_of_one_thing_are_named() {
        let mut problems = Problems::new(10);
        let sheet = Sheet::read(&csv("acc,accuracy,x,x\n1,2,3,4\n1,2\n"), &mut problems).unwrap();
        sheet.optional(&["accuracy", "acc"], &mut problems);
        sheet.required(&["arch", "cell"], &mut problems);
        insta::assert_snapshot!(complaints(problems), @"
        nothing was imported: 4 problems to mend
          `rows.csv`, row 2: has 2 fields, the heading has 4
          `rows.csv`: has two columns `x`
          `rows.csv`: has both `acc` and `accuracy`, two names of one thing; leave one
          `rows.csv`: has no column `arch` or `cell`; its columns are `acc`, `accuracy`, `x`, `x`
        ");
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        let mut problems = Problems::new(10);
        let sheet = Sheet::read(&csv("n\n7\n 7\n7.0\n\n1e999\n16000\n"), &mut problems).unwrap();
        let column = sheet.required(&["n"], &mut problems).unwrap();
        // An empty line is no row.
        assert_eq!(sheet.rows(), 5);
        assert_eq!(column.integer(0, 0, 15_624, &mut problems), Some(7));
        for row in [1, 2, 4] {
            assert_eq!(column.integer(row, 0, 15_624, &mut problems), None);
        }
        assert_eq!(column.number(3, &mut problems), None);
        insta::assert_snapshot!(complaints(problems), @"
        nothing was imported: 4 problems to mend
          `rows.csv`, row 2, column `n`: must be a whole number from 0 to 15624, got ` 7`
          `rows.csv`, row 3, column `n`: must be a whole number from 0 to 15624, got `7.0`
          `rows.csv`, row 5, column `n`: must be a whole number from 0 to 15624, got `16000`
          `rows.csv`, row 4, column `n`: must be a finite number, got `1e999`
        ");
    }

    #[test]
    fn a_file_that_is_neither_form_is_refused() {
        let mut problems = Problems::new(10);
        assert!(
            Sheet::read(&SourceFile { name: "rows.pickle".into(), bytes: Bytes::new() }, &mut problems)
                .is_none()
        );
        let wrong = SourceFile { name: "rows.parquet".into(), bytes: Bytes::from_static(b"PAR1 not really") };
        assert!(Sheet::read(&wrong, &mut problems).is_none());
        assert!(Sheet::read(&csv(""), &mut problems).is_none());
        let text = complaints(problems);
        assert!(text.contains("`rows.pickle`: must end in `.csv` or `.parquet`"), "{text}");
        assert!(text.contains("`rows.parquet`: is no readable Parquet file"), "{text}");
        assert!(text.contains("`rows.csv`: is empty"), "{text}");
    }
}
