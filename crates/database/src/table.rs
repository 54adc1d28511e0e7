//! What a table is: one definition per table, in code, from which everything else follows.
//!
//! ```text
//!   table! { … } ─► Rust row ─► Arrow schema ─► Parquet file with descriptions
//!                └► checks at publication    └► data dictionary in docs/DATA.md
//! ```

use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Metadata, Schema, TimeUnit};

pub use crate::table::value::Value;

mod value;

/// What one value of a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Signed 64-bit integer.
    Integer,
    /// 64-bit floating-point number.
    Float,
    /// UTF-8 text.
    Text,
    /// True or false.
    Boolean,
    /// Microseconds since 1970, UTC.
    Time,
    /// A list of 32-bit floating-point numbers.
    Vector,
    /// A list of signed 64-bit integers.
    Integers,
    /// A list of UTF-8 texts.
    Texts,
}

impl ColumnType {
    /// The Arrow type of the column.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnType::Integer => DataType::Int64,
            ColumnType::Float => DataType::Float64,
            ColumnType::Text => DataType::Utf8,
            ColumnType::Boolean => DataType::Boolean,
            ColumnType::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            ColumnType::Vector => DataType::List(list_item(DataType::Float32)),
            ColumnType::Integers => DataType::List(list_item(DataType::Int64)),
            ColumnType::Texts => DataType::List(list_item(DataType::Utf8)),
        }
    }

    /// The type as the data dictionary writes it.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Integer => "int64",
            ColumnType::Float => "float64",
            ColumnType::Text => "text",
            ColumnType::Boolean => "boolean",
            ColumnType::Time => "timestamp (us, UTC)",
            ColumnType::Vector => "list of float32",
            ColumnType::Integers => "list of int64",
            ColumnType::Texts => "list of text",
        }
    }
}

/// Lists hold no nulls.
fn list_item(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("item", item, false))
}

/// Whether doing the work again gives the same value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeatability {
    /// The same on one kind of device and thread count, from the same specification and seed.
    Deterministic,
    /// A clock, a machine or a random id.
    Measured,
}

impl Repeatability {
    /// As file metadata and dictionary write it.
    pub fn name(self) -> &'static str {
        match self {
            Repeatability::Deterministic => "deterministic",
            Repeatability::Measured => "measured",
        }
    }
}

/// A column and everything that is promised about it.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: &'static str,
    pub column_type: ColumnType,
    /// Whether a value may be missing.
    pub nullable: bool,
    pub repeatability: Repeatability,
    /// Meaning and unit, one paragraph.
    pub description: &'static str,
    /// What numbers must lie in.
    pub range: Option<RangeInclusive<f64>>,
}

/// A table and everything that is promised about it.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    /// What one row is, one paragraph.
    pub description: &'static str,
    /// Raised when a column changes its meaning or type, or one that must not be null is added.
    pub version: u32,
    pub columns: &'static [Column],
    /// Columns that rows are sorted by within a file.
    pub order: &'static [&'static str],
    /// Columns that together identify a row.
    pub key: &'static [&'static str],
    /// Columns whose values must occur in another table of the same snapshot.
    pub references: &'static [Reference],
}

/// `column` holds values of `table.key`.
#[derive(Debug)]
pub struct Reference {
    pub column: &'static str,
    pub table: &'static str,
    pub key: &'static str,
}

impl Table {
    /// The Arrow schema, with every column's description and repeatability as field metadata.
    pub fn schema(&self) -> Schema {
        let fields: Vec<Field> = self
            .columns
            .iter()
            .map(|column| {
                let mut metadata = Metadata::default();
                metadata.insert("description".to_owned(), column.description.to_owned());
                metadata.insert("repeatability".to_owned(), column.repeatability.name().to_owned());
                Field::new(column.name, column.column_type.arrow(), column.nullable).with_metadata(metadata)
            })
            .collect();
        Schema::new(fields)
    }
}

