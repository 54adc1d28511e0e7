//! Feature vectors of the classes of a class source, one row a picture or view, from a Parquet file.

use std::collections::BTreeSet;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field};
use metad2a_database::sha256_hex;
use metad2a_database::tables::FeatureRow;
use metad2a_pipeline::tasks::Extractor;
use serde::{Deserialize, Serialize};

use crate::declaration::{check_name, check_origin, class_source_id};
use crate::problems::{Error, Problem, Problems};
use crate::sheet::{SourceFile, parquet_batches};

const LABEL: [&str; 2] = ["class_label", "class_id"];
const PICTURE: [&str; 2] = ["picture_index", "view"];
const VECTOR: [&str; 2] = ["vector", "features"];

/// What a person says about a file of features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeaturesDeclaration {
    /// Where the file comes from.
    pub origin: String,
    /// Name of the class source whose classes are described.
    pub class_source: String,
    /// What made the vectors; models learn from them only if their own features are made by the same.
    pub extractor: Extractor,
}

/// What became of a file of features.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedFeatures {
    pub features: Vec<FeatureRow>,
    /// Distinct class labels.
    pub classes: u64,
    /// Columns that nobody read.
    pub ignored: Vec<String>,
}

/// Reads and checks a file of features.
pub fn features(
    file: &SourceFile,
    declared: &FeaturesDeclaration,
    max_problems: usize,
) -> Result<ImportedFeatures, Error> {
    check_origin(&declared.origin)?;
    check_name("--class-source", &declared.class_source)?;
    let mut problems = Problems::new(max_problems);
    let batches = parquet_batches(file.bytes.clone()).map_err(|rule| problems.of_file(&file.name, rule));
    let mut all = ImportedFeatures { features: Vec::new(), classes: 0, ignored: Vec::new() };
    let mut reader = Reader { file: &file.name, declared, keys: BTreeSet::new(), row: 0 };
    for batch in batches.unwrap_or_default() {
        let Some(columns) = Columns::of(&batch, &file.name, &mut problems) else { break };
        all.ignored.clone_from(&columns.ignored);
        reader.read(&columns, batch.num_rows(), &mut all.features, &mut problems);
    }
    if all.features.is_empty() && problems.is_empty() {
        problems.of_file(&file.name, "has no rows to import");
    }
    all.classes = reader.keys.iter().map(|(label, _)| label).collect::<BTreeSet<_>>().len() as u64;
    problems.settle(all)
}

/// The columns of a batch, in one type each.
struct Columns {
    label: (String, ArrayRef),
    picture: (String, ArrayRef),
    vector: (String, ArrayRef),
    ignored: Vec<String>,
}

impl Columns {
    fn of(batch: &RecordBatch, file: &str, problems: &mut Problems) -> Option<Self> {
        let numbers = DataType::List(Field::new("item", DataType::Float32, true).into());
        let label = column(batch, &LABEL, "a whole number", &DataType::Int64, file, problems);
        let picture = column(batch, &PICTURE, "a whole number", &DataType::Int64, file, problems);
        let vector = column(batch, &VECTOR, "a list of numbers", &numbers, file, problems);
        let (label, picture, vector) = (label?, picture?, vector?);
        let read = [&label.0, &picture.0, &vector.0];
        let names = batch.schema();
        let names = names.fields().iter().map(|field| field.name().clone());
        let ignored = names.filter(|name| !read.contains(&name)).collect();
        Some(Self { label, picture, vector, ignored })
    }
}

