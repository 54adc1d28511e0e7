//! How a Rust value becomes a cell of an Arrow column, and back.

use std::sync::Arc;

use arrow_array::builder::{Float32Builder, Int64Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, PrimitiveArray, StringArray,
    TimestampMicrosecondArray,
};
use chrono::{DateTime, Utc};

use crate::table::{ColumnType, list_item};

/// A value that a column can hold. An `Option` of one makes the column nullable.
pub trait Value: Sized {
    /// What the column is.
    const TYPE: ColumnType;
    /// Whether the column may hold nulls.
    const NULLABLE: bool = false;

    /// A column of these values.
    fn array<'a>(values: impl ExactSizeIterator<Item = &'a Self>) -> ArrayRef
    where
        Self: 'a,
    {
        Self::optional_array(values.map(Some))
    }

    /// A column where some values may be missing.
    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef
    where
        Self: 'a;

    /// The values of a column that may have nulls. The error is the rule that is broken.
    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String>;

    /// The values of a column. The error is the rule that is broken.
    fn read(array: &dyn Array) -> Result<Vec<Self>, String> {
        Self::read_optional(array)?
            .into_iter()
            .map(|value| value.ok_or_else(|| "must not be null".to_owned()))
            .collect()
    }

    /// What a column reads as that an older file does not have, if that is possible.
    fn missing(_rows: usize) -> Option<Vec<Self>> {
        None
    }

    /// As a number, for range checks.
    fn number(&self) -> Option<f64> {
        None
    }

    /// As text, for keys and references.
    fn text(&self) -> Option<String> {
        None
    }
}

impl<V: Value> Value for Option<V> {
    const TYPE: ColumnType = V::TYPE;
    const NULLABLE: bool = true;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef
    where
        Self: 'a,
    {
        V::optional_array(values.map(|value| value.and_then(Option::as_ref)))
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        Ok(V::read_optional(array)?.into_iter().map(Some).collect())
    }

    fn missing(rows: usize) -> Option<Vec<Self>> {
        Some((0..rows).map(|_| None).collect())
    }

    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(V::number)
    }

    fn text(&self) -> Option<String> {
        self.as_ref().and_then(V::text)
    }
}

fn wrong_type(expected: ColumnType, array: &dyn Array) -> String {
    format!("must be {}, is {}", expected.name(), array.data_type())
}

fn primitives<T: ArrowPrimitiveType>(
    expected: ColumnType,
    array: &dyn Array,
) -> Result<&PrimitiveArray<T>, String> {
    array.as_primitive_opt::<T>().ok_or_else(|| wrong_type(expected, array))
}

impl Value for i64 {
    const TYPE: ColumnType = ColumnType::Integer;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(Option::<&i64>::copied).collect::<Int64Array>())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        Ok(primitives::<Int64Type>(Self::TYPE, array)?.iter().collect())
    }

    fn number(&self) -> Option<f64> {
        Some(*self as f64)
    }

    fn text(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for f64 {
    const TYPE: ColumnType = ColumnType::Float;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(Option::<&f64>::copied).collect::<Float64Array>())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        Ok(primitives::<Float64Type>(Self::TYPE, array)?.iter().collect())
    }

    fn number(&self) -> Option<f64> {
        Some(*self)
    }
}

impl Value for bool {
    const TYPE: ColumnType = ColumnType::Boolean;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(Option::<&bool>::copied).collect::<BooleanArray>())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        let array = array.as_boolean_opt().ok_or_else(|| wrong_type(Self::TYPE, array))?;
        Ok(array.iter().collect())
    }
}

impl Value for String {
    const TYPE: ColumnType = ColumnType::Text;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        Arc::new(values.map(|value| value.map(String::as_str)).collect::<StringArray>())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        let array = array.as_string_opt::<i32>().ok_or_else(|| wrong_type(Self::TYPE, array))?;
        Ok(array.iter().map(|value| value.map(str::to_owned)).collect())
    }

    fn text(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Value for DateTime<Utc> {
    const TYPE: ColumnType = ColumnType::Time;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        let array: TimestampMicrosecondArray =
            values.map(|value| value.map(Self::timestamp_micros)).collect();
        Arc::new(array.with_timezone("UTC"))
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        primitives::<TimestampMicrosecondType>(Self::TYPE, array)?
            .iter()
            .map(|value| match value {
                None => Ok(None),
                Some(micros) => DateTime::from_timestamp_micros(micros)
                    .map(Some)
                    .ok_or_else(|| format!("{micros} microseconds is no time")),
            })
            .collect()
    }

    fn text(&self) -> Option<String> {
        Some(self.to_rfc3339())
    }
}

/// The rows of a list column, without nulls inside.
fn lists(expected: ColumnType, array: &dyn Array) -> Result<&ListArray, String> {
    array.as_list_opt::<i32>().ok_or_else(|| wrong_type(expected, array))
}

fn list_rows<V: Value>(expected: ColumnType, array: &dyn Array) -> Result<Vec<Option<Vec<V>>>, String> {
    lists(expected, array)?.iter().map(|row| row.map(|row| V::read(row.as_ref())).transpose()).collect()
}

impl Value for Vec<f32> {
    const TYPE: ColumnType = ColumnType::Vector;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        let mut builder =
            ListBuilder::new(Float32Builder::new()).with_field(list_item(arrow_schema::DataType::Float32));
        for value in values {
            if let Some(numbers) = value {
                builder.values().append_slice(numbers);
            }
            builder.append(value.is_some());
        }
        Arc::new(builder.finish())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        lists(Self::TYPE, array)?
            .iter()
            .map(|row| {
                let Some(row) = row else { return Ok(None) };
                let numbers = primitives::<Float32Type>(Self::TYPE, row.as_ref())?;
                if numbers.null_count() > 0 {
                    return Err("must hold no nulls inside its lists".to_owned());
                }
                Ok(Some(numbers.values().to_vec()))
            })
            .collect()
    }
}

impl Value for Vec<i64> {
    const TYPE: ColumnType = ColumnType::Integers;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        let mut builder =
            ListBuilder::new(Int64Builder::new()).with_field(list_item(arrow_schema::DataType::Int64));
        for value in values {
            if let Some(numbers) = value {
                builder.values().append_slice(numbers);
            }
            builder.append(value.is_some());
        }
        Arc::new(builder.finish())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        list_rows(Self::TYPE, array)
    }
}

impl Value for Vec<String> {
    const TYPE: ColumnType = ColumnType::Texts;

    fn optional_array<'a>(values: impl ExactSizeIterator<Item = Option<&'a Self>>) -> ArrayRef {
        let mut builder =
            ListBuilder::new(StringBuilder::new()).with_field(list_item(arrow_schema::DataType::Utf8));
        for value in values {
            for text in value.into_iter().flatten() {
                builder.values().append_value(text);
            }
            builder.append(value.is_some());
        }
        Arc::new(builder.finish())
    }

    fn read_optional(array: &dyn Array) -> Result<Vec<Option<Self>>, String> {
        list_rows(Self::TYPE, array)
    }
}
