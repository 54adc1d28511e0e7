//! Which cell a row speaks of: by its text, its NATS-Bench number, or both, which must then agree.

use metad2a_search_space::{ArchIndex, Cell};

use crate::problems::Problems;
use crate::sheet::{Column, Sheet};

const TEXT: [&str; 3] = ["arch", "cell", "arch_str"];
const NUMBER: [&str; 2] = ["arch_index", "nb201_index"];

/// The columns that name cells.
pub(crate) struct CellColumns<'a> {
    text: Option<Column<'a>>,
    number: Option<Column<'a>>,
}

impl<'a> CellColumns<'a> {
    pub(crate) fn of(sheet: &'a Sheet, file: &str, problems: &mut Problems) -> Self {
        let columns =
            Self { text: sheet.optional(&TEXT, problems), number: sheet.optional(&NUMBER, problems) };
        if !sheet.has(&TEXT) && !sheet.has(&NUMBER) {
            problems.of_file(file, sheet.lacks(&["arch", "arch_index"]));
        }
        columns
    }

    /// The cell of a row, counted from 0.
    pub(crate) fn cell(&self, row: usize, problems: &mut Problems) -> Option<Cell> {
        let text = self.text.as_ref().map(|column| {
            let text = column.text(row, problems)?;
            text.parse::<Cell>().map_err(|error| column.problem(row, error.to_string(), problems)).ok()
        });
        let number = self.number.as_ref().map(|column| {
            let number = column.integer(row, 0, 15_624, problems)?;
            ArchIndex::try_from(u32::try_from(number).ok()?).ok()
        });
        match (text, number) {
            (Some(cell), None) => cell,
            (None, Some(number)) => Some(number?.cell()),
            (Some(cell), Some(number)) => {
                let (cell, number) = (cell?, number?);
                if cell.index() != number
                    && let Some(column) = &self.number
                {
                    let rule = format!("is {number}, but `{cell}` has the number {}", cell.index());
                    column.problem(row, rule, problems);
                    return None;
                }
                Some(cell)
            }
            (None, None) => None,
        }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        [&self.text, &self.number].into_iter().flatten().map(Column::name)
    }
}
