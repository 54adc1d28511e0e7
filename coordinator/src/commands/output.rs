//! Answers go to standard output, everything else to standard error.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::cli::Format;

/// Prints what a command found, in the form that was asked for.
pub(super) fn answer<T: Serialize + ?Sized>(
    format: Format,
    found: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    try_answer(format, found, |found| Ok(table(found)))
}

/// The same where what was found may turn out to be unreadable.
pub(super) fn try_answer<T: Serialize + ?Sized>(
    format: Format,
    found: &T,
    table: impl FnOnce(&T) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(found)?),
        Format::Table => print(&table(found)?),
    }
}

/// Prints a text with one line end behind it.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    write(&mut std::io::stdout().lock(), text.trim_end())
}

/// Whoever reads may leave when they have seen enough: what was done is done, and nobody misses the rest.
fn write(output: &mut impl Write, text: &str) -> anyhow::Result<()> {
    is_read(writeln!(output, "{text}").and_then(|()| output.flush()))?;
    Ok(())
}

/// False where whoever reads has left (`… | head -1`), which is no error.
pub(super) fn is_read(written: std::io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("the answer cannot be written to standard output"),
    }
}

/// Writes a file whole or not at all: a reader never sees half a file.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let failed = || format!("`{}` cannot be written", path.display());
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    let staged = path.with_file_name(name);
    let written = std::fs::write(&staged, bytes).and_then(|()| std::fs::rename(&staged, path));
    if written.is_err() {
        // What could not be written whole is of no use; that it may not be there to remove is no second error.
        let _ = std::fs::remove_file(&staged);
    }
    written.with_context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes one piece, and fails then.
    struct Failing(ErrorKind, Vec<u8>);

    impl Write for Failing {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            if !self.1.is_empty() {
                return Err(self.0.into());
            }
            self.1.extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_who_leaves_ends_an_answer_quietly() {
        let mut output = Failing(ErrorKind::BrokenPipe, Vec::new());
        write(&mut output, "first line").unwrap();
        assert!(output.1.starts_with(b"first line"));
        assert!(!is_read(Err(ErrorKind::BrokenPipe.into())).unwrap(), "a watch ends then");
        assert!(is_read(Ok(())).unwrap());
    }

    #[test]
    fn an_answer_that_cannot_be_written_is_an_error() {
        let mut output = Failing(ErrorKind::StorageFull, Vec::new());
        let error = format!("{:#}", write(&mut output, "x").unwrap_err());
        assert_eq!(error, "the answer cannot be written to standard output: no storage space");
    }
}
