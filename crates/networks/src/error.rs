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

    /// The machine or its accelerator has not the memory. Fewer pictures at once may fit, or another moment.
    #[error("libtorch has not enough memory: {0}")]
    Memory(String),

    /// The accelerator or one of its libraries failed. What this process does on it next is likely to fail, too.
    #[error("the accelerator failed: {0}")]
    Device(String),

    /// libtorch refused an operation for any other reason.
    #[error("libtorch: {0}")]
    Torch(String),
}

/// What libtorch's allocators and the libraries below it say of a lack of memory, on the CPU and on CUDA.
const OF_MEMORY: [&str; 5] =
    ["you tried to allocate", "out of memory", "OUT_OF_MEMORY", "_ALLOC_FAILED", "bad_alloc"];

/// What they say where an accelerator failed.
const OF_THE_DEVICE: [&str; 5] =
    ["CUDA error", "CUDA driver", "cuDNN error", "CUDNN_STATUS", "CUBLAS_STATUS"];

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        // The rest of the message is some twenty lines of C++ backtrace.
        let text = error.to_string();
        let text = text.lines().next().unwrap_or_default().to_owned();
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        // The accelerator's own words for a lack of memory are of both sorts.
        if says(&OF_MEMORY) {
            Self::Memory(text)
        } else if says(&OF_THE_DEVICE) {
            Self::Device(text)
        } else {
            Self::Torch(text)
        }
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

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, TchError, Tensor};

    use super::*;

    #[test]
    fn what_the_allocator_refuses_is_a_lack_of_memory_and_a_wrong_shape_is_not() {
        // More than any address space holds, so that no machine can grant it.
        let refused = Tensor::f_empty([1_i64 << 50], (Kind::Float, Device::Cpu)).unwrap_err();
        assert!(matches!(Error::from(refused), Error::Memory(_)));
        let ones = |count: i64| Tensor::ones([count], (Kind::Float, Device::Cpu));
        let unequal = ones(2).f_add(&ones(3)).unwrap_err();
        assert!(matches!(Error::from(unequal), Error::Torch(_)));
    }

    #[test]
    fn words_of_an_accelerator_are_sorted_by_what_they_mean_for_the_next_operation() {
        let error = |text: &str| Error::from(TchError::Torch(format!("{text}\nException raised from …")));
        for text in [
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15.77 GiB",
            "CUDA error: out of memory",
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ] {
            assert!(matches!(error(text), Error::Memory(_)), "{text}");
        }
        for text in [
            "CUDA error: an illegal memory access was encountered",
            "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        ] {
            assert!(matches!(error(text), Error::Device(_)), "{text}");
        }
        assert_eq!(
            error("CUDA error: unspecified launch failure").to_string(),
            "the accelerator failed: Internal torch error: CUDA error: unspecified launch failure"
        );
    }
}
