//! What is done about a unit that cannot be trained. Pure.
//!
//! ```text
//!   a refusal that repeating gives again ──────────► a row that says so; its companions go on
//!   memory: another moment or machine may have more ► another attempt; a row where there is none left
//!   an accelerator that failed, a file ─────────────► another attempt, in the end cell by cell
//! ```
//!
//! A training that lost its numbers is no failure: see [`metad2a_networks::Status::Diverged`].

use metad2a_networks::Error;

/// What is done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The unit becomes a row with the status `failed` and this reason.
    Row(String),
    /// The attempt has failed: nothing says that it is the unit's own fault.
    Attempt,
}

/// What is done about `error` in an attempt that is, or is not, the task's last.
pub(super) fn answer(error: &Error, batch_size: u32, is_last_attempt: bool) -> Answer {
    match error {
        Error::Invalid { .. } | Error::Format { .. } | Error::Weights { .. } | Error::Torch(_) => {
            Answer::Row(error.to_string())
        }
        Error::Memory(_) if is_last_attempt => Answer::Row(format!(
            "{error}; train it on a device with more memory, or with a recipe of a smaller `batch_size` (now \
             {batch_size}), `channels` or `image_size`"
        )),
        Error::Memory(_) | Error::Device(_) | Error::File { .. } | Error::Checkpoint { .. } => {
            Answer::Attempt
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_row_at_once_and_a_failed_accelerator_never() {
        for is_last in [false, true] {
            let refused = Error::Torch("the sizes do not match".into());
            let row = Answer::Row("libtorch: the sizes do not match".into());
            assert_eq!(answer(&refused, 256, is_last), row);
            let broken = Error::Device("CUDA error: unspecified launch failure".into());
            assert_eq!(answer(&broken, 256, is_last), Answer::Attempt);
        }
    }

    #[test]
    fn memory_may_suffice_in_another_attempt_and_the_last_one_says_what_would_help() {
        let error = Error::Memory("you tried to allocate 9 bytes".into());
        assert_eq!(answer(&error, 256, false), Answer::Attempt);
        let Answer::Row(reason) = answer(&error, 256, true) else { panic!("a row") };
        assert_eq!(
            reason,
            "libtorch has not enough memory: you tried to allocate 9 bytes; train it on a device with more memory, or \
             with a recipe of a smaller `batch_size` (now 256), `channels` or `image_size`"
        );
    }
}
