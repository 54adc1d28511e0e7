//! What can go wrong, sorted by what the caller can do about it.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the caller chose breaks a rule.
    #[error("`{name}` must be {rule}, got `{value}`")]
    Invalid {
        /// The field or argument.
        name: &'static str,
        /// What it must be.
        rule: String,
        /// What it is.
        value: String,
    },

    /// A file could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },

    /// Bytes that are not safetensors.
    #[error("`{origin}` is not a readable safetensors file; fetch or export it again")]
    Format {
        /// The file, or what the bytes are.
        origin: String,
        /// Why.
        #[source]
        source: safetensors::SafeTensorError,
    },

    /// Weights of another network: names, shapes or kinds differ from what this one has.
    #[error("the weights in `{origin}` do not fit {network}: {}", problems.join("; "))]
    Weights {
        /// The file, or what the tensors are.
        origin: String,
        /// What they were loaded into.
        network: String,
        /// Every difference, or the first few and how many more.
        problems: Vec<String>,
    },

    /// A checkpoint that is damaged, or of another training: use the one before it, or begin anew.
    #[error("the checkpoint does not fit the training of unit `{unit_id}`: {reason}")]
    Checkpoint {
        /// The training that was to go on.
        unit_id: String,
        /// The first difference.
        reason: String,
    },

    /// libtorch refused an operation, for example for want of memory.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // The rest of the message is some twenty lines of C++ backtrace.
        let text = error.to_string();
        Self::Torch(text.lines().next().unwrap_or_default().to_owned())
    }
}

/// `Ok` where `holds`; otherwise the error that names the argument, the rule and the value.
pub(crate) fn require(
    holds: bool,
    name: &'static str,
    rule: impl Into<String>,
    value: impl std::fmt::Display,
) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Invalid { name, rule: rule.into(), value: value.to_string() }) }
}
