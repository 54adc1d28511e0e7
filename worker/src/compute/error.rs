//! Which errors no further attempt can cure.

use metad2a_pipeline::halving::BrokenRule;

/// An input of a task that breaks a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadInput {
    #[error(
        "the message names no place for image source `{source_id}`; the coordinator that published the task must know it"
    )]
    UnknownSource { source_id: String },
    #[error(
        "the message names no file for the extractor weights of SHA-256 `{sha256}`; `metad2a` publishes it with the task"
    )]
    UnknownWeights { sha256: String },
    #[error(
        "`{path}` has SHA-256 `{found}` where the task asks for `{expected}`; fetch the extractor's weights again"
    )]
    OtherWeights { path: String, expected: String, found: String },
    #[error("image source `{source_name}` has no format `{format}`: {reason}")]
    UnknownFormat { source_name: String, format: String, reason: String },
    #[error(
        "class {class} of image source `{source_name}` has no picture in the training split; leave the class out"
    )]
    EmptyClass { source_name: String, class: u32 },
    #[error("{what} is not a finite number: the training diverged; lower its learning rate")]
    Diverged { what: &'static str },
    #[error("training set `{id}`: {rule}")]
    TrainingSet { id: String, rule: String },
    #[error("the recipe's {0}")]
    Halving(#[from] BrokenRule),
    #[error(
        "dataset `{dataset}` has no validation pictures, by which its recipe compares units: ask for some in its \
         `pictures_per_class`, or halve by `train-loss-sum`"
    )]
    NotValidated { dataset: String },
    #[error("dataset `{dataset}`: class {class} is in none of its feature tables")]
    NoFeatures { dataset: String, class: u32 },
}

/// True where the same task must fail the same way again: bad input, as opposed to a lack of memory, a network or a
/// file that may come back.
pub(super) fn is_permanent(error: &anyhow::Error) -> bool {
    // Of an image source, what the disk or the network said may be otherwise next time; what the files hold may not.
    let is_transport = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<std::io::Error>() || cause.is::<object_store::Error>()
    };
    if error.chain().any(is_transport) {
        return false;
    }
    error.chain().any(|cause| {
        if cause.is::<BadInput>() || cause.is::<metad2a_images::Error>() {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<metad2a_networks::Error>() {
            return match error {
                metad2a_networks::Error::Invalid { .. }
                | metad2a_networks::Error::Format { .. }
                | metad2a_networks::Error::Weights { .. } => true,
                // A task tries an older checkpoint or none; what it is blamed for is never the checkpoint.
                metad2a_networks::Error::Checkpoint { .. }
                | metad2a_networks::Error::File { .. }
                | metad2a_networks::Error::Memory(_)
                | metad2a_networks::Error::Device(_)
                | metad2a_networks::Error::Torch(_) => false,
            };
        }
        if let Some(error) = cause.downcast_ref::<metad2a_model::Error>() {
            return match error {
                metad2a_model::Error::Config { .. }
                | metad2a_model::Error::Checkpoint { .. }
                | metad2a_model::Error::Data { .. }
                | metad2a_model::Error::Diverged { .. } => true,
                metad2a_model::Error::Torch(_) => false,
            };
        }
        false
    })
}

/// True where a store or a server of pictures did not answer, or not to us: no task's fault, however often it happens.
pub(super) fn is_out_of_reach(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<metad2a_database::Error>()
            && error.is_retryable()
        {
            return true;
        }
        matches!(
            cause.downcast_ref::<object_store::Error>(),
            Some(
                object_store::Error::Generic { .. }
                    | object_store::Error::JoinError { .. }
                    | object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
            )
        )
    })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn what_a_disk_or_network_said_may_be_otherwise_next_time() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        let error = anyhow::Error::new(missing).context("cannot read the extractor weights");
        assert!(!is_permanent(&error));
        let memory = metad2a_networks::Error::Memory("64 pictures".into());
        assert!(!is_permanent(&anyhow::Error::new(memory)));
    }

    #[test]
    fn a_store_that_does_not_answer_is_no_tasks_fault_and_a_missing_file_may_be() {
        let storage = |source| {
            let path = "results/features/00/00.parquet".to_owned();
            let error = metad2a_database::Error::Storage { action: "read", path, source };
            anyhow::Error::new(error).context("cannot read the features")
        };
        let silent = object_store::Error::Generic { store: "S3", source: "503 Slow Down".into() };
        assert!(is_out_of_reach(&storage(silent)));
        let path = "k".to_owned();
        let expired = object_store::Error::PermissionDenied { path: path.clone(), source: "403".into() };
        assert!(is_out_of_reach(&storage(expired)));
        let missing = object_store::Error::NotFound { path, source: "404".into() };
        assert!(!is_out_of_reach(&storage(missing)));
        let unsettled = metad2a_database::Error::Unsettled { path: "p".into(), attempts: 9 };
        assert!(is_out_of_reach(&anyhow::Error::new(unsettled)));
        let memory = metad2a_networks::Error::Memory("64 pictures".into());
        assert!(!is_out_of_reach(&anyhow::Error::new(memory)));
    }

    #[test]
    fn bad_input_stays_bad_under_any_context() {
        let bad: Result<(), BadInput> = Err(BadInput::Diverged { what: "the loss" });
        assert!(is_permanent(&bad.context("cannot train").unwrap_err()));
    }
}
