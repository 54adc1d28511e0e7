//! One suite of rules for every kind of object store.
//!
//! Memory and local files run always; S3 with `scripts/services/with-s3.sh cargo nextest run -p metad2a-database
//! --run-ignored only -E 'test(s3)'`.
#![expect(clippy::unwrap_used, reason = "the rules are functions of their own, called by the tests")]

mod checkpoints;
mod collecting;
mod commits;
mod going_back;
mod publishing;
mod rows;
mod storage;

use metad2a_database::{Access, Store, random_id};

/// A place that holds no database yet. Keep it as long as its stores are used.
pub(crate) struct Place {
    pub(crate) url: String,
    _folder: Option<tempfile::TempDir>,
}

impl Place {
    fn memory() -> Self {
        Self { url: format!("memory:{}", random_id()), _folder: None }
    }

    fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { url: format!("file:{}", folder.path().join("store").display()), _folder: Some(folder) }
    }

    fn s3() -> Self {
        let bucket = std::env::var("METAD2A_TEST_S3_URL").expect("set by scripts/services/with-s3.sh");
        Self { url: format!("{bucket}/{}", random_id()), _folder: None }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url, Access::ReadWrite).await.unwrap()
    }
}

/// Makes one test of each rule for each kind of store.
macro_rules! suite {
    ($($module:ident::$rule:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() { super::$module::$rule(&super::Place::memory()).await; })+
        }
        mod file {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() { super::$module::$rule(&super::Place::file()).await; })+
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs an S3 server: scripts/services/with-s3.sh"]
            async fn $rule() { super::$module::$rule(&super::Place::s3()).await; })+
        }
    };
}

suite! {
    storage::the_first_of_many_creators_wins,
    storage::what_is_put_is_found_listed_and_removed,
    storage::listing_a_folder_leaves_its_namesakes_out,
    storage::a_long_listing_is_complete,
    storage::a_read_only_store_refuses_every_write,
    storage::a_read_only_store_needs_a_database,
    storage::a_newer_layout_is_refused,
    storage::opening_leaves_only_the_layout_version,
    storage::the_clock_of_the_store_dates_its_objects,
    storage::equal_data_has_one_name,
    storage::damaged_data_is_named_with_its_hash,
    storage::missing_data_is_named,
    commits::one_of_many_executions_wins_a_commit,
    commits::committing_again_is_still_won,
    commits::a_marker_without_its_data_is_refused,
    commits::done_work_is_listed_by_kind,
    commits::the_highest_decision_holds,
    commits::rival_deciders_never_share_a_number,
    commits::only_news_of_decisions_is_read_again,
    commits::a_decision_on_an_outdated_view_is_not_written,
    commits::a_frozen_choice_is_taken_once,
    commits::decisions_of_longer_ids_are_kept_apart,
    commits::a_model_is_loaded_as_it_was_stored,
    commits::weights_that_are_not_the_records_are_refused,
    commits::a_file_of_a_run_is_written_once,
    checkpoints::one_of_many_executions_ends_a_slice,
    checkpoints::the_newest_checkpoints_are_found_with_their_data,
    checkpoints::a_continuation_is_noted_for_its_slice_alone,
    checkpoints::a_checkpoint_without_its_data_is_refused,
    checkpoints::a_record_that_cannot_be_read_is_passed_over_and_keeps_its_number,
    checkpoints::thinning_keeps_the_last_two_and_every_record,
    checkpoints::a_finished_task_leaves_nothing_and_its_neighbours_stay,
    collecting::only_what_nothing_names_is_removed,
    collecting::data_that_is_stored_again_after_it_was_found_stays,
    collecting::a_record_that_cannot_be_read_stops_a_collection,
    collecting::an_examined_store_stays_as_it_was,
    publishing::a_snapshot_holds_every_row_once,
    publishing::a_refresh_adds_to_what_was_published,
    publishing::a_table_may_not_shrink_beyond_its_tolerance,
    publishing::imported_rows_hide_no_loss_of_others_and_may_go,
    publishing::equal_inputs_are_not_published_twice,
    publishing::rival_publishers_make_one_snapshot_of_equal_inputs,
    publishing::rival_publishers_of_other_inputs_follow_each_other,
    publishing::an_old_snapshot_stays_readable,
    publishing::a_broken_rule_publishes_nothing,
    publishing::a_withdrawn_result_leaves_the_next_snapshot,
    publishing::a_model_that_is_not_stored_stops_publication,
    publishing::every_table_survives_a_round_trip,
    going_back::a_whole_snapshot_is_found_whole,
    going_back::every_broken_file_is_named_and_what_refers_to_it_is_not_accused,
    going_back::a_manifest_that_counts_wrong_is_found_out,
    going_back::an_old_snapshot_is_published_again_and_nothing_is_removed,
    going_back::a_snapshot_that_lost_a_file_is_not_gone_back_to,
    going_back::after_a_collection_the_kept_snapshots_are_whole_and_can_be_gone_back_to,
    going_back::a_comparison_counts_rows_and_shared_files,
    going_back::a_comparison_finds_rows_that_say_something_else,
}