fn column(
    batch: &RecordBatch,
    names: &[&str],
    expected: &str,
    wanted: &DataType,
    file: &str,
    problems: &mut Problems,
) -> Option<(String, ArrayRef)> {
    let found: Vec<(&str, &ArrayRef)> =
        names.iter().filter_map(|name| Some((*name, batch.column_by_name(name)?))).collect();
    let (name, array) = match found.as_slice() {
        [one] => *one,
        [] => {
            problems.of_file(file, format!("has no column `{}`", names.join("` or `")));
            return None;
        }
        _ => {
            problems.of_file(
                file,
                format!("has both `{}`, two names of one thing; leave one", names.join("` and `")),
            );
            return None;
        }
    };
    // A text that happens to be a number is not what these columns hold.
    let fits = array.data_type().is_integer() || array.data_type().is_nested();
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = if fits { cast_with_options(array, wanted, &options).ok() } else { None };
    if cast.is_none() {
        let rule = format!("column `{name}` must hold {expected} in each row, holds {}", array.data_type());
        problems.of_file(file, rule);
    }
    Some((name.to_owned(), cast?))
}

struct Reader<'a> {
    file: &'a str,
    declared: &'a FeaturesDeclaration,
    /// Label and picture of every row so far.
    keys: BTreeSet<(i64, i64)>,
    row: usize,
}

impl Reader<'_> {
    fn read(
        &mut self,
        columns: &Columns,
        rows: usize,
        features: &mut Vec<FeatureRow>,
        problems: &mut Problems,
    ) {
        let source = class_source_id(&self.declared.class_source);
        let extractor = self.declared.extractor.name();
        for place in 0..rows {
            let label = self.integer(&columns.label, place, problems);
            let picture = self.integer(&columns.picture, place, problems);
            let vector = self.vector(&columns.vector, place, problems);
            if let (Some(label), Some(picture), Some(vector)) = (label, picture, vector) {
                if !self.keys.insert((label, picture)) {
                    let rule = format!("class {label} has another vector of picture {picture}");
                    problems.of_row(self.file, self.row, rule);
                }
                let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
                features.push(FeatureRow {
                    source_content_id: source.clone(),
                    extractor: extractor.clone(),
                    class_label: label,
                    picture_index: picture,
                    picture_hash: sha256_hex(&bytes),
                    vector,
                    provenance: Some(format!(
                        "{}: {}, row {}",
                        self.declared.origin,
                        self.file,
                        self.row + 1
                    )),
                    grey: None,
                    resolution: None,
                });
            }
            self.row += 1;
        }
    }

    fn problem(&self, column: &str, rule: String, problems: &mut Problems) {
        problems.add(Problem {
            file: self.file.to_owned(),
            row: Some(self.row as u64 + 1),
            column: Some(column.to_owned()),
            rule,
        });
    }

    fn integer(
        &self,
        (name, array): &(String, ArrayRef),
        place: usize,
        problems: &mut Problems,
    ) -> Option<i64> {
        let array = array.as_primitive::<Int64Type>();
        let number = array.is_valid(place).then(|| array.value(place));
        // Labels of datasets are 32 bits wide.
        if let Some(number) = number.filter(|number| (0..=i64::from(u32::MAX)).contains(number)) {
            return Some(number);
        }
        let found = number.map_or_else(|| "is empty".to_owned(), |number| format!("got `{number}`"));
        self.problem(name, format!("must be a whole number of at least 0, {found}"), problems);
        None
    }

    fn vector(
        &self,
        (name, array): &(String, ArrayRef),
        place: usize,
        problems: &mut Problems,
    ) -> Option<Vec<f32>> {
        let array = array.as_list::<i32>();
        let numbers = array.is_valid(place).then(|| array.value(place));
        let numbers = numbers.as_ref().map(AsArray::as_primitive::<Float32Type>);
        let width = self.declared.extractor.kind.width() as usize;
        let rule = match numbers {
            None => "is empty".to_owned(),
            Some(numbers) if numbers.len() != width => format!(
                "has {} numbers, `{}` gives {width}",
                numbers.len(),
                self.declared.extractor.kind.name()
            ),
            Some(numbers) if numbers.null_count() > 0 => "has a number that is empty".to_owned(),
            Some(numbers) => match numbers.values().iter().position(|number| !number.is_finite()) {
                Some(bad) => format!("number {} is {}, must be finite", bad + 1, numbers.value(bad)),
                None => return Some(numbers.values().to_vec()),
            },
        };
        self.problem(name, rule, problems);
        None
    }
}
