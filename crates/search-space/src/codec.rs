//! Cell strings: `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, read and written exactly in this form.
//!
//! Nothing is forgiven (spaces, other orders, other spellings): the string is a key of the database, and two spellings
//! of a cell would be two keys.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cell::{Cell, EDGE_COUNT, EDGES};
use crate::operation::Operation;

/// What stands before each operation's name, and after the last one.
const BEFORE: [&str; EDGE_COUNT] = ["|", "~0|+|", "~0|", "~1|+|", "~0|", "~1|"];
const AFTER: &str = "~2|";

/// Enough of a wrong text to recognise it; the rest could be a whole file.
const LONGEST_QUOTE: usize = 40;

/// Why a text is not a cell. Places count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CellError {
    /// A separator, a source number or the end of the text is not where it must be.
    #[error("not a cell: at character {place}, expected {expected}, found {found}; the form is {FORM}")]
    Text {
        /// Where, in characters from 1.
        place: usize,
        /// What the form asks for there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// The name on an edge is no operation.
    #[error(
        "not a cell: at character {place}, edge {from}→{to}: `{found}` is not an operation; expected `none`, \
         `skip_connect`, `nor_conv_1x1`, `nor_conv_3x3` or `avg_pool_3x3`"
    )]
    Operation {
        /// Where, in characters from 1.
        place: usize,
        /// The node the edge leaves.
        from: usize,
        /// The node the edge enters.
        to: usize,
        /// What stands there.
        found: String,
    },
}

const FORM: &str = "`|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`";

impl FromStr for Cell {
    type Err = CellError;

    fn from_str(text: &str) -> Result<Self, CellError> {
        let mut operations = [Operation::None; EDGE_COUNT];
        let mut rest = text;
        for (edge, separator) in BEFORE.into_iter().enumerate() {
            rest = after(text, rest, separator)?;
            let name = &rest[..rest.find(['~', '|', '+']).unwrap_or(rest.len())];
            operations[edge] = name.parse().map_err(|_| CellError::Operation {
                place: place(text, rest),
                from: EDGES[edge].0,
                to: EDGES[edge].1,
                found: quote(name),
            })?;
            rest = &rest[name.len()..];
        }
        rest = after(text, rest, AFTER)?;
        if rest.is_empty() {
            return Ok(Self::new(operations));
        }
        let found = format!("`{}`", quote(rest));
        Err(CellError::Text { place: place(text, rest), expected: "the end".to_owned(), found })
    }
}

/// What follows `separator`, with which `rest` must begin.
fn after<'a>(text: &str, rest: &'a str, separator: &str) -> Result<&'a str, CellError> {
    rest.strip_prefix(separator).ok_or_else(|| {
        let there: String = rest.chars().take(separator.chars().count()).collect();
        let found = if there.is_empty() { "the end".to_owned() } else { format!("`{there}`") };
        CellError::Text { place: place(text, rest), expected: format!("`{separator}`"), found }
    })
}

/// The number of the character with which the tail `rest` of `text` begins, from 1.
fn place(text: &str, rest: &str) -> usize {
    // What was read so far is separators and operations, which are ASCII: bytes are characters.
    text.len() - rest.len() + 1
}

fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(LONGEST_QUOTE).collect();
    if quoted.len() < text.len() {
        quoted.push('…');
    }
    quoted
}

impl fmt::Display for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (separator, operation) in BEFORE.into_iter().zip(self.operations()) {
            out.write_str(separator)?;
            out.write_str(operation.name())?;
        }
        out.write_str(AFTER)
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cell {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
