//! What is wrong with a file from outside: each problem by file, row, column and rule, all of them at once.

use std::fmt::{self, Write};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// From 1, without a heading; none where the problem is not one row's.
    pub row: Option<u64>,
    pub column: Option<String>,
    /// Completes the sentence that begins with the place.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`", self.file)?;
        if let Some(row) = self.row {
            write!(formatter, ", row {row}")?;
        }
        if let Some(column) = &self.column {
            write!(formatter, ", column `{column}`")?;
        }
        write!(formatter, ": {}", self.rule)
    }
}

/// A file that is not imported; nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("nothing was imported: {}", list(problems, *more))]
    Rejected {
        problems: Vec<Problem>,
        /// Further problems beyond the limit.
        more: u64,
    },
    /// A declaration that cannot be, whatever the file holds.
    #[error("`{flag}` {rule}")]
    Declaration { flag: &'static str, rule: String },
    /// A table that cannot be written out.
    #[error("{0}")]
    Export(String),
}

fn list(problems: &[Problem], more: u64) -> String {
    let total = problems.len() as u64 + more;
    let mut text = format!("{total} {} to mend", if total == 1 { "problem" } else { "problems" });
    for problem in problems {
        let _ = write!(text, "\n  {problem}");
    }
    if more > 0 {
        let _ = write!(text, "\n  … and {more} more; `--max-problems` shows more at once");
    }
    text
}

/// Collects problems up to a limit, and counts the rest.
#[derive(Debug)]
pub(crate) struct Problems {
    limit: usize,
    found: Vec<Problem>,
    more: u64,
}

impl Problems {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, found: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, problem: Problem) {
        if self.found.len() < self.limit { self.found.push(problem) } else { self.more += 1 }
    }

    /// A problem of a whole file.
    pub(crate) fn of_file(&mut self, file: &str, rule: impl Into<String>) {
        self.add(Problem { file: file.to_owned(), row: None, column: None, rule: rule.into() });
    }

    /// A problem of a whole row; `row` from 0.
    pub(crate) fn of_row(&mut self, file: &str, row: usize, rule: impl Into<String>) {
        let row = Some(row as u64 + 1);
        self.add(Problem { file: file.to_owned(), row, column: None, rule: rule.into() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.more == 0
    }

    /// `value` if nothing is wrong, every problem otherwise.
    pub(crate) fn settle<T>(self, value: T) -> Result<T, Error> {
        if self.is_empty() { Ok(value) } else { Err(self.into_error()) }
    }

    pub(crate) fn into_error(self) -> Error {
        Error::Rejected { problems: self.found, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once_up_to_the_limit() {
        let mut problems = Problems::new(2);
        problems.of_file("rows.csv", "has no column `arch`");
        for row in 0..3 {
            problems.of_row("rows.csv", row, "is bad");
        }
        insta::assert_snapshot!(problems.settle(()).unwrap_err(), @"
        nothing was imported: 4 problems to mend
          `rows.csv`: has no column `arch`
          `rows.csv`, row 1: is bad
          … and 2 more; `--max-problems` shows more at once
        ");
    }

    #[test]
    fn even_with_a_limit_of_nothing_a_problem_stops_the_import() {
        let mut problems = Problems::new(0);
        problems.of_file("rows.csv", "is bad");
        assert!(problems.settle(()).is_err());
    }
}
