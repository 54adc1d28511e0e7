//! What can be wrong with a source, by what the person can do about it.

/// The result of every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A source that cannot be read, or a dataset that cannot be drawn from it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name of a form that is not read.
    #[error("`{found}` is not a form of image source; known: {known}")]
    Format { found: String, known: String },

    /// Not as many files as the form needs.
    #[error("an {format} source needs {needed}, got {found} paths")]
    PathCount { format: &'static str, needed: &'static str, found: usize },

    /// A file, folder or URL that cannot be read at all.
    #[error("`{path}` cannot be read: {reason}; check the path and its permissions")]
    Unreadable { path: String, reason: String },

    /// A file that breaks a rule of its form at some place.
    #[error("`{file}`, {place}: {rule}")]
    Invalid { file: String, place: String, rule: String },

    /// A label that was asked for and is not there.
    #[error(
        "class {label} has no picture in the source `{source_name}`; its index lists the classes that have"
    )]
    UnknownClass { source_name: String, label: u32 },

    /// A source that is not what it was when it was indexed.
    #[error(
        "`{source_name}` changed while the pipeline was running; run it again to take in what is there now"
    )]
    Changed { source_name: String },

    /// A dataset with one class under two numbers.
    #[error("dataset `{key}` names a class twice; each may be named once")]
    ClassTwice { key: String },

    /// Too few pictures to train on.
    #[error(
        "dataset `{key}`: class {label} has {found} {split} pictures and needs {wanted}; take the class out, or give \
         the split a larger share"
    )]
    ClassTooSmall { key: String, label: u32, split: &'static str, found: usize, wanted: usize },
}

impl Error {
    /// Worth trying again after a pause, or certain to fail the same way?
    pub fn is_retryable(&self) -> bool {
        // No `_` arm: whoever adds a variant must choose.
        match self {
            // A share that is not mounted yet, a server that is away.
            Self::Unreadable { .. } => true,
            Self::Format { .. }
            | Self::PathCount { .. }
            | Self::Invalid { .. }
            | Self::UnknownClass { .. }
            | Self::Changed { .. }
            | Self::ClassTwice { .. }
            | Self::ClassTooSmall { .. } => false,
        }
    }

    pub(crate) fn invalid(file: &str, place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { file: file.to_owned(), place: place.into(), rule: rule.into() }
    }
}
