//! What can go wrong, by what the caller can do about it.

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration breaks a rule: correct it.
    #[error("{what} is {found}, but {rule}")]
    Config {
        /// The field.
        what: &'static str,
        /// Its value.
        found: String,
        /// What it must keep to.
        rule: &'static str,
    },
    /// A stored model or optimiser state does not fit: use the file that belongs to this configuration.
    #[error("the {file} does not fit: {reason}")]
    Checkpoint {
        /// Which file: "generator", "predictor" or "optimiser state".
        file: &'static str,
        /// What is wrong with it, naming the tensor.
        reason: String,
    },
    /// The data cannot be learnt from or searched with: correct the named dataset.
    #[error("dataset `{dataset}` cannot be used: {rule}")]
    Data {
        /// The dataset's id.
        dataset: String,
        /// What is wrong with it.
        rule: String,
    },
    /// The loss is no number any more: lower the learning rate.
    #[error(
        "the loss of step {step} is not finite; lower the learning rate or check the features for extremes"
    )]
    Diverged {
        /// The first step with such a loss.
        step: u64,
    },
    /// A finite but unusual failure of libtorch, such as a device that ran out of memory.
    #[error("libtorch failed: {}", first_line(.0))]
    Torch(#[from] tch::TchError),
}

/// libtorch appends twenty lines of C++ addresses to every message.
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Fails with [`Error::Config`] unless `holds`.
pub(crate) fn require(
    holds: bool,
    what: &'static str,
    found: &impl std::fmt::Display,
    rule: &'static str,
) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::Config { what, found: found.to_string(), rule }) }
}