/// A row of one of the [`crate::tables`]; implemented by their definition only.
pub trait TableRow: Sized + Clone + Send + Sync + 'static {
    /// Name of the table.
    const NAME: &'static str;

    /// The table's definition.
    fn table() -> &'static Table;

    /// One array per column, in the definition's order.
    fn arrays(rows: &[Self]) -> Vec<ArrayRef>;

    /// The rows of a batch; columns are found by name. The error is the rule that is broken.
    fn from_batch(batch: &RecordBatch) -> Result<Vec<Self>, String>;

    /// By the table's `order`, then by its key: total for rows with unique keys.
    fn compare(&self, other: &Self) -> Ordering;

    /// The key columns' values, separated by `/`.
    fn key(&self) -> String;

    /// The value of a column as text: for references. `None` where it is null.
    fn text_of(&self, column: &str) -> Option<String>;

    /// The first value outside its column's range, as a message.
    fn out_of_range(&self) -> Option<String>;
}

/// Reads a column by name. A column that older files lack reads as null, where it may be null.
pub(crate) fn read_column<V: Value>(batch: &RecordBatch, name: &str) -> Result<Vec<V>, String> {
    let Some(array) = batch.column_by_name(name) else {
        return V::missing(batch.num_rows()).ok_or_else(|| format!("column `{name}` is missing"));
    };
    V::read(array.as_ref()).map_err(|rule| format!("column `{name}`: {rule}"))
}

/// Defines a table: its row type and everything in [`Table`].
///
/// A column is written `/// meaning`, `deterministic` or `measured`, `name: Type`, and `= range` for numbers.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        $visibility:vis struct $row:ident in $name:literal, version $version:literal;
        order($($order:ident),+);
        key($($key:ident),+);
        references($($from:ident => $to:literal . $to_key:literal),*);
        columns {
            $($(#[doc = $doc:literal])+ $repeatability:ident $field:ident: $type:ty $(= $range:expr)?;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
        $visibility struct $row {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $crate::TableRow for $row {
            const NAME: &'static str = $name;

            fn table() -> &'static $crate::Table {
                static COLUMNS: &[$crate::Column] = &[$($crate::Column {
                    name: stringify!($field),
                    column_type: <$type as $crate::Value>::TYPE,
                    nullable: <$type as $crate::Value>::NULLABLE,
                    repeatability: table!(@repeatability $repeatability),
                    description: concat!($($doc),+).trim_ascii(),
                    range: table!(@range $($range)?),
                }),+];
                static TABLE: $crate::Table = $crate::Table {
                    name: $name,
                    description: concat!($($about),+).trim_ascii(),
                    version: $version,
                    columns: COLUMNS,
                    order: &[$(stringify!($order)),+],
                    key: &[$(stringify!($key)),+],
                    references: &[$($crate::table::Reference {
                        column: stringify!($from), table: $to, key: $to_key,
                    }),*],
                };
                &TABLE
            }

            fn arrays(rows: &[Self]) -> Vec<arrow_array::ArrayRef> {
                vec![$($crate::Value::array(rows.iter().map(|row| &row.$field))),+]
            }

            fn from_batch(batch: &arrow_array::RecordBatch) -> std::result::Result<Vec<Self>, String> {
                $(let mut $field =
                    $crate::table::read_column::<$type>(batch, stringify!($field))?.into_iter();)+
                let mut rows = Vec::with_capacity(batch.num_rows());
                while let ($(Some($field),)+) = ($($field.next(),)+) {
                    rows.push(Self { $($field),+ });
                }
                Ok(rows)
            }

            fn compare(&self, other: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal
                    $(.then_with(|| self.$order.cmp(&other.$order)))+
                    $(.then_with(|| self.$key.cmp(&other.$key)))+
            }

            fn key(&self) -> String {
                [$($crate::Value::text(&self.$key).unwrap_or_default()),+].join("/")
            }

            fn text_of(&self, column: &str) -> Option<String> {
                match column {
                    $(stringify!($field) => $crate::Value::text(&self.$field),)+
                    _ => None,
                }
            }

            fn out_of_range(&self) -> Option<String> {
                let table = <Self as $crate::TableRow>::table();
                let values = [$($crate::Value::number(&self.$field)),+];
                table.columns.iter().zip(values).find_map(|(column, value)| {
                    let (range, value) = (column.range.as_ref()?, value?);
                    (!range.contains(&value)).then(|| {
                        format!("`{}` is {value}, must lie in {} to {}", column.name, range.start(), range.end())
                    })
                })
            }
        }
    };
    (@repeatability deterministic) => { $crate::Repeatability::Deterministic };
    (@repeatability measured) => { $crate::Repeatability::Measured };
    (@range) => { None };
    (@range $range:expr) => { Some($range) };
}
pub(crate) use table;
