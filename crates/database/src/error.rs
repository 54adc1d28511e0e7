//! What can go wrong, by what the caller can do about it.

/// The result of every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store refused or could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the store cannot be used.
    #[error("store `{url}`: {rule}")]
    Url { url: String, rule: String },

    /// The store was opened read-only.
    #[error("store `{url}` is open for reading only; `{path}` was not written: open it with write access")]
    ReadOnly { url: String, path: String },

    /// The server overwrites where it must refuse. Nothing would be safe on it.
    #[error(
        "store `{url}` does not honour put-if-absent ({found}): two workers could overwrite each other's commits; \
         use a store with conditional writes (a local folder, S3, GCS, Azure, SeaweedFS 4.17 or newer)"
    )]
    NoPutIfAbsent { url: String, found: String },

    /// The layout was written by a newer version of the product.
    #[error(
        "store `{url}` has layout version {found}, this program knows {supported}: use a newer version of it"
    )]
    Layout { url: String, found: u32, supported: u32 },

    /// The folder or bucket holds no database.
    #[error(
        "store `{url}` holds no database (no `format.json`): check the address, or open it with write access once"
    )]
    NoDatabase { url: String },

    /// A name that is part of a path breaks the rule for names.
    #[error("{what} `{name}`: {rule}")]
    Name { what: &'static str, name: String, rule: &'static str },

    /// The object store failed; its own message is the source.
    #[error("could not {action} `{path}` in the object store: {source}")]
    Storage {
        action: &'static str,
        path: String,
        #[source]
        source: object_store::Error,
    },

    /// The outcome of a conditional write stayed unknown after several attempts.
    #[error(
        "could not learn whether `{path}` was written after {attempts} attempts: check the object store and run again"
    )]
    Unsettled { path: String, attempts: u32 },

    /// Something that must be there is not.
    #[error("`{path}` is missing from the store: {consequence}")]
    Missing { path: String, consequence: String },

    /// A data file does not hold what its name says.
    #[error(
        "`{path}` is damaged: its content has sha256 `{found}` ({found_bytes} bytes), but `{expected}` was committed; \
         restore it from a copy, or remove the marker that names it and run again"
    )]
    Damaged { path: String, expected: String, found: String, found_bytes: u64 },

    /// A data file does not have the size that its name was given with.
    #[error(
        "`{path}` has {found} bytes, {expected} were stored: it was cut short or replaced; restore it from a copy, or \
         remove the marker that names it and run again"
    )]
    Size { path: String, expected: u64, found: u64 },

    /// A JSON object cannot be read as what it should be.
    #[error("`{path}` is not a valid {what}: {source}")]
    Json {
        path: String,
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },

    /// A Parquet file cannot be read, or does not have its table's columns.
    #[error("`{path}`, table `{table}`: {rule}")]
    Parquet { path: String, table: &'static str, rule: String },

    /// A caller's own input breaks a rule.
    #[error("{what}: {rule}")]
    Invalid { what: String, rule: String },

    /// The draft is not published; the current snapshot stays as it is.
    #[error("snapshot of `{pipeline}` was not published: {}", violations.join("; "))]
    Checks { pipeline: String, violations: Vec<String> },
}

impl Error {
    /// Worth trying again after a pause, or certain to fail the same way?
    pub fn is_retryable(&self) -> bool {
        // No `_` arm: whoever adds a variant must choose.
        match self {
            Error::Storage { source, .. } => is_transient(source),
            Error::Unsettled { .. } => true,
            Error::Url { .. }
            | Error::ReadOnly { .. }
            | Error::NoPutIfAbsent { .. }
            | Error::Layout { .. }
            | Error::NoDatabase { .. }
            | Error::Name { .. }
            | Error::Missing { .. }
            | Error::Damaged { .. }
            | Error::Size { .. }
            | Error::Json { .. }
            | Error::Parquet { .. }
            | Error::Invalid { .. }
            | Error::Checks { .. } => false,
        }
    }
}

/// `Generic` is what the crate returns for time-outs, refused connections and server errors.
pub(crate) fn is_transient(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::Generic { .. } | object_store::Error::JoinError { .. })
}
