//! Waiting for a store that does not answer.
//!
//! Workers may be far into their tasks, and a run that left them would come back to the same store: so a run waits,
//! however long, and says so.

use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Repeats something that is harmless to repeat, until the store answers it. Other errors are returned.
pub(crate) async fn until_the_store_answers<T>(
    ask: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut pause = FIRST_PAUSE;
    loop {
        match ask().await {
            Err(error) if is_out_of_reach(&error) => {
                tracing::warn!(?pause, "{error:#}; the run goes on when the store answers again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            answered => return answered,
        }
    }
}

fn is_out_of_reach(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<metad2a_database::Error>())
        .any(metad2a_database::Error::is_retryable)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::Context;
    use metad2a_database::Error;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_run_outwaits_a_store_that_does_not_answer() {
        let asked = Cell::new(0);
        let answer = until_the_store_answers(async || {
            asked.set(asked.get() + 1);
            if asked.get() < 200 {
                let silent = Error::Unsettled { path: "decisions/x/0.json".into(), attempts: 9 };
                return Err(silent).context("round 3 of the generator");
            }
            Ok("the record")
        });
        assert_eq!(answer.await.unwrap(), "the record");
        assert_eq!(asked.get(), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_waiting_does_not_cure_is_returned_at_once() {
        let asked = Cell::new(0);
        let answer: anyhow::Result<()> = until_the_store_answers(async || {
            asked.set(asked.get() + 1);
            let missing = Error::Missing { path: "results/x".into(), consequence: "restore it".into() };
            Err(missing).context("round 3 of the generator")
        })
        .await;
        assert!(answer.unwrap_err().to_string().contains("round 3"));
        assert_eq!(asked.get(), 1);
    }
}
