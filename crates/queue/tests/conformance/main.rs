//! One suite for every back-end: what the crate's page promises, checked on each of them and on the wrapper.
//!
//! [`suite`] holds on a calm queue; [`rough`] holds however badly the queue behaves.

#![expect(clippy::unwrap_used, reason = "a failed call fails the test")]

mod rough;
mod site;
mod suite;

use site::{MemorySite, QuietSite, RabbitSite, SqliteSite};

/// One test for one rule. The attributes travel as one group of tokens.
macro_rules! rule {
    ({$($attributes:tt)*}, $site:expr, $rule:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $($attributes)*
        async fn $rule() {
            let site = $site;
            site::within(suite::$rule(&site)).await;
        }
    };
}

/// A module for one back-end, with one test per rule.
macro_rules! conformance {
    ($backend:ident, $site:expr, $attributes:tt, [$($rule:ident),* $(,)?]) => {
        mod $backend {
            use super::*;
            $(rule!($attributes, $site, $rule);)*
        }
    };
}

/// The rules are listed once, so that no back-end can forget one.
macro_rules! conformance_of {
    ($backend:ident, $site:expr, $attributes:tt) => {
        conformance!(
            $backend,
            $site,
            $attributes,
            [
                messages_arrive_in_order_with_body_and_headers,
                a_batch_with_a_message_over_the_limits_changes_nothing,
                an_acknowledged_message_is_gone_for_good,
                a_message_goes_to_one_taker,
                a_message_given_back_is_given_again_and_says_so,
                a_message_given_back_150_times_is_still_given_and_unchanged,
                a_dropped_delivery_is_given_again,
                closing_gives_back_what_was_taken,
                a_delivery_outlives_its_subscription,
                urgent_lanes_come_first,
                take_waits_for_a_later_message,
                a_cancelled_take_loses_nothing,
                a_subscription_reserves_nothing_ahead,
                lanes_are_separate,
                purge_removes_what_waits_and_nothing_else,
                dead_letters_are_put_aside_and_counted,
                notices_reach_everyone_who_listens,
                events_wait_for_their_reader,
                a_cancelled_read_loses_no_event,
                there_is_one_leader_of_a_pipeline,
                looking_who_leads_names_the_leader_and_disturbs_nobody,
                closing_ends_a_leadership,
                a_closed_queue_says_so,
                names_that_cannot_be_queues_are_refused,
            ]
        );
    };
}

conformance_of!(memory, MemorySite::new(), {});
conformance_of!(sqlite, SqliteSite::new(), {});
conformance_of!(unreliable_without_faults, QuietSite::new(), {});
conformance_of!(
    rabbitmq,
    RabbitSite::new(),
    {#[ignore = "needs RabbitMQ: scripts/services/with-broker.sh"]}
);
